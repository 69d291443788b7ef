"""Sightings put together for people and machines: merged stretches, JSON, SARIF, and a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from tidegate.record import sarif
from tidegate.scan.sighting import Kind, Sighting

_RULES: Final = {
    Kind.OWN_WEIGHTS: sarif.Rule(
        id=Kind.OWN_WEIGHTS, text="A piece of the owner's own model", level="error"
    ),
    Kind.MODEL_FILE: sarif.Rule(
        id=Kind.MODEL_FILE, text="The header of a format that models are kept in", level="error"
    ),
    Kind.WEIGHTS: sarif.Rule(
        id=Kind.WEIGHTS, text="Numbers laid out as tensors are", level="error"
    ),
    Kind.OPAQUE: sarif.Rule(
        id=Kind.OPAQUE, text="Encrypted, compressed or well quantised bytes", level="warning"
    ),
    Kind.BOMB: sarif.Rule(
        id=Kind.BOMB, text="Wrapped deeper, or unpacking to more, than is followed", level="warning"
    ),
}
GRAVITY: Final = tuple(_RULES)
"""Kinds, gravest first."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What was seen in one stream: a file, or one direction of a conversation."""

    name: str
    size: int
    sightings: tuple[Sighting, ...]
    damage: str = ""


def merged(sightings: Iterable[Sighting]) -> tuple[Sighting, ...]:
    """Neighbours of one kind and wrapping as one, with the explanation of the clearest."""
    told: list[Sighting] = []
    for sighting in sorted(sightings, key=lambda s: (s.layers, s.kind, s.offset)):
        last = told[-1] if told else None
        if last is None or not _touching(last, sighting):
            told.append(sighting)
            continue
        stop = max(last.offset + last.length, sighting.offset + sighting.length)
        clearest = max(last, sighting, key=lambda s: s.score)
        # The first place of the owner's is where the piece begins.
        weight = last.weight if last.weight is not None else clearest.weight
        told[-1] = replace(clearest, offset=last.offset, length=stop - last.offset, weight=weight)
    return tuple(sorted(told, key=lambda s: (s.offset, GRAVITY.index(s.kind))))


def _touching(first: Sighting, then: Sighting) -> bool:
    same = (first.layers, first.kind, first.detector) == (then.layers, then.kind, then.detector)
    return same and then.offset <= first.offset + first.length


def to_json(streams: Sequence[Stream]) -> bytes:
    """One object: streams, each with its sightings."""
    return msgspec.json.format(msgspec.json.encode({"streams": streams}), indent=1)


def to_sarif(streams: Sequence[Stream], artifact: str, version: str) -> bytes:
    """SARIF 2.1.0: a result a sighting, a place such as `NAME/4096-8192`."""
    kinds = [kind for kind in GRAVITY if any(s.kind is kind for x in streams for s in x.sightings)]
    damage = "; ".join(stream.damage for stream in streams if stream.damage)
    return sarif.log(
        tool="tidegate scan",
        version=version,
        rules=[_RULES[kind] for kind in kinds],
        results=[
            sarif.Result(
                rule=sighting.kind,
                level=_RULES[sighting.kind].level or "warning",
                message=sighting.explanation,
                artifact=artifact,
                place=f"{stream.name}/{sighting.offset}-{sighting.offset + sighting.length}",
                properties={"detector": sighting.detector, "layers": list(sighting.layers)},
            )
            for stream in streams
            for sighting in stream.sightings
        ],
        refusal=damage or None,
        artifacts=[artifact],
    )


def picture(stream: Stream, cells: int) -> tuple[Kind | None, ...]:
    """The stream cut into so many cells: the gravest kind seen in each, None where nothing was."""
    shown: list[Kind | None] = [None] * min(cells, max(1, stream.size))
    for sighting in sorted(stream.sightings, key=lambda s: -GRAVITY.index(s.kind)):
        first = sighting.offset * len(shown) // max(1, stream.size)
        last = (sighting.offset + sighting.length - 1) * len(shown) // max(1, stream.size)
        for cell in range(first, min(last + 1, len(shown))):
            shown[cell] = sighting.kind
    return tuple(shown)
