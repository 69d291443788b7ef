"""T3: a trace checked by somebody without weights.

Every product of the trace passes Freivalds' check against the key, everything between the products
is computed again by the engine's own forward pass, and tokens and stop are drawn again from the
exact logits. So what passes is what the named weights give, but for the stated chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.errors import EngineError, ModelError
from tidegate.models.cache import Progress, no_progress
from tidegate.models.exact.ops import Rows
from tidegate.models.exact.parameters import parameters_of
from tidegate.models.exact.shape import HEAD
from tidegate.prove import embedding, receipt
from tidegate.prove.answer import Answer, Stated, detokeniser
from tidegate.prove.freivalds import I8Array, I32Array
from tidegate.prove.keys import Key
from tidegate.prove.merkle import HASH_BYTES
from tidegate.prove.passes import OpsOf, Passes
from tidegate.prove.statement import Statement
from tidegate.prove.tiers import Tier
from tidegate.prove.trace import (
    Block,
    Layout,
    Read,
    block_hashes,
    hash_at,
    position_leaf,
    split,
    trace_root,
)
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

_TIER = Tier.FREIVALDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a prover hands over: the signed receipt, and the trace's three files."""

    note: str
    rows: Read
    hashes: Read
    embedding: Read


class CheckedLinear:
    """`ops.Linear` that answers from a block of the trace, each row checked first."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self._index = {product: number for number, product in enumerate(key.shape.products())}
        self._block = Block(0, 0, 0)
        self._parts: Sequence[I32Array] = ()

    def load(self, block: Block, parts: Sequence[I32Array]) -> None:
        """The block that the next pass is over."""
        self._block, self._parts = block, parts

    def begin(self, rows: Rows) -> None:
        """See `ops.Linear.begin`."""

    def multiply(self, layer: int, op: str, q_NK: I8Array) -> I32Array:
        """See `ops.Linear.multiply`. Raises FoundError for the first wrong row."""
        acc_NO = self._parts[self._index[layer, op]]
        if wrong := self._key.columns[layer, op].first_wrong(q_NK, acc_NO):
            token = self._block.rows(op)[wrong[0]]
            raise FoundError(Place(part="product", token=token, layer=layer, op=op), wrong[1])
        return acc_NO


def verify(
    proof: Proof,
    statement: Statement,
    key: Key,
    trusted: Verifier,
    *,
    ops_of: OpsOf,
    progress: Progress = no_progress,
) -> Verdict:
    """Check a proof for a statement made outside, with a key, signed by `trusted`."""
    try:
        # 1. The signature, and that the receipt is for this statement.
        note = receipt.open_receipt(proof.note, trusted)
        receipt.compare(note, statement)
        # 2. That the key is for the model the receipt names.
        _require_key(note, key)
        # 3. The trace, product by product, token by token.
        root = _Check(proof, statement, key, ops_of).run(progress)
        # 4. That it is the trace which was committed to.
        if note.trace != root:
            raise FoundError(Place(part="trace"), "the receipt commits to another trace")
    except FoundError as found:
        return Fail(tier=_TIER, place=found.place, reason=found.reason)
    except UnverifiableError as error:
        return CannotVerify(tier=_TIER, reason=error.message)
    layout = Layout(key.shape, len(statement.request.prompt_ids), len(statement.tokens))
    row = min(columns.bits for columns in key.columns.values())
    return Pass(
        tier=_TIER,
        error_log2=math.log2(layout.rows) - row,
        row_log2=-row,
        coverage=(
            f"all {layout.rows} rows of all products at all {layout.positions} positions, every "
            f"operation between them, {len(statement.tokens)} token choices and the stop"
        ),
    )


def _require_key(note: receipt.Receipt, key: Key) -> None:
    if note.tier is not _TIER or note.trace is None:
        raise UnverifiableError(f"the receipt is of tier {note.tier.value} and has no such trace")
    names = receipt.differing(note, key.subject)
    if names:
        raise UnverifiableError(
            f"the key is stale or the receipt is for another model: {', '.join(names)} differ; "
            f"the receipt's weights are {note.subject.weights.hex()[:16]}, the key's "
            f"{key.subject.weights.hex()[:16]}; `tidegate prove rotate` makes a key for new weights"
        )


class _Check:
    """One verification; raises FoundError at what is wrong."""

    def __init__(self, proof: Proof, statement: Statement, key: Key, ops_of: OpsOf) -> None:
        request, shape = statement.request, key.shape
        self._proof = proof
        self._layout = Layout(shape, len(request.prompt_ids), len(statement.tokens))
        self._tokens = [*request.prompt_ids, *statement.tokens[:-1]]
        words = detokeniser(key.tokenizer_json, bool(request.limits.stop))
        answer = Answer(request, shape.vocab_size, key.eos_ids, words)
        self._stated = Stated(statement, answer)
        self._stated.require_tokens(shape.vocab_size, shape.context_length)
        # The embedding's rows come opened; only rows under the owner's root are used.
        rows = embedding.check(
            proof.embedding,
            self._tokens,
            shape,
            key.parameters["embed.scale"],
            key.embedding_root,
            key.embedding_bytes,
        )
        parameters = parameters_of(shape, key.parameters, rows)
        self._linear = CheckedLinear(key)
        self._passes = Passes(parameters, self._linear, ops_of, self._layout.positions)

    def run(self, progress: Progress) -> bytes:
        """Check every block; the root of the trace that was checked."""
        layout, proof = self._layout, self._proof
        leaves: list[bytes] = []
        at = 0
        for block in layout.blocks():
            progress("checking tokens", block.start, layout.positions)
            size = layout.block_bytes(block)
            raw = proof.rows(at, size)
            if len(raw) != size:
                raise FoundError(
                    Place(part="trace", token=block.start), "the trace is truncated from here"
                )
            parts = split(raw, layout, block)
            leaves += self._committed(block, parts)
            self._recompute(block, parts)
            at += size
        progress("checking tokens", layout.positions, layout.positions)
        past_hashes = proof.hashes(layout.hashes_offset(layout.positions), 1)
        if len(proof.rows(at, 1)) or len(past_hashes):
            raise FoundError(Place(part="trace"), "the trace goes on after the answer's end")
        return trace_root(leaves)

    def _committed(self, block: Block, parts: Sequence[I32Array]) -> list[bytes]:
        """The leaves of a block's positions, each row's hash compared with the one opened."""
        products, leaves = self._layout.shape.products(), []
        for place, hashes in enumerate(block_hashes(parts, block)):
            token = block.start + place
            start = self._layout.hashes_offset(token)
            opened = bytes(self._proof.hashes(start, len(hashes)))
            if opened != hashes:
                number = next(
                    number
                    for number in range(len(hashes) // HASH_BYTES)
                    if hash_at(opened, number) != hash_at(hashes, number)
                )
                layer, op = products[number]
                raise FoundError(
                    Place(part="trace", token=token, layer=layer, op=op),
                    "this row is not the one whose hash was committed to",
                )
            leaves.append(position_leaf(hashes))
        return leaves

    def _recompute(self, block: Block, parts: Sequence[I32Array]) -> None:
        """Run the block's positions on checked products; compare the tokens chosen after them."""
        self._linear.load(block, parts)
        heads = block.rows(HEAD)
        tokens = self._tokens[block.start : block.start + block.count]
        try:
            logits_LV = self._passes.run(tokens, block.start, heads)
            for position, logits_V in zip(heads, logits_LV, strict=True):
                self._stated.compare(position - self._layout.prompt + 1, logits_V)
        except (ModelError, EngineError) as error:
            place = Place(part="product", token=block.start)
            raise FoundError(place, f"an honest engine would have refused: {error}") from error
