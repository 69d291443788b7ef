"""A scenario: what is guarded, by what, against whom; every value with unit, range and source.

    [model]
    parameters = { value = 1, unit = "trillion parameters", range = [1, 2], source = "assumed: …" }

`range` holds the least and the most that anybody at the table would argue for; both ends alike say
that the value is a choice, not a guess. `source` begins with `measured:` (the command), `cited:`
(where) or `assumed:` (why).
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn

import msgspec

from tidegate.errors import ConfigError
from tidegate.plan.fields import FIELDS, SECTIONS, Default, Field, names_of

SOURCES: Final = ("measured: ", "cited: ", "assumed: ")
"""How a source begins."""


class ScenarioError(ConfigError):
    """A scenario is malformed: details name the `field` and what would be `valid`."""

    code = "scenario_error"


class Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One value as a scenario writes it."""

    value: float
    unit: str
    range: tuple[float, float]
    source: str


class Quantity(msgspec.Struct, frozen=True):
    """One value in its base unit (`Field.dimension.base`). `given`: in the scenario, not a default.

    `value` is taken for the median: half the draws lie below it, half above, none beyond the range.
    """

    value: float
    low: float
    high: float
    source: str
    given: bool = True

    @property
    def open(self) -> bool:
        """Whether there is anything to argue about."""
        return self.low < self.high


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    about: str = ""


class Scenario(msgspec.Struct, frozen=True):
    """A checked scenario. `values` has every name of `FIELDS`, but for optional ones left out."""

    title: str
    about: str
    values: dict[str, Quantity]

    def at(self, name: str) -> float:
        """The point value of a field that is there."""
        return self.values[name].value

    def without(self, name: str) -> Scenario:
        """The scenario without an optional value."""
        rest = {key: quantity for key, quantity in self.values.items() if key != name}
        return msgspec.structs.replace(self, values=rest)

    def having(self, **changes: Quantity) -> Scenario:
        """The scenario with values replaced; `__` stands for the dot of a name."""
        named = {name.replace("__", "."): quantity for name, quantity in changes.items()}
        return msgspec.structs.replace(self, values=self.values | named)

    def pinned(self) -> Scenario:
        """The scenario with every range closed on its value."""
        closed = {name: exactly(q.value, q.source, q.given) for name, q in self.values.items()}
        return msgspec.structs.replace(self, values=closed)


def exactly(value: float, source: str, given: bool = True) -> Quantity:
    """A value that is a choice: its range is itself."""
    return Quantity(value, value, value, source, given)


def read(text: str, name: str) -> Scenario:
    """Parse and check a scenario; `name` is how messages call the file.

    Raises:
        ScenarioError: not TOML; a key missing or unknown; a value, unit, range or source that
            cannot be; two values that contradict each other.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{name} is not TOML: {error}", file=name) from error
    head = {key: value for key, value in document.items() if not isinstance(value, dict)}
    sections = {key: value for key, value in document.items() if isinstance(value, dict)}
    told = _converted(head, _Head, "", name)
    for section in sections:
        if section not in SECTIONS:
            _unknown(section, SECTIONS, f"[{section}]", name)
    values = dict(_values(sections, name))
    _agree(values, name)
    return Scenario(told.title, told.about, values)


def _values(sections: Mapping[str, Mapping[str, Any]], name: str) -> Iterator[tuple[str, Quantity]]:
    for section in SECTIONS:
        there = sections.get(section, {})
        for key in there:
            if key not in names_of(section):
                _unknown(key, names_of(section), f"{section}.{key}", name)
        for key in names_of(section):
            path = f"{section}.{key}"
            field = FIELDS[path]
            if key in there:
                yield path, _quantity(there[key], field, path, name)
            elif field.default is not None:
                yield path, _standing(field.default)
            elif not field.optional:
                _refuse(path, "is missing", _example(field), name)


def _standing(default: Default) -> Quantity:
    return Quantity(default.value, default.low, default.high, default.source, given=False)


def _quantity(raw: object, field: Field, path: str, name: str) -> Quantity:
    if not isinstance(raw, dict):
        _refuse(path, "is a bare value, without unit, range and source", _example(field), name)
    written = _converted(raw, Written, path, name)
    if written.unit not in field.dimension.factors:
        units = ", ".join(field.dimension.factors)
        _refuse(f"{path}.unit", f'"{written.unit}" is no unit of it', f"one of {units}", name)
    if not written.source.startswith(SOURCES) or written.source.strip() in map(str.strip, SOURCES):
        said = 'text after "measured: " (the command), "cited: " (where) or "assumed: " (why)'
        _refuse(f"{path}.source", "does not say where the value comes from", said, name)
    low, high = written.range
    ends = (written.value, low, high)
    if not all(map(math.isfinite, ends)) or not low <= written.value <= high:
        said = f"[least, most] with {written.value:g} between them"
        _refuse(f"{path}.range", f"[{low:g}, {high:g}] does not hold the value", said, name)
    value, least, most = (field.dimension.to_base(end, written.unit) for end in ends)
    for end, where in ((value, "value"), (least, "range"), (most, "range")):
        if end < field.least or end > field.most or (field.above and end <= field.least):
            shown = f"{end:g} {field.dimension.base} cannot be"
            _refuse(f"{path}.{where}", shown, field.valid(), name)
    return Quantity(value, least, most, written.source)


def _agree(values: Mapping[str, Quantity], name: str) -> None:
    """Refuse values that contradict each other."""
    caps = [path for path in ("link.cap", "link.headroom") if path in values]
    if len(caps) != 1:
        said = "both are there" if caps else "neither is there"
        valid = "link.cap for a cap that is a number, or link.headroom for one above honest use"
        _refuse(
            "link.cap and link.headroom", f"are two ways to say one thing, and {said}", valid, name
        )
    at = {path: quantity.value for path, quantity in values.items()}
    if at["verification.audit_rate"] == 0 and at["verification.residual"] < 1:
        valid = "an audit_rate above 0, or a residual of 1: what nobody verifies, all passes"
        _refuse(
            "verification.residual", "is below 1 while verification.audit_rate is 0", valid, name
        )
    if at["link.bits_per_token"] > at["link.raw_bits"] + 1e-9:
        valid = f"at most link.raw_bits ({at['link.raw_bits']:g} bits/token)"
        _refuse("link.bits_per_token", "is more than a token can say", valid, name)
    if "link.cap" in values:
        honest = outside_tokens(at) * at["link.bits_per_token"]
        if at["link.cap"] < honest * (1 - 1e-9):
            valid = f"at least {honest:.6g} bits/day, or fewer tokens or bits a token"
            _refuse("link.cap", f"({at['link.cap']:.6g} bits/day) is below honest use", valid, name)


def outside_tokens(at: Mapping[str, Any]) -> Any:
    """Tokens a day that leave, from values (or arrays of them) by name."""
    written = at["traffic.tokens"] * at["traffic.output_share"] / at["traffic.drafts"]
    inside = at["zones.internal_share"] * (1 - at["zones.internal_escapes"])
    return written * (1 - at["traffic.reasoning_inside"]) * (1 - inside)


def _converted(raw: object, kind: type[Any], path: str, name: str) -> Any:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        told = str(error)
        at = re.search(r" - at `\$\.?([^`]*)`", told)
        where = ".".join(part for part in (path, at[1] if at else "") if part)
        wrong = told.split(" - at ")[0]
        fields = kind.__struct_fields__
        if key := re.search(r"unknown field `([^`]*)`", wrong):
            _unknown(key[1], fields, f"{where}.{key[1]}" if where else key[1], name)
        valid = _example(FIELDS[path]) if path else 'title = "…" and, if you like, about = "…"'
        if key := re.search(r"required field `([^`]*)`", wrong):
            _refuse(f"{where}.{key[1]}" if where else key[1], "is missing", valid, name)
        _refuse(where or "the file", f"does not fit ({wrong})", valid, name)


def _example(field: Field) -> str:
    base = field.dimension.base
    return (
        f'{{ value = …, unit = "{base}", range = [least, most], source = "assumed: why" }}, '
        f"{field.valid()}: {field.means}"
    )


def _unknown(key: str, known: Iterable[str], path: str, name: str) -> NoReturn:
    choices = tuple(known)
    near = difflib.get_close_matches(key, choices, 1)
    hint = f"{near[0]}, or another of " if near else "one of "
    _refuse(path, "is not known", hint + ", ".join(choices), name)


def _refuse(field: str, wrong: str, valid: str, name: str) -> NoReturn:
    raise ScenarioError(
        f"{name}: {field} {wrong}. Valid: {valid}.", file=name, field=field, valid=valid
    )
