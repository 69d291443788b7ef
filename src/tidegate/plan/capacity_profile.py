"""A profile: what a deployment's tokens cost at each stage, every value with unit and source.

title = "…"
[stage]
encode_49k_us = { value = 137, unit = "core·µs/token", source = "measured: tidegate bench …" }
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tidegate.plan.scenario import SOURCES, ScenarioError


class Kind(msgspec.Struct, frozen=True):
    """One value's unit, least and meaning. `zero`: it may be nought."""

    unit: str
    means: str
    zero: bool = False
    most: float = math.inf


_US = "core·µs/token"
VALUES: Final[Mapping[str, Kind]] = {
    "workload.answer_tokens": Kind("tokens/answer", "length of an answer"),
    "workload.prompt_tokens": Kind("tokens/answer", "length of a prompt"),
    "workload.peak": Kind("ratio", "busiest minute over the mean"),
    "workload.utilisation": Kind("share", "how busy machines may be at the peak", most=1.0),
    "workload.token_seconds": Kind("s/token", "between two tokens of one answer"),
    "workload.audit": Kind("share", "of tokens that are re-executed", zero=True, most=1.0),
    "workload.record_days": Kind("days", "how long the record is kept", zero=True),
    "workload.vocabulary": Kind("tokens", "of the strong model"),
    "engine.decode_tokens_per_s": Kind("tokens/s/GPU", "written by one accelerator, all streams"),
    "engine.prefill_tokens_per_s": Kind("tokens/s/GPU", "of prompts read by one accelerator"),
    "engine.verify_over_generate": Kind("ratio", "time to re-execute over time to generate"),
    "engine.weak_over_strong": Kind("ratio", "accelerator time of the weak model", zero=True),
    "stage.pick_49k_us": Kind(_US, "filters, noise and choice, V = 49,152"),
    "stage.pick_152k_us": Kind(_US, "the same, V = 151,936"),
    "stage.encode_49k_us": Kind(_US, "coding inside, V = 49,152"),
    "stage.encode_152k_us": Kind(_US, "the same, V = 151,936"),
    "stage.decode_49k_us": Kind(_US, "decoding and replay outside, V = 49,152"),
    "stage.decode_152k_us": Kind(_US, "the same, V = 151,936"),
    "stage.score_49k_us": Kind(_US, "scoring a re-executed token, V = 49,152"),
    "stage.score_152k_us": Kind(_US, "the same, V = 151,936"),
    "stage.ngram_us": Kind(_US, "the n-gram's part of outer_token_us"),
    "stage.weak_us": Kind(_US, "this profile's weak model on processors, each end", zero=True),
    "stage.inner_link_us": Kind(_US, "link, frames and ledger inside", zero=True),
    "stage.outer_token_us": Kind(_US, "all of the outer half, V = 49,152 and the n-gram"),
    "stage.outer_answer_us": Kind("core·µs/answer", "the outer half, for an answer's ends", True),
    "stage.scan_mb_per_s": Kind("MB/s/core", "answers looked at"),
    "bytes.text": Kind("bytes/token", "of answers' text"),
    "bytes.link_bits": Kind("bits/token", "that cross the link, padding and frames included"),
    "bytes.inward_token": Kind("bytes/token", "into the inner half for a step", zero=True),
    "bytes.inward_prompt_token": Kind("bytes/token", "into it for a token of a prompt", zero=True),
    "bytes.record_token": Kind("bytes/token", "of the record", zero=True),
    "bytes.record_answer": Kind("bytes/answer", "of the record", zero=True),
    "ledger.lease_bits": Kind("bits", "of a lease on a shared ledger"),
    "ledger.own_lease_bits": Kind("bits", "of a lease on a ledger of one's own"),
    "ledger.lease_rows": Kind("rows/lease", "appended for a lease's renewal"),
    "ledger.row_bytes": Kind("bytes/row", "of the ledger"),
    "ledger.writes_per_s": Kind("writes/s", "what one database takes"),
}
"""Every value of a profile, all of which have to be there."""


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One value as a profile writes it."""

    value: float
    unit: str
    source: str


class Profile(msgspec.Struct, frozen=True):
    """A checked profile."""

    title: str
    about: str
    values: dict[str, Given]

    def at(self, name: str) -> float:
        """One value."""
        return self.values[name].value

    def having(self, changes: Mapping[str, Given]) -> Profile:
        """The profile with values replaced, which are checked. Raises ScenarioError."""
        for name, given in changes.items():
            _check(name, given, "the change")
        return msgspec.structs.replace(self, values=self.values | dict(changes))

    def sources(self) -> dict[str, int]:
        """How many values were measured, cited and assumed."""
        said = [given.source for given in self.values.values()]
        return {kind.strip(": "): sum(s.startswith(kind) for s in said) for kind in SOURCES}


def read(text: str, name: str) -> Profile:
    """Parse and check a profile; `name` is how messages call the file.

    Raises:
        ScenarioError: not TOML; a value missing, unknown, without source, or one that cannot be.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{name} is not TOML: {error}", file=name) from error
    title, about = document.pop("title", ""), document.pop("about", "")
    found: dict[str, Given] = {}
    for section, keys in document.items():
        if not isinstance(keys, dict):
            raise ScenarioError(f"{name}: {section} is no section", file=name, field=section)
        for key, raw in keys.items():
            path = f"{section}.{key}"
            if path not in VALUES:
                near = difflib.get_close_matches(path, VALUES, 1)
                hint = f"; is {near[0]} meant?" if near else ""
                raise ScenarioError(f"{name}: {path} is not known{hint}", file=name, field=path)
            found[path] = _check(path, _given(raw, path, name), name)
    if missing := [path for path in VALUES if path not in found]:
        raise ScenarioError(f"{name}: {missing[0]} is missing", file=name, field=missing[0])
    return Profile(str(title), str(about), {path: found[path] for path in VALUES})


def changed(assignments: list[str]) -> dict[str, Given]:
    """Values of `NAME=NUMBER`, each said to be the user's. Raises ScenarioError."""
    found = {}
    for text in assignments:
        name, _, number = text.partition("=")
        if name not in VALUES:
            near = difflib.get_close_matches(name, VALUES, 1)
            hint = f"; is {near[0]} meant?" if near else ""
            raise ScenarioError(f"--set {text}: {name} is not known{hint}", field=name)
        try:
            value = float(number)
        except ValueError as error:
            raise ScenarioError(f"--set {text}: wants NAME=NUMBER", field=name) from error
        found[name] = Given(value, VALUES[name].unit, "assumed: given on the command line")
    return found


def measured(raw: bytes, name: str) -> dict[str, Given]:
    """What `tidegate bench capacity --json` printed, by the values' names. Raises ScenarioError."""
    try:
        told = msgspec.json.decode(raw, type=_Bench)
    except msgspec.MsgspecError as error:
        raise ScenarioError(f"{name} is not what a bench printed: {error}", file=name) from error
    places = {path.partition(".")[2]: path for path in VALUES} | _ELSEWHERE
    return {
        places[key]: Given(figure.value, figure.unit, f"measured: tidegate bench capacity ({name})")
        for key, figure in told.figures.items()
        if key in places
    }


_ELSEWHERE: Final = {
    "link_bits": "bytes.link_bits",
    "record_token_bytes": "bytes.record_token",
    "record_answer_bytes": "bytes.record_answer",
    "ledger_row_bytes": "ledger.row_bytes",
}


class _Measure(msgspec.Struct, frozen=True):
    value: float
    unit: str


class _Bench(msgspec.Struct, frozen=True):
    figures: dict[str, _Measure]


def _given(raw: Any, path: str, name: str) -> Given:
    try:
        return msgspec.convert(raw, Given)
    except msgspec.ValidationError as error:
        wanted = f'{{ value = …, unit = "{VALUES[path].unit}", source = "assumed: why" }}'
        raise ScenarioError(f"{name}: {path} wants {wanted}", file=name, field=path) from error


def _check(path: str, given: Given, name: str) -> Given:
    kind = VALUES[path]
    if given.unit != kind.unit:
        wrong = f"is in {kind.unit}, not in {given.unit}"
    elif not math.isfinite(given.value) or given.value > kind.most or given.value < 0:
        wrong = f"cannot be {given.value:g}"
    elif given.value == 0 and not kind.zero:
        wrong = "has to be above 0"
    elif not given.source.startswith(SOURCES) or not given.source.partition(": ")[2].strip():
        wrong = 'does not say where it comes from: "measured: ", "cited: " or "assumed: "'
    else:
        return given
    raise ScenarioError(f"{name}: {path} ({kind.means}) {wrong}", file=name, field=path)
