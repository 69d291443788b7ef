"""Measurements against reference values, for every kind of evidence. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidegate.attest.appraisal import Sheet
from tidegate.attest.outcome import CannotVerify, Fail, Outcome, Pass


@dataclass(frozen=True, slots=True)
class Reference:
    """What the measurement called `name` may be. None allowed means that nothing passes."""

    name: str
    allowed: frozenset[bytes]


def check_references(
    sheet: Sheet, references: Sequence[Reference], found: Mapping[str, bytes]
) -> tuple[str, ...]:
    """Note whether each measurement that has a reference is among the allowed values.

    Without any reference nobody can tell what runs there. Returns the names that were not compared.
    """
    sheet.add("measurements are reference values", _compared(references, found))
    named = {reference.name for reference in references}
    return tuple(name for name in found if name not in named)


def _compared(references: Sequence[Reference], found: Mapping[str, bytes]) -> Outcome:
    if not references:
        return CannotVerify("no reference value was handed in, so what runs there is unknown")
    wrong: list[str] = []
    for reference in references:
        value = found.get(reference.name)
        if value is None:
            wrong.append(f"there is no measurement {reference.name}")
        elif value not in reference.allowed:
            wrong.append(f"{reference.name} is {value.hex()}, which is no reference value")
    if wrong:
        return Fail("; ".join(wrong))
    return Pass(", ".join(reference.name for reference in references))
