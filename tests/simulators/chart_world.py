"""What Helm makes of values, in a process of its own: its engine brings Go's runtime along.

All that a module asks for is worked out at once, since starting the engine takes most of the time.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import chart
import yaml

Values = dict[str, Any]
LEAST: Values = yaml.safe_load((chart.CASES / "least.yaml").read_text())
EVERYTHING: Values = yaml.safe_load((chart.CASES / "everything.yaml").read_text())


def changed(values: Values, path: str, value: object) -> Values:
    """A copy with the value at a dotted path replaced."""
    fresh = copy.deepcopy(values)
    *folders, last = path.split(".")
    at = fresh
    for folder in folders:
        at = at.setdefault(folder, {})
    at[last] = value
    return fresh


class Helm:
    """Answers for the values that it was made with."""

    def __init__(self, cases: Iterable[Values]) -> None:
        keys = sorted({json.dumps(values, sort_keys=True) for values in cases})
        told = subprocess.run(
            [sys.executable, chart.__file__, "json"],
            input=f"[{','.join(keys)}]",
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        self._told = dict(zip(keys, json.loads(told), strict=True))

    def objects(self, values: Values) -> list[dict[str, Any]]:
        """Every object; the values have to be taken."""
        told = self._told[json.dumps(values, sort_keys=True)]
        assert not isinstance(told, str), told
        return copy.deepcopy(told)

    def refusal(self, values: Values) -> str:
        """Why the values are refused, which they have to be."""
        told = self._told[json.dumps(values, sort_keys=True)]
        assert isinstance(told, str)
        return told
