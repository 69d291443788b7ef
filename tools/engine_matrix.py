"""Builds the compatibility matrix from what its tests say: the package's data and the page.

`python tools/engine_matrix.py` says whether both are current, `--write` renews them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from engine_claims import ENGINES, ROOT, ROWS, claims, outcome

from tidegate.models.engine_matrix import Cell, Matrix

DATA = ROOT / "src/tidegate/data/engine_matrix.json"
DOCUMENT = ROOT / "docs/howto/engines.md"
BEGIN, END = "<!-- matrix: begin (make docs) -->", "<!-- matrix: end -->"


def matrix() -> Matrix:
    """What the checks say now. Raises AssertionError where a claim does not hold."""
    found = {(one.engine, one.feature): Cell(outcome(one), one.how) for one in claims()}
    cells = {
        feature: {
            engine: found.get((engine, feature), Cell("unknown", "not tested"))
            for engine in ENGINES
        }
        for feature in ROWS
    }
    return Matrix(engines=ENGINES, features=cells)


def page(table: Matrix) -> str:
    """The matrix as a Markdown table with its evidence below."""
    lines = [
        "| | " + " | ".join(table.engines) + " |",
        "|---" * (len(table.engines) + 1) + "|",
    ]
    notes: list[str] = []
    for feature, cells in table.features.items():
        lines.append(f"| {feature} | " + " | ".join(_shown(cells, notes)) + " |")
    return "\n".join([*lines, "", *(f"{n}. {note}" for n, note in enumerate(notes, 1))]) + "\n"


def _shown(cells: Mapping[str, Cell], notes: list[str]) -> list[str]:
    shown = []
    for cell in cells.values():
        if cell.status == "unknown":
            shown.append("unknown")
            continue
        if cell.how not in notes:
            notes.append(cell.how)
        shown.append(f"{cell.status} [{notes.index(cell.how) + 1}]")
    return shown


def data(table: Matrix) -> bytes:
    """The matrix as the package carries it."""
    return msgspec.json.format(msgspec.json.encode(table), indent=1) + b"\n"


def renewed(text: str, table: Matrix) -> str:
    """`text` with the block between the markers as the tests say."""
    block = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)
    return block.sub(lambda _: f"{BEGIN}\n{page(table)}{END}", text)


def main() -> int:
    """0 where data and page are current or were renewed."""
    table = matrix()
    current = {DATA: data(table), DOCUMENT: renewed(DOCUMENT.read_text(), table).encode()}
    stale = [path for path, wanted in current.items() if _bytes(path) != wanted]
    if "--write" in sys.argv[1:]:
        for path in stale:
            path.write_bytes(current[path])
        return 0
    for path in stale:
        print(f"{path.relative_to(ROOT)} is not what the tests say: run `make docs`")
    return int(bool(stale))


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


if __name__ == "__main__":
    sys.exit(main())
