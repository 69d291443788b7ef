"""T1: re-execution with the weights, at positions the prover could not foresee.

The engine is exact, so the comparison is equality: of tokens, of the stop, and, where the trace's
hashes are at hand, of every product at the positions looked at.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from tidegate.errors import EngineError, ModelError
from tidegate.models.cache import Progress, no_progress
from tidegate.models.exact.ops import Linear, Rows
from tidegate.models.exact.parameters import Parameters
from tidegate.models.exact.shape import HEAD, Shape
from tidegate.prove import receipt
from tidegate.prove.answer import Answer, Detokenise, Stated
from tidegate.prove.merkle import HASH_BYTES
from tidegate.prove.passes import OpsOf, Passes
from tidegate.prove.receipt import Subject
from tidegate.prove.statement import Statement
from tidegate.prove.tiers import Tier
from tidegate.prove.trace import BLOCK, Layout, Read, hash_at, position_leaf, row_hash, trace_root
from tidegate.prove.verdict import (
    CannotVerify,
    Fail,
    FoundError,
    Pass,
    Place,
    UnverifiableError,
    Verdict,
)
from tidegate.transparency.note import Verifier

_TIER = Tier.REPLAY


def selected(secret: bytes, note: str, count: int, share: float) -> list[int]:
    """Which of `count` things to look at, ascending: a share of them, at least one.

    Whoever does not know the verifier's secret learns nothing of the choice from the note, and
    whoever wrote the note could not fit it to the choice.
    """

    def rank(number: int) -> bytes:
        text = number.to_bytes(8, "little") + note.encode()
        return hashlib.blake2b(text, key=secret, person=b"tidegate.prc.v1").digest()

    wanted = min(count, max(1, math.ceil(share * count)))
    return sorted(sorted(range(count), key=rank)[:wanted])


class _Hashing:
    """`ops.Linear` that hashes what a wrapped one answers at some positions."""

    def __init__(self, linear: Linear, shape: Shape, wanted: Iterable[int]) -> None:
        self._linear = linear
        self._products = shape.products()
        self._rows: list[tuple[int, int]] = []
        self._heads: list[tuple[int, int]] = []
        self._hashes: dict[int, list[bytes]] = {position: [] for position in wanted}

    def begin(self, rows: Rows) -> None:
        """See `ops.Linear.begin`."""
        self._linear.begin(rows)
        self._rows = [
            (row, position)
            for row, position in enumerate(rows.position_N.tolist())
            if position in self._hashes
        ]
        positions = rows.position_N[rows.last_L].tolist()
        self._heads = [(row, p) for row, p in enumerate(positions) if p in self._hashes]

    def multiply(self, layer: int, op: str, q_NK: Any) -> Any:
        """See `ops.Linear.multiply`."""
        acc_NO = self._linear.multiply(layer, op, q_NK)
        for row, position in self._heads if op == HEAD else self._rows:
            self._hashes[position].append(row_hash(acc_NO[row]))
        return acc_NO

    def compare(self, position: int, committed: bytes) -> None:
        """Raise FoundError at the first product that was committed to otherwise."""
        for number, ours in enumerate(self._hashes[position]):
            if ours != hash_at(committed, number):
                layer, op = self._products[number]
                where = Place(part="product", token=position, layer=layer, op=op)
                raise FoundError(where, "running it again gives another product")


def replay(
    note: str,
    hashes: Read | None,
    statement: Statement,
    trusted: Verifier,
    *,
    subject: Subject,
    parameters: Parameters,
    linear: Linear,
    ops_of: OpsOf,
    eos_ids: frozenset[int],
    detokenise: Detokenise,
    share: float,
    secret: bytes,
    progress: Progress = no_progress,
) -> Verdict:
    """Run a statement again with the weights behind `linear`, and compare a share of its tokens.

    `hashes` are those of the trace; None compares tokens alone. `secret` has 16 to 64 bytes.
    """
    shape = parameters.shape
    layout = Layout(shape, len(statement.request.prompt_ids), len(statement.tokens))
    chosen = selected(secret, note, len(statement.tokens), share)
    stated = Stated(statement, Answer(statement.request, shape.vocab_size, eos_ids, detokenise))
    try:
        # 1. The receipt, as T0 checks it.
        opened = receipt.open_receipt(note, trusted)
        receipt.compare(opened, statement)
        if names := receipt.differing(opened, subject):
            raise UnverifiableError(
                f"these are not the receipt's weights: other {', '.join(names)}"
            )
        stated.require_tokens(shape.vocab_size, shape.context_length)
        # 2. That the hashes are those which were committed to.
        committed = None if hashes is None else _committed(hashes, opened.trace, layout)
        # 3. Another run, compared at the chosen positions.
        hashing = _Hashing(linear, shape, [place + layout.prompt - 1 for place in chosen])
        passes = Passes(parameters, hashing, ops_of, layout.positions)
        _run(passes, hashing, stated, statement, chosen, committed, progress)
    except FoundError as found:
        return Fail(tier=_TIER, place=found.place, reason=found.reason)
    except UnverifiableError as error:
        return CannotVerify(tier=_TIER, reason=error.message)
    except (ModelError, EngineError) as error:
        return CannotVerify(tier=_TIER, reason=f"the engine cannot run this: {error}")
    count = len(statement.tokens)
    missed = 1 - len(chosen) / count
    products = "tokens" if committed is None else "tokens and all their products"
    return Pass(
        tier=_TIER,
        error_log2=math.log2(missed) if missed else -math.inf,
        coverage=(
            f"{len(chosen)} of {count} {products}, equal bit for bit, and the stop; the bound is "
            "for one wrong token"
        ),
        limits=() if committed else ("the products behind the tokens: there are no hashes",),
    )


def _committed(hashes: Read, root: bytes | None, layout: Layout) -> list[bytes]:
    """The row hashes of every position, once they are known to be under the receipt's root."""
    found = []
    for position in range(layout.positions):
        size = HASH_BYTES * layout.hashes(position)
        raw = bytes(hashes(layout.hashes_offset(position), size))
        if len(raw) != size:
            raise FoundError(Place(part="trace", token=position), "the hashes are truncated here")
        found.append(raw)
    if len(hashes(layout.hashes_offset(layout.positions), 1)):
        raise FoundError(Place(part="trace"), "the hashes go on after the answer's end")
    if trace_root(list(map(position_leaf, found))) != root:
        raise FoundError(Place(part="trace"), "the receipt commits to another trace")
    return found


def _run(
    passes: Passes,
    hashing: _Hashing,
    stated: Stated,
    statement: Statement,
    chosen: Sequence[int],
    committed: Sequence[bytes] | None,
    progress: Progress,
) -> None:
    tokens = [*statement.request.prompt_ids, *statement.tokens[:-1]]
    first = len(statement.request.prompt_ids) - 1
    wanted = frozenset(place + first for place in chosen)
    for start in range(0, len(tokens), BLOCK):
        progress("running again", start, len(tokens))
        positions = range(start, min(start + BLOCK, len(tokens)))
        looked = [position for position in positions if position in wanted]
        logits_LV = passes.run(tokens[start : positions.stop], start, looked)
        logits = dict(zip(looked, logits_LV, strict=True))
        for position in positions[max(0, first - start) :]:
            if position in logits and committed is not None:
                hashing.compare(position, committed[position])
            stated.compare(position - first, logits.get(position))
    progress("running again", len(tokens), len(tokens))
