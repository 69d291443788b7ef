"""A weak model you can afford to lose: an order-4 token n-gram that also counts the text so far.

Both halves must hold the same floats, so every number is made of integers by correctly rounded
single operations (IEEE 754 + - * /) in a fixed order: no reductions over floats, no libm. The
logarithm is a table of integers.

After each context, longest first, a share of the probability goes to the tokens seen there and the
rest to the next shorter context (interpolated Kneser-Ney discounting; Chen and Goodman 1999, with
the cache of Kuhn and De Mori 1990 counted in). Only tokens that some context has seen are touched;
all others keep their place in a dense base that is computed once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np

from tidegate.errors import ModelError
from tidegate.models.batch import Batch, check_batch
from tidegate.models.ngram_tables import (
    F64Array,
    Followers,
    IntArray,
    NgramManifest,
    Smoothing,
    read,
)
from tidegate.models.port import F32Array, ModelInfo

_CONTEXT_LENGTH = 1 << 17
_TABLE_BITS = 12
_LOG_BITS = 24
_MANTISSA_BITS = 52
_NATS_PER_UNIT = 0.6931471805599453 / (1 << _LOG_BITS)


def _log2_table() -> IntArray:
    """log2 of the middle of each of 4,096 equal parts of [1, 2), in units of 2**-24.

    One binary digit of a logarithm comes out of each squaring, here with 31 fractional bits.
    """
    steps = np.arange(1 << _TABLE_BITS, dtype=np.uint64)
    part_bits = np.uint64(31 - _TABLE_BITS)
    mantissa = np.uint64(1 << 31) + (steps << part_bits) + np.uint64(1 << (30 - _TABLE_BITS))
    digits = np.zeros_like(steps)
    for _ in range(_LOG_BITS):
        mantissa = (mantissa * mantissa) >> np.uint64(31)
        carry = mantissa >> np.uint64(32)
        mantissa >>= carry
        digits = (digits << np.uint64(1)) | carry
    return digits.astype(np.int64)


_LOG2 = _log2_table()


def exact_log(values: F64Array) -> F32Array:
    """Natural logarithm of positive normal numbers, bit-identical everywhere, to 1.3e-4 nats."""
    bits = values.view(np.int64)
    exponents = (bits >> _MANTISSA_BITS) - 1023
    parts = (bits >> (_MANTISSA_BITS - _TABLE_BITS)) & ((1 << _TABLE_BITS) - 1)
    units = (exponents << _LOG_BITS) + _LOG2[parts]
    nats: F32Array = (units * _NATS_PER_UNIT).astype(np.float32)
    return nats


@dataclass(slots=True)
class _Seen:
    """What followed one context in the text so far."""

    total: int = 0
    counts: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Text:
    """One sequence: its last tokens, newest first, and what it has seen after each context."""

    orders: int
    length: int = 0
    recent: list[int] = field(default_factory=list)
    seen: list[dict[int, _Seen]] = field(init=False)

    def __post_init__(self) -> None:
        self.seen = [{} for _ in range(self.orders)]

    def contexts(self, vocab_size: int) -> list[int]:
        """The contexts of 0, 1, 2, … last tokens, as far as the text goes."""
        contexts = [0]
        scale = 1
        for token in self.recent:
            contexts.append(contexts[-1] + token * scale)
            scale *= vocab_size
        return contexts

    def append(self, token: int, vocab_size: int) -> None:
        for seen, context in zip(self.seen, self.contexts(vocab_size), strict=False):
            entry = seen.get(context)
            if entry is None:
                entry = seen[context] = _Seen()
            entry.total += 1
            entry.counts[token] = entry.counts.get(token, 0) + 1
        self.recent = [token, *self.recent[: self.orders - 2]]
        self.length += 1

    def copy(self) -> _Text:
        twin = _Text(self.orders, self.length, list(self.recent))
        twin.seen = [
            {context: _Seen(entry.total, dict(entry.counts)) for context, entry in seen.items()}
            for seen in self.seen
        ]
        return twin


@dataclass(frozen=True, slots=True)
class _Learned:
    """Followers of one context length with the discount taken off."""

    followers: Followers
    shares: F64Array  # per follower: count - discount
    totals: F64Array  # per context: the sum of its shares
    backoffs: F64Array  # per context: what the discounts freed

    @classmethod
    def of(cls, followers: Followers, discount: float) -> _Learned:
        types = np.diff(followers.starts)
        sums = np.add.reduceat(followers.counts, followers.starts[:-1]) if len(types) else types
        freed: F64Array = types * np.float64(discount)
        shares: F64Array = followers.counts - np.float64(discount)
        return cls(followers, shares, sums - freed, freed)


class NgramModel:
    """`port.Model` over learned counts and the text so far; the same bits on every machine."""

    exact = True

    def __init__(
        self,
        manifest: NgramManifest,
        unigram_V: IntArray,
        followers: tuple[Followers, ...],
        *,
        context_length: int = _CONTEXT_LENGTH,
    ) -> None:
        self.manifest = manifest
        self.vocab_size = manifest.vocab_size
        self.eos_ids = frozenset(manifest.eos_ids)
        settings = msgspec.json.encode(manifest.smoothing)
        self.fingerprint = hashlib.sha256(manifest.tables_sha256.encode() + settings).hexdigest()
        self.context_length = context_length
        smoothing = manifest.smoothing
        self._smoothing = smoothing
        self._prior_V = _prior(unigram_V, smoothing)
        self._base_V = exact_log(self._prior_V)
        self._learned = tuple(
            _Learned.of(each, discount)
            for each, discount in zip(followers, smoothing.discounts, strict=True)
        )
        self._scratch_V = np.zeros(self.vocab_size)
        self._texts: dict[int, _Text] = {}

    def describe(self) -> ModelInfo:
        manifest = self.manifest
        return ModelInfo(
            name=manifest.name,
            parameters=manifest.parameters,
            licence=manifest.licence,
            provenance=manifest.provenance,
            numerics="IEEE 754 single operations; bit-identical on every machine",
        )

    def forward(self, batch: Batch) -> F32Array:
        """See `port.Model.forward`."""
        check_batch(
            batch,
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            length_of=lambda number: self._texts[number].length if number in self._texts else 0,
        )
        scores_NV = np.empty((len(batch), self.vocab_size), dtype=np.float32)
        orders = len(self._smoothing.cache_weights)
        for scores_V, (sequence_id, tokens) in zip(scores_NV, batch, strict=True):
            text = self._texts.setdefault(sequence_id, _Text(orders))
            for token in tokens:
                text.append(int(token), self.vocab_size)
            self._score(text, scores_V)
        return scores_NV

    def base_scores(self) -> F32Array:
        """base_V: what `forward` says of a token that no context has seen. The caller's own."""
        return self._base_V.copy()

    def fork(self, sequence_id: int, new_id: int) -> None:
        """Start `new_id` as a copy of a sequence. Raises ModelError for an unknown or taken id."""
        if sequence_id not in self._texts:
            raise ModelError("no such sequence", sequence_id=sequence_id)
        if new_id in self._texts:
            raise ModelError("the sequence id is taken", sequence_id=new_id)
        self._texts[new_id] = self._texts[sequence_id].copy()

    def drop(self, sequence_id: int) -> None:
        """Forget a sequence. Raises ModelError for an unknown id."""
        if self._texts.pop(sequence_id, None) is None:
            raise ModelError("no such sequence", sequence_id=sequence_id)

    def _score(self, text: _Text, scores_V: F32Array) -> None:
        """Write log(probability / weight left to the base) for every token."""
        np.copyto(scores_V, self._base_V)
        scratch_V, touched, left = self._scratch_V, [], 1.0
        contexts = text.contexts(self.vocab_size)
        for length in reversed(range(len(contexts))):
            learned_row = self._find(length, contexts[length])
            seen = text.seen[length].get(contexts[length])
            total = backoff = 0.0
            if learned_row is not None:
                learned = self._learned[length - 1]
                total += float(learned.totals[learned_row])
                backoff += float(learned.backoffs[learned_row])
            if seen is not None:
                weight = self._smoothing.cache_weights[length]
                total += weight * seen.total
                backoff += self._smoothing.cache_backoffs[length] * len(seen.counts)
            if backoff == 0.0:
                continue
            scale = left / (total + backoff)
            if learned_row is not None:
                row = slice(*learned.followers.starts[learned_row : learned_row + 2].tolist())
                tokens = learned.followers.tokens[row]
                scratch_V[tokens] += learned.shares[row] * scale
                touched.append(tokens)
            if seen is not None:
                size = len(seen.counts)
                tokens = np.fromiter(seen.counts, np.int64, size)
                counts = np.fromiter(seen.counts.values(), np.float64, size)
                scratch_V[tokens] += counts * (weight * scale)
                touched.append(tokens)
            left = backoff * scale
        if touched:
            tokens = np.concatenate(touched)
            scores_V[tokens] = exact_log(self._prior_V[tokens] + scratch_V[tokens] / left)
            scratch_V[tokens] = 0.0

    def _find(self, length: int, context: int) -> int | None:
        if not 1 <= length <= len(self._learned):
            return None
        return self._learned[length - 1].followers.find(context)


def _prior(unigram_V: IntArray, smoothing: Smoothing) -> F64Array:
    """Probability of each token where no context says anything, up to a common factor."""
    ids_V = np.arange(len(unigram_V), dtype=np.float64)
    prior_V = unigram_V + smoothing.prior_weight / (ids_V + smoothing.prior_offset)
    # An exact sum: float additions would depend on the order a machine likes.
    total = int((prior_V * (1 << 20)).astype(np.int64).sum())
    return prior_V / (total / (1 << 20))


def load(manifest_path: Path | None = None, *, context_length: int | None = None) -> NgramModel:
    """The packaged n-gram for SmolLM2, or the one whose manifest is given.

    Raises ModelError, or IntegrityError naming the file.
    """
    if manifest_path is None:
        packaged = resources.files("tidegate") / "data" / "ngram_smollm2.json"
        with resources.as_file(packaged) as path:
            return load(path, context_length=context_length)
    manifest, unigram_V, followers = read(manifest_path)
    return NgramModel(
        manifest, unigram_V, followers, context_length=context_length or _CONTEXT_LENGTH
    )
