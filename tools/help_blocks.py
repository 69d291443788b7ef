"""Renews the `--help` texts in README.md, so that what a reader sees is what the command prints.

A block is a marker comment and a fence: the output of `tidegate bench --help` stands below
`<!-- help: tidegate bench -->`. Run plainly, this says whether all are current; `--write` renews.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "README.md"
_BLOCK = re.compile(r"(<!-- help: (tidegate[a-z -]*) -->\n```text\n)(.*?)(```)", re.DOTALL)


def help_text(command: str) -> str:
    """What `COMMAND --help` prints on a plain terminal 88 columns wide."""
    plain = {
        "COLUMNS": "88",
        "TERMINAL_WIDTH": "88",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }
    executable, *arguments = command.split()
    output = subprocess.run(
        [str(Path(sys.executable).with_name(executable)), *arguments, "--help"],
        env=os.environ | plain,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return "\n".join(line.rstrip() for line in output.strip("\n").splitlines()) + "\n"


def commands(text: str) -> list[str]:
    """The commands whose help `text` shows."""
    return [match[2] for match in _BLOCK.finditer(text)]


def renewed(text: str) -> str:
    """`text` with every block as the commands print it now."""
    return _BLOCK.sub(lambda match: match[1] + help_text(match[2]) + match[4], text)


def main() -> int:
    text = DOCUMENT.read_text()
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(renewed(text))
        return 0
    if current := text == renewed(text):
        print("the help texts are current")
    return int(not current)


if __name__ == "__main__":
    sys.exit(main())
