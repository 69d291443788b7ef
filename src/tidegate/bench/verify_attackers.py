"""How many verified tokens it takes until a server that cheats is caught, with real models.

A cheat serves real prompts; the verifier reads the answers with the logged seed and temperature.
The monitor starts at many places of the cheat's answers, looks after every token, and the tokens
until its first alarm are counted. No start sees more than a tenth of the pool, so that starts are
not the same tokens over and over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidegate.bench.figures import Figure, at_most, report
from tidegate.bench.verify_answers import Pool, Serving
from tidegate.bench.verify_engines import BF16, EXACT, FP32, INT4
from tidegate.bench.verify_honest import SPLIT, Bench, Pair, alarm_points, main_pairs
from tidegate.bench.verify_replayed import Scored
from tidegate.verify.calibrate import Point, held_out
from tidegate.verify.scores import DANGEROUS, SAFE, SUSPICIOUS, tiers
from tidegate.verify.scores_rows import I64Array
from tidegate.verify.sequential import Counts, Null
from tidegate.verify.sequential_monitor import Alarm, Batch, Monitor, watch

FALSE_ALARMS = 1e-6
"""That any test of the fleet ever alarms while all is honest."""

STARTS = 100
BUCKETS = 10
"""Buckets in a pool: a start sees one at most."""

LEAST = 3_000
"""Tokens of a pool, so that answers are not all beginnings."""

STEGO, DUTY10, WARM, FOUR_BITS = "stego", "duty10", "warm", "four_bits"

SERVINGS: Mapping[str, Serving] = {
    STEGO: Serving(deviating=1.0),
    DUTY10: Serving(deviating=0.1),
    WARM: Serving(temperature=1.1),
    FOUR_BITS: Serving(),
}

LIMITS: Mapping[tuple[str, str], int] = {
    **dict.fromkeys(((EXACT, STEGO), (FP32, STEGO)), 30),
    **dict.fromkeys(((EXACT, DUTY10), (FP32, DUTY10)), 300),
    (BF16, DUTY10): 600,
    # Token-DiFR (arXiv 2511.20621) states 4 bits at AUC 0.999 within 300 tokens of a bf16 stack.
    **dict.fromkeys(((FP32, FOUR_BITS), (BF16, FOUR_BITS)), 300),
    **dict.fromkeys(((EXACT, WARM), (FP32, WARM)), 300),
}

TOLD: Mapping[str, str] = {
    STEGO: "every token from noise of the server's own: an ideal coder of hidden bits, and as well "
    "a wrong seed",
    DUTY10: "one token of ten from noise of the server's own",
    WARM: "served at temperature 1.1, logged as 1",
    FOUR_BITS: "weights rounded to 4 bits, groups of 32",
}


@dataclass(frozen=True, slots=True)
class Caught:
    """Tokens until the first alarm from each start; None where its bucket ended first."""

    tokens: tuple[int | None, ...]
    bucket: int

    def quantile(self, share: float) -> float:
        """The share of starts caught within so many; a bucket and one where it is more."""
        counts = [self.bucket + 1 if one is None else one for one in self.tokens]
        return float(np.quantile(counts, share, method="higher"))

    @property
    def missed(self) -> int:
        """Starts without an alarm."""
        return sum(one is None for one in self.tokens)


def pool_of(engine: str, cheat: str) -> Pool:
    """The cheat's answers: ten buckets of the longest limit it is held to."""
    longest = max(
        limit
        for (stack, name), limit in LIMITS.items()
        if name == cheat and (stack == engine or (stack == BF16 and engine == FP32))
    )
    return Pool(
        name=f"{engine}.{cheat}",
        engine=INT4 if cheat == FOUR_BITS else engine,
        batch=32 if engine == EXACT else 24,
        # A quarter more, so that a start that is caught late is still seen.
        tokens=max(LEAST, BUCKETS * longest * 5 // 4),
        serving=SERVINGS[cheat],
        temperatures=(1.0,) if cheat == WARM else (0.7, 1.0),
    )


def attackers(bench: Bench) -> dict[str, Figure]:
    """Tokens to alarm of each cheat on each stack, and alarms on honest tokens."""
    points = alarm_points(bench, (EXACT, FP32, BF16))
    figures: dict[str, Figure] = {}
    worst: dict[str, list[tuple[float, str]]] = {STEGO: [], DUTY10: []}
    for engine, stacks in ((EXACT, (EXACT,)), (FP32, (FP32, BF16))):
        for cheat in SERVINGS:
            if engine == EXACT and cheat == FOUR_BITS:
                continue
            scored = bench.scored(Pair(pool_of(engine, cheat), engine))
            for stack in (stack for stack in stacks if stack in points):
                caught = catch(tiers_of(scored, points[stack]), Null.of(points[stack]))
                figures[f"alarm.{stack}.{cheat}"] = _figure(stack, cheat, caught)
                if cheat in worst and stack != BF16:
                    worst[cheat].append((caught.quantile(0.95), stack))
    for stack, point in points.items():
        figures[f"alarm.{stack}.honest"] = _honest(bench, stack, point)
    for key, cheat, limit in (
        ("full_stego_tokens_to_alarm", STEGO, 30),
        ("duty10_tokens_to_alarm", DUTY10, 300),
    ):
        if worst[cheat]:
            value, stack = max(worst[cheat])
            figures[key] = at_most(
                value,
                limit,
                unit="tokens",
                n=STARTS,
                how=f"the worse of exact and fp32, {stack}: 95% of starts are caught by then; "
                f"{TOLD[cheat]}; false alarms at most {FALSE_ALARMS:g}",
            )
    return figures


def _figure(stack: str, cheat: str, caught: Caught) -> Figure:
    value = caught.quantile(0.95)
    how = (
        f"95% of {STARTS} starts are caught by then, half by {caught.quantile(0.5):.0f}; "
        f"{caught.missed} not within {caught.bucket}; {TOLD[cheat]}; false alarms at most "
        f"{FALSE_ALARMS:g}"
    )
    if stack == BF16:
        how += (
            "; fp32 answers at bf16's margin: its honest noise, not in them, would only flag more"
        )
    limit = LIMITS.get((stack, cheat))
    if limit is None:
        return report(value, unit="tokens", n=STARTS, how=how)
    return at_most(value, limit, unit="tokens", n=STARTS, how=how)


def tiers_of(scored: Sequence[Scored], point: Point) -> I64Array:
    """The tier of every token at that point, answer after answer."""
    parts = [tiers(one.scores, point.margin, point.rank) for one in scored]
    return np.concatenate(parts).astype(np.int64)


def catch(tier_N: I64Array, null: Null) -> Caught:
    """Start a fresh monitor at evenly spread places and count tokens until it alarms."""
    bucket = tier_N.size // BUCKETS
    starts = np.linspace(0, tier_N.size - bucket, STARTS).astype(int)
    return Caught(
        tuple(_tokens_to_alarm(tier_N[start : start + bucket], null) for start in starts), bucket
    )


def _tokens_to_alarm(tier_N: I64Array, null: Null) -> int | None:
    """Looks at flagged tokens only: safe ones never raise a stream's odds."""
    monitor, before = Monitor(false_alarms=FALSE_ALARMS), 0
    for place in map(int, np.flatnonzero(tier_N != SAFE)):
        counts = _counts(tier_N[before : place + 1])
        monitor, alarms = watch(monitor, _batch(null, counts))
        if alarms:
            return place + 1
        before = place + 1
    return None


def _honest(bench: Bench, stack: str, point: Point) -> Figure:
    """Alarms of a monitor that follows all held-out honest answers."""
    monitor = Monitor(false_alarms=FALSE_ALARMS)
    raised: list[Alarm] = []
    tokens = 0
    for one in bench.scored(main_pairs(bench.sizes)[stack]):
        if held_out(one.answer.prompt, SPLIT):
            tier_T = tiers_of([one], point)
            monitor, alarms = watch(monitor, _batch(Null.of(point), _counts(tier_T)))
            raised += alarms
            tokens += tier_T.size
    return at_most(
        len(raised),
        0,
        unit="alarms",
        n=tokens,
        how=f"on held-out honest tokens, looked at after every answer; margin {point.margin:g} "
        f"nats, rank {point.rank}",
    )


def _counts(tier_N: I64Array) -> Counts:
    sizes = np.bincount(tier_N, minlength=DANGEROUS + 1)
    return Counts(int(sizes[SAFE]), int(sizes[SUSPICIOUS]), int(sizes[DANGEROUS]))


def _batch(null: Null, counts: Counts) -> Batch:
    return Batch(replica="server", principal="client", null=null, counts=counts)
