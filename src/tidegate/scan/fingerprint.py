"""Fingerprints of the owner's own weights, and what of a stretch they recognise.

1. The signs of a tensor's weights, in the order of the file, are one long row of bits.
2. Of every `LENGTH` bits in a row a keyed hash decides whether that place is kept: about one of
   `Fingerprints.every`. It depends on the bits alone, so a leaked piece keeps the same places.
3. What is stored is a keyed tag (SipHash-2-4, Aumasson and Bernstein 2012) of the bits
   and where they lie. Without the key a file of fingerprints says nothing about the weights. Who
   has the key can try all 2**40 patterns for a tag: keep it where the fingerprints are used.
4. A stretch is read in every layout (`weights`); a match is several places that are as far apart in
   the stretch as they are in the tensor. Chance gives one now and then, never several in a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from tidegate.scan.sighting import Place
from tidegate.scan.weights import Signs, readings

Words = np.ndarray[Any, np.dtype[np.uint64]]
Places = np.ndarray[Any, np.dtype[np.int64]]

LENGTH: Final = 40
KEY_BYTES: Final = 16
_FEWEST: Final = 4
"""Places in a row, no two overlapping, that make a match."""
_LEAST_TURNS: Final = 8
"""Changes of sign in a pattern; norms and biases of one sign would match each other."""
_MASK: Final = np.uint64((1 << LENGTH) - 1)


class Tensor(NamedTuple):
    """One tensor of a shard. `begin`: its first byte in the shard; `width`: bytes a weight."""

    name: str
    shard: str
    begin: int
    width: int


class Match(NamedTuple):
    """A stretch that is a piece of the owner's: from where, how surely, how it is written."""

    place: Place
    places: int
    layout: str


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """What is kept of a model. tag_N ascends; place_N: where each lies, tensor << 40 | weight."""

    model: str
    every: int
    key: bytes = field(repr=False)
    tensors: tuple[Tensor, ...]
    tag_N: Words
    place_N: Places


def patterns(signs_T: Signs) -> Words:
    """Each run of LENGTH signs as a number, first sign highest: T - LENGTH + 1 of them."""
    count = len(signs_T) - LENGTH + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    packed_B = np.packbits(np.concatenate([signs_T, np.zeros(64, np.bool_)]))
    octets = np.lib.stride_tricks.sliding_window_view(packed_B, 8)[: (count + 7) // 8]
    word_B = np.ascontiguousarray(octets).view(">u8").reshape(-1).astype(np.uint64)
    shift_8 = np.arange(8, dtype=np.uint64)
    words = (word_B[:, None] << shift_8) >> np.uint64(64 - LENGTH)
    return words.reshape(-1)[:count]


def kept(pattern_T: Words, key: bytes, every: int) -> tuple[Places, Words]:
    """Which places are kept, and their tags."""
    factor = np.uint64(int.from_bytes(key[:8], "little") | 1)
    # The product's upper bits depend on all of the pattern; a mask of it decides.
    hash_T = (pattern_T * factor) >> np.uint64(32)
    at_N = np.flatnonzero(hash_T % np.uint64(every) == 0)
    pattern_N = pattern_T[at_N]
    turns_N = np.bitwise_count((pattern_N ^ (pattern_N << np.uint64(1))) & (_MASK - np.uint64(1)))
    at_N = at_N[turns_N >= _LEAST_TURNS]
    return at_N, siphash(pattern_T[at_N], key)


def siphash(word_N: Words, key: bytes) -> Words:
    """SipHash-2-4 of eight-byte messages, under a key of 16 bytes."""
    k0, k1 = (np.uint64(int.from_bytes(key[i : i + 8], "little")) for i in (0, 8))
    v = [
        np.full(len(word_N), k ^ np.uint64(c), np.uint64)
        for k, c in (
            (k0, 0x736F6D6570736575),
            (k1, 0x646F72616E646F6D),
            (k0, 0x6C7967656E657261),
            (k1, 0x7465646279746573),
        )
    ]
    for block in (word_N, np.full(len(word_N), np.uint64(8 << 56), np.uint64)):
        v[3] = v[3] ^ block
        _rounds(v, 2)
        v[0] = v[0] ^ block
    v[2] = v[2] ^ np.uint64(0xFF)
    _rounds(v, 4)
    return np.asarray(v[0] ^ v[1] ^ v[2] ^ v[3])


def _rounds(v: list[Words], count: int) -> None:
    for _ in range(count):
        v[0] = v[0] + v[1]
        v[2] = v[2] + v[3]
        v[1] = _turned(v[1], 13) ^ v[0]
        v[3] = _turned(v[3], 16) ^ v[2]
        v[0] = _turned(v[0], 32)
        v[2] = v[2] + v[1]
        v[0] = v[0] + v[3]
        v[1] = _turned(v[1], 17) ^ v[2]
        v[3] = _turned(v[3], 21) ^ v[0]
        v[2] = _turned(v[2], 32)


def _turned(word_N: Words, by: int) -> Words:
    return (word_N << np.uint64(by)) | (word_N >> np.uint64(64 - by))


class Matcher:
    """Holds stretches against the fingerprints of one or more models."""

    def __init__(self, *known: Fingerprints) -> None:
        self._known = known
        self._last = ""

    def match(self, data: bytes) -> Match | None:
        """Where a stretch comes from; None where it is nothing of the owner's that is recognised.

        The layout that matched last is tried first.
        """
        for layout, signs_T in readings(data, self._last):
            pattern_T = patterns(signs_T)
            for known in self._known:
                found = _longest(known, pattern_T)
                if found is not None:
                    self._last = layout.name
                    return Match(_place(known, found), found.places, layout.name)
        return None


class _Found(NamedTuple):
    """A place, tensor << 40 | weight, and how many agree with it."""

    place: int
    places: int


def _longest(known: Fingerprints, pattern_T: Words) -> _Found | None:
    """The most places that lie in the stretch as they do in one tensor."""
    at_N, tag_N = kept(pattern_T, known.key, known.every)
    if not len(at_N) or not len(known.tag_N):
        return None
    first_N = np.searchsorted(known.tag_N, tag_N, side="left")
    count_N = np.searchsorted(known.tag_N, tag_N, side="right") - first_N
    # A pattern that occurs all over the model says little about where this is.
    use_N = np.flatnonzero((count_N > 0) & (count_N <= 8))
    if len(use_N) < _FEWEST:
        return None
    repeat = count_N[use_N]
    inside = np.arange(repeat.sum()) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    place_H = known.place_N[np.repeat(first_N[use_N], repeat) + inside]
    at_H = np.repeat(at_N[use_N], repeat)
    order = np.argsort(place_H - at_H, kind="stable")
    shift_H, at_H = (place_H - at_H)[order], at_H[order]
    # Overlapping places share their bits, so each stretch of LENGTH counts once.
    distinct = np.unique(np.stack([shift_H, at_H // LENGTH]), axis=1)[0]
    shift, count = np.unique(distinct, return_counts=True)
    best = int(count.argmax())
    if count[best] < _FEWEST:
        return None
    begins = shift_H == shift[best]
    # Where the stretch begins in the tensor; if that is in the tensor before, the first place.
    first = int(shift[best]) + int(at_H[begins].min())
    same_tensor = int(shift[best]) >> 40 == first >> 40
    return _Found(int(shift[best]) if same_tensor else first, int(count[best]))


def _place(known: Fingerprints, found: _Found) -> Place:
    tensor = known.tensors[found.place >> 40]
    offset = tensor.begin + found.place % (1 << 40) * tensor.width
    return Place(known.model, tensor.shard, tensor.name, offset)
