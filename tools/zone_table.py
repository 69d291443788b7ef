"""Builds the zone table of docs/architecture.md from the packages' docstrings.

`python tools/zone_table.py` says whether the table is current, `--write` renews it.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
DOCUMENT = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- zone table: begin (make docs) -->", "<!-- zone table: end -->"
FIELDS = ("Does", "Zone", "Trusts", "If owned")
ZONES = {"inner", "outer", "verifier", "owner", "lab", "any"}


@dataclass(frozen=True, slots=True)
class Room:
    """What one package's docstring says of it."""

    name: str
    does: str
    zone: str
    trusts: str
    if_owned: str


def packages() -> list[Path]:
    """Every package's `__init__.py`, in the order of the table."""
    return sorted(SOURCE.glob("tidegate/**/__init__.py"))


def room(path: Path) -> Room:
    """Read one package's four lines; raises ValueError naming what is missing or wrong."""
    name = ".".join(path.parent.relative_to(SOURCE).parts)
    docstring = inspect.cleandoc(ast.get_docstring(ast.parse(path.read_text())) or "")
    paragraphs = docstring.split("\n\n")
    pattern = "\n".join(f"{field}: (.+)" for field in FIELDS)
    found = [match for text in paragraphs[1:] if (match := re.fullmatch(pattern, text))]
    if len(found) != 1:
        raise ValueError(f"{name}: the docstring needs one paragraph of the lines {FIELDS}")
    does, zone, trusts, if_owned = found[0].groups()
    if unknown := set(zone.split(", ")) - ZONES:
        raise ValueError(f"{name}: unknown zones {sorted(unknown)}")
    return Room(name, does, zone, trusts, if_owned)


def table() -> str:
    """The Markdown table, one row a package."""
    rows = ["| package | zone | does | trusts | if owned |", "|---|---|---|---|---|"]
    rows += [
        f"| `{entry.name}` | {entry.zone} | {entry.does} | {entry.trusts} | {entry.if_owned} |"
        for entry in map(room, packages())
    ]
    return "\n".join(rows) + "\n"


def renewed(text: str) -> str:
    """The document with the table of now between its markers."""
    head, found_begin, rest = text.partition(BEGIN + "\n")
    _, found_end, tail = rest.partition(END)
    if not (found_begin and found_end):
        raise ValueError("docs/architecture.md has lost the markers of its zone table")
    return head + BEGIN + "\n" + table() + END + tail


def main() -> int:
    text = DOCUMENT.read_text()
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(renewed(text))
        return 0
    if current := text == renewed(text):
        print("the zone table is current")
    return int(not current)


if __name__ == "__main__":
    sys.exit(main())
