"""Renews what the packaged capacity profiles say was measured by `tidegate bench capacity`.

`tidegate bench capacity --json > out/bench-capacity.json`, on a quiet machine, then
`python tools/capacity_profiles.py out/bench-capacity.json`. Only values whose source is that bench
are replaced; everything else in the files stays as it is, comments and order too.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tidegate.plan.capacity_profile import measured, read

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "src" / "tidegate" / "data" / "capacity"
_SOURCE = "measured: tidegate bench capacity"


def renewed(text: str, raw: bytes) -> str:
    """A profile's text with the figures of a bench, to four digits."""
    for path, given in measured(raw, "bench").items():
        key = path.partition(".")[2]
        line = re.compile(
            rf'^({key} = \{{ value = )[^,]+(, .*source = "{re.escape(_SOURCE)}[^"]*" \}})$', re.M
        )
        text = line.sub(rf"\g<1>{given.value:.4g}\g<2>", text)
    read(text, "the renewed profile")
    return text


def main(bench: Path) -> None:
    for path in sorted(FOLDER.glob("*.toml")):
        path.write_text(renewed(path.read_text(encoding="utf-8"), bench.read_bytes()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
