"""A scenario as the TOML that `scenario.read` reads back to an equal value."""

from __future__ import annotations

import json

from tidegate.plan.fields import FIELDS, SECTIONS, names_of
from tidegate.plan.scenario import Quantity, Scenario


def to_toml(scenario: Scenario) -> str:
    """The document; values in base units, defaults left out."""
    lines = [f"title = {_text(scenario.title)}", f"about = {_text(scenario.about)}"]
    for section in SECTIONS:
        rows = [
            f"{name} = {_quantity(f'{section}.{name}', scenario.values[f'{section}.{name}'])}"
            for name in names_of(section)
            if f"{section}.{name}" in scenario.values and scenario.values[f"{section}.{name}"].given
        ]
        if rows:
            lines += ["", f"[{section}]", *rows]
    return "\n".join(lines) + "\n"


def _quantity(name: str, quantity: Quantity) -> str:
    unit = FIELDS[name].dimension.base
    return (
        f"{{ value = {quantity.value!r}, unit = {_text(unit)}, "
        f"range = [{quantity.low!r}, {quantity.high!r}], source = {_text(quantity.source)} }}"
    )


def _text(text: str) -> str:
    # JSON's strings are TOML's, but for DEL, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
