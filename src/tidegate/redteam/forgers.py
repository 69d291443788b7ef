"""Attackers who own the disk, or the record's key, and change what the record says.

What they hide is an answer that was coded in full. The verifier keeps checkpoints elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.clock import ManualClock
from tidegate.redteam.lab import Honest, serve
from tidegate.redteam.machines import MarkovModel
from tidegate.redteam.outer import ORIGIN, Outer, named, stack_of
from tidegate.redteam.results import Result
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService
from tidegate.transparency.note import Checkpoint, Signer
from tidegate.verify.checkpoint import Kept, advance, compare, open_note
from tidegate.verify.record_findings import Finding, Kind
from tidegate.verify.record_lines import NoteLine, parse_line, pieces
from tidegate.verify.record_reader import Reader
from tidegate.verify.record_response import Response
from tidegate.verify.record_seal import open_private
from tidegate.verify.record_store_memory import MemoryStore
from tidegate.verify.record_writer import Writer

RECORD = "record"
_ANSWERS, _MOST = 4, 16
_VOCABULARY = 1024


def _outer(run: str) -> Outer:
    outer, model = Outer(MarkovModel(), run), MarkovModel()
    jobs = [
        outer.ask((5, 6, 7 + place), SamplingParams(), _MOST, f"client {run}")
        for place in range(_ANSWERS)
    ]
    serve(outer, model, jobs, Honest(model.vocab_size))
    outer.close()
    return outer


def _copy(store: MemoryStore) -> MemoryStore:
    copied = MemoryStore()
    copied.data = {segment: bytearray(data) for segment, data in store.data.items()}
    return copied


def _notes(store: MemoryStore) -> list[str]:
    lines = (
        parse_line(piece.data) for segment in store.segments() for piece in pieces(store, segment)
    )
    return [line.note for line in lines if isinstance(line, NoteLine)]


def _last(outer: Outer, store: MemoryStore) -> Kept:
    kept = open_note(_notes(store)[-1], outer.signer.verifier)
    if isinstance(kept, Finding):
        raise TypeError(kept.reason)
    return kept


def _found(outer: Outer, store: MemoryStore, kept: Iterable[Checkpoint]) -> set[Kind]:
    reader = Reader(store, outer.signer.verifier, kept=kept)
    items = [*reader.read(), *reader.finish()]
    return {item.kind for item in items if isinstance(item, Finding)}


def rollback() -> Result:
    """Puts back the record as it was before an answer that must not be seen."""
    outer = _outer("rollback")
    before = _copy(outer.store)
    job = outer.ask((5, 6, 99), SamplingParams(), _MOST)
    serve(outer, MarkovModel(), [job], Honest(_VOCABULARY))
    outer.close()
    kinds = _found(outer, before, [_last(outer, outer.store).checkpoint])
    return _result(
        "log_rollback",
        "puts an older copy of the record in its place",
        Kind.ROLLBACK in kinds,
        hidden=len(job.tokens),
        tried=1,
    )


def split_view() -> Result:
    """Signs two records of one length: one for the verifier, one for whoever keeps checkpoints."""
    outer, other = _outer("shown"), _outer("hidden")
    one, two = _last(outer, outer.store), _last(other, other.store)
    ways = [
        Kind.SPLIT_VIEW in _found(outer, outer.store, [two.checkpoint]),
        isinstance(compare(one, two), Finding),
        isinstance(advance(one, two.note, (), outer.signer.verifier), Finding),
    ]
    return _result(
        "split_view",
        "shows one signed record to the verifier and another to a witness",
        all(ways),
        hidden=sum(len(job.tokens) for job in other.jobs),
        tried=len(ways),
    )


def rewritten() -> Result:
    """Writes the record again without an answer: with another key, and with the right one."""
    outer = _outer("rewritten")
    kept = [_last(outer, outer.store).checkpoint]
    stranger = Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(named("stranger")))
    ways = []
    for signer, wanted in ((stranger, Kind.FORGED_CHECKPOINT), (outer.signer, Kind.ROLLBACK)):
        again = MemoryStore()
        Writer(again, signer, ManualClock(), stack_of(MarkovModel())).sign()
        ways.append(wanted in _found(outer, again, kept))
    return _result(
        "rewritten_log",
        "writes the record again without some answers, with and without its key",
        all(ways),
        hidden=sum(len(job.tokens) for job in outer.jobs),
        tried=len(ways),
    )


def chosen_seed() -> Result:
    """Records a seed that was chosen, not derived, so that chosen tokens would replay."""
    outer = _outer("chosen seed")
    # The attacker grinds seeds outside the service; the verifier derives with the real key.
    outer.seeds = SeedService(named("another key"))
    job = outer.ask((5, 6, 99), SamplingParams(), _MOST)
    serve(outer, MarkovModel(), [job], Honest(_VOCABULARY))
    outer.close()
    reader = Reader(outer.store, outer.signer.verifier)
    answers = [item for item in reader.read() if isinstance(item, Response)]
    seeds = SeedService(named("seeds chosen seed"))
    found = [open_private(each.begin, each.number, None, seeds) for each in answers]
    wrong = [item.response for item in found if isinstance(item, Finding)]
    return _result(
        "chosen_seed",
        "draws an answer from a seed of its own choice, and records that one",
        wrong == [job.number],
        hidden=len(job.tokens),
        tried=1,
    )


def _result(attack: str, says: str, caught: bool, *, hidden: int, tried: int) -> Result:
    # While nobody looks at them, tokens may say whatever they like: all of it was received.
    bits = hidden * math.log2(_VOCABULARY)
    return Result(
        attack=attack,
        world=RECORD,
        says=says,
        tokens=hidden,
        bits_sent=bits,
        bits_received=bits,
        caught_by="record's reader" if caught else None,
        tokens_to_alarm=0.0 if caught else None,
        runs=1,
        got=bits,
        bound="unverified tokens",
        bound_bits=bits,
        within_bound=True,
        must_catch=True,
        note=f"{tried} way{'s' if tried > 1 else ''} of looking; found when the record is read",
    )


FORGERIES: dict[str, Callable[[], Result]] = {
    "log_rollback": rollback,
    "split_view": split_view,
    "rewritten_log": rewritten,
    "chosen_seed": chosen_seed,
}
