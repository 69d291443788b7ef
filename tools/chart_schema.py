"""Renews the part of the chart's values.schema.json that says what settings there are.

A release's `inner.settings` and `outer.settings` are the sections of `tidegate.config.Settings`,
but for the keys that the chart sets itself. Run plainly, this says whether the file is current;
`--write` renews it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tidegate.config import Settings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "deploy" / "helm" / "tidegate" / "values.schema.json"

_OUTER = (
    *("host", "port", "key_file", "seed_key_file", "ledger"),
    *("lane_ledger", "control", "drain_s"),
)
OWNED = {
    "innerSettings": {
        "Link": ("address", "secret_file"),
        "Lane": ("address", "secret_file"),
        "Inner": ("ledger", "drain_s"),
    },
    "outerSettings": {
        "Link": ("address", "secret_file"),
        "Lane": ("address", "secret_file"),
        "Outer": _OUTER,
        "Record": ("key_file",),
        "SharedLedger": ("urls", "password_file", "holder", "copy_file"),
    },
}
"""What the chart sets, by the half it sets it for and the section's class."""


def renewed(text: str) -> str:
    """The schema with the settings as they are now."""
    schema = json.loads(text)
    kept = {
        name: part for name, part in schema["$defs"].items() if name.partition(".")[0] not in OWNED
    }
    for half in OWNED:
        kept |= _settings(half)
    return json.dumps(schema | {"$defs": kept}, indent=1) + "\n"


def _settings(half: str) -> dict[str, Any]:
    made = Settings.model_json_schema(ref_template=f"#/$defs/{half}.{{model}}")
    parts = made.pop("$defs")
    for section, keys in OWNED[half].items():
        for key in keys:
            del parts[section]["properties"][key]
            parts[section]["required"] = [
                name for name in parts[section].get("required", ()) if name != key
            ]
    named = {f"{half}.{name}": part for name, part in parts.items()}
    return {half: made, **named}


def main() -> int:
    text = DOCUMENT.read_text()
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(renewed(text))
        return 0
    if current := text == renewed(text):
        print("the chart's schema is current")
    return int(not current)


if __name__ == "__main__":
    sys.exit(main())
