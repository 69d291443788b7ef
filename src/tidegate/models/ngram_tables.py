"""The learned half of the n-gram: counts of what followed each context, as sorted integer arrays.

A context of n tokens is one integer, its tokens being digits to the base of the vocabulary's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import msgspec
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from tidegate.errors import IntegrityError, ModelError
from tidegate.models.cache import require_sha256
from tidegate.models.card import Comparison

Array = NDArray[np.generic]
IntArray = NDArray[np.int64]
F64Array = NDArray[np.float64]

# Counts saturate here; a context seen so often is dominated by its own counts anyway.
_LARGEST_COUNT = 65_535


class Smoothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How contexts of 0, 1, 2, … tokens are mixed; fitted by `tools/train_ngram.py`.

    `discounts[n - 1]` is taken off every learned count after n tokens; `cache_weights[n]` is what
    one occurrence after n tokens in the text so far counts for; `cache_backoffs[n]` is the weight
    each token seen there gives to the shorter context. A token that was never seen has a prior
    count of `prior_weight / (prior_offset + id)`, since byte-pair ids come in order of frequency.
    """

    discounts: tuple[float, ...]
    cache_weights: tuple[float, ...]
    cache_backoffs: tuple[float, ...]
    prior_weight: float
    prior_offset: float


class NgramManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything about an n-gram but its counts; stored as JSON beside them.

    `card` says how much worse it is than the strong model on packaged prompts that it was not
    trained on, per temperature of the strong model's answers.
    """

    name: str
    licence: str
    provenance: str
    parameters: int
    training_tokens: int
    vocab_size: int
    eos_ids: tuple[int, ...]
    vocabulary_hash: str
    tables_file: str
    tables_sha256: str
    smoothing: Smoothing
    card: Mapping[str, Comparison] = {}


@dataclass(frozen=True, slots=True)
class Followers:
    """Learned counts after contexts of one length: row r holds starts[r]:starts[r + 1]."""

    contexts: NDArray[np.uint64]
    starts: IntArray
    tokens: IntArray
    counts: IntArray

    def find(self, context: int) -> int | None:
        """Row of a context, if it was ever seen."""
        row = int(self.contexts.searchsorted(np.uint64(context)))
        if row < len(self.contexts) and int(self.contexts[row]) == context:
            return row
        return None


def count(
    texts: Iterable[tuple[Sequence[int], Sequence[int]]], *, order: int, vocab_size: int
) -> dict[str, Array]:
    """Tables of what follows 0 … order - 1 tokens in the answers of (prompt, answer) pairs.

    The longest contexts count occurrences; each shorter one counts in how many different longer
    contexts the token came (Kneser and Ney 1995), since it is asked only where those fail. Prompts
    serve as context only: the chat template that opens all of them would drown everything else.
    """
    seen: list[dict[tuple[int, int], int]] = [{} for _ in range(order)]
    for prompt, answer in texts:
        text = [*prompt[-order:], *answer]
        begin = len(text) - len(answer)
        for place in range(begin, len(text)):
            before = text[max(0, place - order + 1) : place][::-1]
            contexts = list(accumulate(_digits(before, vocab_size), initial=0))
            for length in reversed(range(len(contexts))):
                pair = (contexts[length], text[place])
                seen[length][pair] = seen[length].get(pair, 0) + 1
                if seen[length][pair] > 1:
                    break
    unigram = np.zeros(vocab_size, dtype=np.uint32)
    for (_, token), times in seen[0].items():
        unigram[token] = times
    tables: dict[str, Array] = {"counts_0": unigram}
    for length in range(1, order):
        tables |= _packed(length, seen[length], vocab_size)
    return tables


def _digits(newest_first: Sequence[int], base: int) -> Iterator[int]:
    return (token * base**place for place, token in enumerate(newest_first))


def _packed(length: int, seen: dict[tuple[int, int], int], vocab_size: int) -> dict[str, Array]:
    pairs = sorted(seen)
    contexts = np.array([context for context, _ in pairs], dtype=np.uint64)
    distinct, starts = np.unique(contexts, return_index=True)
    small = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    return {
        f"contexts_{length}": distinct,
        f"starts_{length}": np.append(starts, len(pairs)).astype(np.uint32),
        f"tokens_{length}": np.array([token for _, token in pairs], dtype=small),
        f"counts_{length}": np.array(
            [min(seen[pair], _LARGEST_COUNT) for pair in pairs], dtype=np.uint16
        ),
    }


def read(manifest_path: Path) -> tuple[NgramManifest, IntArray, tuple[Followers, ...]]:
    """An n-gram's manifest, its unigram counts (V,) and the followers of 1, 2, … tokens.

    Raises ModelError if a file cannot be read; IntegrityError, naming it, if it is not what the
    manifest says.
    """
    try:
        manifest = msgspec.json.decode(manifest_path.read_bytes(), type=NgramManifest)
    except OSError as error:
        raise ModelError(f"cannot read {manifest_path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise IntegrityError(
            f"{manifest_path} is not an n-gram manifest: {error}", file=str(manifest_path)
        ) from error
    path = manifest_path.parent / manifest.tables_file
    require_sha256(path, manifest.tables_sha256)
    try:
        tables = safetensors.numpy.load(path.read_bytes())
        unigram = tables["counts_0"].astype(np.int64)
        followers = tuple(
            Followers(
                contexts=tables[f"contexts_{length}"],
                starts=tables[f"starts_{length}"].astype(np.int64),
                tokens=tables[f"tokens_{length}"].astype(np.int64),
                counts=tables[f"counts_{length}"].astype(np.int64),
            )
            for length in range(1, len(manifest.smoothing.discounts) + 1)
        )
    except (SafetensorError, KeyError) as error:
        raise IntegrityError(f"{path} does not hold n-gram tables: {error}") from error
    return manifest, unigram, followers
