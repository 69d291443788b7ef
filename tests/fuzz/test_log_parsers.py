"""Whatever arrives, a parser of the log returns a value or its own error, and never another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from log_world import SIGNER, LogWorld, cosigner

from tidegate.audit.oscal_evidence import EvidenceError
from tidegate.audit.oscal_evidence import read as read_evidence
from tidegate.transparency.cosign import Algorithm, WitnessKey
from tidegate.transparency.entry import parse as parse_entry
from tidegate.transparency.errors import LogError
from tidegate.transparency.note import Verifier, take_apart
from tidegate.transparency.policy import parse as parse_policy
from tidegate.transparency.proof import Proof, prove
from tidegate.transparency.tiles import Tile, entries_of
from tidegate.transparency.witness import AddCheckpoint


def sound() -> dict[str, bytes]:
    """One sound piece of each kind, to be damaged."""
    world = LogWorld(witnesses=1, needed=1)
    world.grow(5)
    note = world.publish().opened.note
    return {
        "note": note.encode(),
        "key": cosigner(0, Algorithm.ML_DSA_44).public.encode().encode(),
        "log key": SIGNER.verifier.encode().encode(),
        "policy": world.policy.encode().encode(),
        "proof": prove(world.log, 2).encode().encode(),
        "request": AddCheckpoint(3, world.log.consistency(3, 5), note).encode(),
        "entry": world.log.entry(0).raw,
        "path": b"tile/entries/x001/234.p/7",
    }


SOUND = sound()
PARSERS: dict[str, Callable[[bytes], object]] = {
    "note": lambda raw: take_apart(raw.decode("latin-1")),
    "cosigned": lambda raw: cosigner(0).public.find(raw.decode("latin-1")),
    "key": lambda raw: WitnessKey.parse(raw.decode("latin-1")),
    "log key": lambda raw: Verifier.parse(raw.decode("latin-1")),
    "policy": lambda raw: parse_policy(raw.decode("latin-1")),
    "proof": lambda raw: Proof.parse(raw.decode("latin-1")),
    "request": AddCheckpoint.parse,
    "entry": lambda raw: parse_entry(raw, 0),
    "path": lambda raw: Tile.parse(raw.decode("latin-1")),
    "bundle": lambda raw: entries_of(raw, 3),
    "evidence": lambda raw: read_evidence("f", raw),
}


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound piece with some bytes changed, dropped or doubled."""
    raw = bytearray(draw(st.sampled_from(sorted(SOUND.values()))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(raw) - 1)))
        match draw(st.integers(0, 2)):
            case 0:
                raw[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del raw[at : at + draw(st.integers(1, 40))]
            case _:
                raw[at:at] = raw[at : at + draw(st.integers(1, 40))]
    return bytes(raw)


@pytest.mark.parametrize("name", sorted(PARSERS))
@given(raw=st.one_of(st.binary(max_size=300), damaged()))
@example(raw=b"\n\n\n")
@example(raw="— \n".encode())
@example(raw=b"[" * 5_000)
@example(raw=b'{"body":' * 5_000 + b"}")
def test_a_parser_returns_or_refuses(name: str, raw: bytes) -> None:
    try:
        PARSERS[name](raw)
    except (LogError, EvidenceError):
        return
