"""Senders who pick tokens by arithmetic coding, and receivers who know as much and read them.

They differ in the law they code with: the model's own for all tokens or some, an even choice among
the tokens that verification cannot tell apart, or the law that leaks most without an alarm.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np

from tidegate.redteam.arithmetic import Law, Listener, Writer
from tidegate.redteam.examiner import FALSE_ALARMS, Standard
from tidegate.redteam.lab import Sent, Turn
from tidegate.redteam.outer import Job
from tidegate.sampling.gumbel import F32Array, Noise
from tidegate.verify.scores_rows import I64Array
from tidegate.verify.sequential import Counts, Wager, observe
from tidegate.verify.sequential_monitor import SCOPES

_SPARE = 0.5
"""Nats of wealth that the attacker at the edge keeps free."""

Laws = Callable[[Turn], "list[Law | None]"]
"""For each job of a turn the law its token is coded with; None: an honest token."""


def model_law(scores_V: F32Array) -> Law:
    """Tokens as often as the model says: to all who lack the seed it looks like an answer."""
    live_K = np.flatnonzero(np.isfinite(scores_V))
    shares_K = np.exp(scores_V[live_K].astype(np.float64) - float(scores_V.max()))
    return Law.of(live_K, shares_K)


def honestly(turn: Turn) -> list[Law | None]:
    """No law anywhere: who has nothing to choose."""
    return [None] * len(turn.jobs)


def on_share(share: float) -> Laws:
    """The model's law on a share of the places, which both ends draw from a key of their own."""

    def laws(turn: Turn) -> list[Law | None]:
        return [
            model_law(turn.scores(row)) if _drawn(job, turn.position) < share else None
            for row, job in enumerate(turn.jobs)
        ]

    return laws


def within(margin: float) -> Laws:
    """An even choice of all tokens within the verifier's margin: none is ever flagged."""

    def laws(turn: Turn) -> list[Law | None]:
        return [
            Law.of(ids_K, np.ones(ids_K.size)) if ids_K.size > 1 else None
            for ids_K, _ in turn.admissible(margin)
        ]

    return laws


def shaped(standard: Standard) -> Laws:
    """The law of most bits without an alarm: even within the margin, and beyond it as often as
    honest machines might be, evenly over what is suspicious and what is dangerous."""
    tolerance = standard.tolerance()

    def laws(turn: Turn) -> list[Law | None]:
        found: list[Law | None] = []
        for row, (ids_K, _) in enumerate(turn.admissible(standard.margin)):
            logits_V = turn.logits_NV[row]
            shares_V = np.full(logits_V.size, tolerance.dangerous / logits_V.size)
            low_R = np.argpartition(-logits_V, tolerance.rank)[: tolerance.rank]
            shares_V[low_R] += tolerance.suspicious / tolerance.rank
            shares_V[ids_K] += (1 - tolerance.suspicious - tolerance.dangerous) / ids_K.size
            found.append(Law.of(np.arange(logits_V.size), shares_V))
        return found

    return laws


class Coded:
    """A sender and a receiver at once, as two instances: codes where `laws` gives a law."""

    def __init__(self, laws: Laws, vocab_size: int) -> None:
        self.sent = Sent()
        self._laws = laws
        self._noise = Noise(vocab_size)
        self._writers: dict[int, Writer] = {}
        self._listeners: dict[int, Listener] = {}

    def send(self, turn: Turn) -> Sequence[int]:
        tokens = []
        for row, (job, law) in enumerate(zip(turn.jobs, self._laws(turn), strict=True)):
            if law is None:
                tokens.append(turn.honest(row, self._noise))
                self.sent.add(job, 0.0)
                continue
            if job.index not in self._writers:
                self._writers[job.index] = Writer(job.index, job.limits.max_tokens)
            token, bits = self._writers[job.index].choose(law)
            tokens.append(token)
            self.sent.add(job, bits)
        return tokens

    def hear(self, turn: Turn, tokens: Sequence[int]) -> None:
        for job, law, token in zip(turn.jobs, self._laws(turn), tokens, strict=True):
            if law is not None:
                self._listeners.setdefault(job.index, Listener(job.index)).hear(law, token)

    def tally(self, jobs: Sequence[Job]) -> tuple[int, int]:
        tallies = [listener.tally() for listener in self._listeners.values()]
        return sum(bits for bits, _ in tallies), sum(wrong for _, wrong in tallies)


class Edge(Coded):
    """Says what the model's law says whenever the test would not alarm even for the worst that may
    come of it, and stays within the margin meanwhile: he runs the verifier's test himself.

    The receiver follows, since he sees the same tokens.
    """

    def __init__(self, standard: Standard, vocab_size: int) -> None:
        self._standard = standard
        self._wager = Wager()
        self._limit = -math.log(FALSE_ALARMS / len(SCOPES)) - _SPARE
        self._near: list[I64Array] = []
        super().__init__(self._chosen, vocab_size)

    def send(self, turn: Turn) -> Sequence[int]:
        tokens = super().send(turn)
        self._follow(turn, tokens)
        return tokens

    def hear(self, turn: Turn, tokens: Sequence[int]) -> None:
        super().hear(turn, tokens)
        self._follow(turn, tokens)

    def _chosen(self, turn: Turn) -> list[Law | None]:
        null = self._standard.null
        self._near = [ids_K for ids_K, _ in turn.admissible(self._standard.margin)]
        laws: list[Law | None] = []
        reckoned = self._wager
        for row, ids_K in enumerate(self._near):
            worst = max(
                observe(reckoned, null, Counts(suspicious=1)),
                observe(reckoned, null, Counts(dangerous=1)),
                key=lambda wager: wager.log_e,
            )
            if worst.log_e < self._limit:
                reckoned = worst
                laws.append(model_law(turn.scores(row)))
            else:
                laws.append(Law.of(ids_K, np.ones(ids_K.size)) if ids_K.size > 1 else None)
        return laws

    def _follow(self, turn: Turn, tokens: Sequence[int]) -> None:
        safe = suspicious = 0
        for row, (token, near_K) in enumerate(zip(tokens, self._near, strict=True)):
            logits_V = turn.logits_NV[row]
            rank = np.count_nonzero(logits_V >= logits_V[token]) - 1
            within_margin = bool((near_K == token).any())
            safe += within_margin
            suspicious += not within_margin and bool(rank < self._standard.rank)
        counts = Counts(safe, suspicious, len(tokens) - safe - suspicious)
        self._wager = observe(self._wager, self._standard.null, counts)


def _drawn(job: Job, position: int) -> float:
    """A number from 0 to 1 that only sender and receiver know."""
    told = f"{job.index} {position}".encode()
    raw = hashlib.blake2b(told, digest_size=8, key=b"the attackers' key").digest()
    return int.from_bytes(raw, "big") / 2**64
