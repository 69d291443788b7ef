"""Activation-DiFR: short fingerprints of hidden states, compared with the verifier's own.

Tokens say little of how they were computed; a fingerprint says more in fewer of them (arXiv
2511.20621: a random orthogonal projection of the last hidden state). It is an option
for whoever may ship it: a fingerprint crosses the link and is itself room for 32 · k bits a token,
so it is charged like any upload, compared in the verifying zone and dropped. Many of them reveal
the activations they came from, so they are kept no longer than the comparison takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tidegate.errors import ConfigError
from tidegate.verify.scores_rows import F32Array, F64Array


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """matrix_KD: float32, K orthogonal rows of length √(D / K), so that lengths are kept on
    average. `seed` names it."""

    seed: bytes
    matrix_KD: F32Array

    @staticmethod
    def of(seed: bytes, hidden_size: int, size: int) -> Projection:
        """The projection from `hidden_size` to `size` numbers that `seed` fixes.

        Signs come from SHAKE-256 and are then made orthogonal, so machines agree to rounding.
        Raises ConfigError unless 1 <= size <= hidden_size.
        """
        if not 1 <= size <= hidden_size:
            raise ConfigError(
                "a fingerprint has at least 1 number and at most as many as the hidden state",
                size=size,
                hidden_size=hidden_size,
            )
        count = size * hidden_size
        digest = hashlib.shake_256(b"tidegate.fingerprint.v1" + seed).digest((count + 7) // 8)
        bits_N = np.unpackbits(np.frombuffer(digest, np.uint8), count=count)
        signs_DK = 1.0 - 2.0 * bits_N.reshape(hidden_size, size)
        basis_DK, upper_KK = np.linalg.qr(signs_DK)
        diagonal_K = np.diag(upper_KK)
        if np.abs(diagonal_K).min() < 1e-6 * np.sqrt(hidden_size):
            raise ConfigError("this seed gives dependent directions; take another", size=size)
        matrix_KD = (basis_DK * np.sign(diagonal_K)).T * np.sqrt(hidden_size / size)
        return Projection(seed, np.ascontiguousarray(matrix_KD, np.float32))

    def fingerprints(self, hidden_TD: F32Array) -> F32Array:
        """float32 [T, K] of float hidden states [T, D]. Raises ConfigError for another D."""
        if hidden_TD.ndim != 2 or hidden_TD.shape[1] != self.matrix_KD.shape[1]:
            raise ConfigError(
                "the hidden states have another size than the projection",
                hidden_size=self.matrix_KD.shape[1],
            )
        return hidden_TD.astype(np.float32) @ self.matrix_KD.T


def distances(sent_TK: F32Array, own_TK: F32Array) -> F64Array:
    """How far two fingerprints lie apart, relative to the verifier's own; inf for a NaN. [T].

    Estimates |h' - h| / |h| of the hidden states, with relative error about 1 / √K. Raises
    ConfigError where the shapes differ.
    """
    if sent_TK.shape != own_TK.shape:
        raise ConfigError("the fingerprints have different shapes")
    sent_TK, own_TK = sent_TK.astype(np.float64), own_TK.astype(np.float64)
    apart_T = np.linalg.norm(sent_TK - own_TK, axis=1)
    length_T = np.maximum(np.linalg.norm(own_TK, axis=1), np.finfo(np.float64).tiny)
    relative_T: F64Array = np.nan_to_num(apart_T / length_T, nan=np.inf, posinf=np.inf)
    return relative_T


@dataclass(frozen=True, slots=True)
class Apart:
    """How far two engines' states lie apart over `tokens` of `answers`, relative to their length:
    the median, the 99th percentile and the most. `bits_per_token`: what a fingerprint would cost,
    were it to cross a link."""

    answers: int
    tokens: int
    median: float
    p99: float
    most: float
    bits_per_token: int


def compare(projection: Projection, answers: Iterable[tuple[F32Array, F32Array]]) -> Apart:
    """Compare states_TD of one engine with another's, answer by answer.

    Raises ConfigError where there is nothing to compare, or shapes differ.
    """
    found = [
        distances(projection.fingerprints(sent_TD), projection.fingerprints(own_TD))
        for sent_TD, own_TD in answers
    ]
    if not sum(map(len, found)):
        raise ConfigError("there are no states to compare")
    apart_N = np.concatenate(found)
    return Apart(
        answers=len(found),
        tokens=len(apart_N),
        median=float(np.median(apart_N)),
        # Of the values themselves: between two of them an infinity would become a NaN.
        p99=float(np.quantile(apart_N, 0.99, method="higher")),
        most=float(apart_N.max()),
        bits_per_token=32 * len(projection.matrix_KD),
    )
