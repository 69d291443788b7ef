"""How honest machines differ, and what an attacker could hide in the difference.

Pairs of stacks: one serves real prompts with seeds of their own, the other reads the answers again.
Profiles are fitted on one half of the prompts and counted on the other. A point is picked on the
first half alone; what is printed of it is what the second half shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tidegate import __version__
from tidegate.bench.figures import Figure, at_least, at_most, report
from tidegate.bench.verify_answers import MAX_TOKENS, TEMPERATURES, Block, Pool, serve
from tidegate.bench.verify_engines import BF16, EXACT, FP32, LLAMA, Engines
from tidegate.bench.verify_replayed import MARGINS, Scored, by_prompt, replay_blocks
from tidegate.bench.verify_work import Work
from tidegate.clock import Clock
from tidegate.models.cache import Progress
from tidegate.models.port import Model
from tidegate.verify.bounds import Ending, LeakBound, point_bound
from tidegate.verify.calibrate import (
    NoiseProfile,
    Point,
    Provenance,
    Stack,
    alarm_point,
    measure,
)
from tidegate.verify.calibrate_intervals import clopper_pearson, upper_bound

RANKS = (2, 8, 32, 128)
SPLIT = b"tidegate bench verify: which half"

CLAIMS = {EXACT: 1e-4, FP32: 1e-4, BF16: 1e-2}
"""The share of honest tokens a stack's point may flag. arXiv 2511.02620 states its own figure at
one in a hundred; bf16 is held beside that."""

MOST_LEAK = 0.005
"""Of log2 V; arXiv 2511.02620 states less than that for its bf16."""

HONEST_TOKENS = 30_000
FRONTIER = (3e-2, 1e-2, 3e-3, 1e-3)


class Pair(NamedTuple):
    """What serves, and which stack verifies."""

    pool: Pool
    verifier: str

    @property
    def name(self) -> str:
        """Such as `fp32.batch8_to_fp32`."""
        return f"{self.pool.name}_to_{self.verifier}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Tokens to make. `claims`: for a claim of 0.01%, which half of them has to carry; `bf16` for
    one of 1%; `few` a stream, where only the match rate is wanted."""

    claims: int = 66_000
    bf16: int = 6_144
    few: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all parts share."""

    engines: Engines
    prompts: tuple[tuple[str, tuple[int, ...]], ...]
    prompts_hash: str
    work: Work
    sizes: Sizes
    clock: Clock
    hardware: str
    progress: Progress
    profiles: dict[str, NoiseProfile] = field(default_factory=dict)
    """Those measured so far, by the pair's name."""

    def blocks(self, pool: Pool) -> list[Block]:
        """The answers of a pool."""
        return serve(pool, self.engines.model(pool.engine), self.prompts, self.work, self.progress)

    def scored(self, pair: Pair) -> list[Scored]:
        """The answers of a pair, scored."""
        blocks = self.blocks(pair.pool)
        replay = self.engines.replay(pair.verifier)
        return replay_blocks(pair.name, blocks, replay, self.work, self.progress)


def main_pairs(sizes: Sizes) -> dict[str, Pair]:
    """The pairs that claims are made of, by the name of their stack."""
    exact = Pool(name=EXACT, engine=EXACT, batch=32, tokens=sizes.claims)
    fp32 = Pool(name=FP32, engine=FP32, batch=24, tokens=sizes.claims)
    bf16 = Pool(name=BF16, engine=BF16, batch=8, tokens=sizes.bf16)
    return {EXACT: Pair(exact, EXACT), FP32: Pair(fp32, FP32), BF16: Pair(bf16, BF16)}


def other_pairs(sizes: Sizes, engines: Engines) -> list[Pair]:
    """Pairs whose match rate is printed beside those."""

    def batched(engine: str, batch: int) -> Pair:
        name, tokens = f"{engine}.batch{batch}", batch * sizes.few
        return Pair(Pool(name=name, engine=engine, batch=batch, tokens=tokens), engine)

    pairs = [
        Pair(main_pairs(sizes)[BF16].pool, FP32),
        *(batched(FP32, batch) for batch in (1, 8)),
        *(batched(BF16, batch) for batch in (1, 24)),
    ]
    if LLAMA in engines:
        llama = Pool(name=LLAMA, engine=LLAMA, batch=8, tokens=8 * sizes.few)
        pairs += [Pair(llama, FP32), Pair(batched(FP32, 8).pool, LLAMA)]
    return pairs


def profile_of(bench: Bench, pair: Pair) -> NoiseProfile:
    """The pair's noise profile; also kept in the work folder."""
    if pair.name in bench.profiles:
        return bench.profiles[pair.name]
    served, verifier = (bench.engines.model(e) for e in (pair.pool.engine, pair.verifier))
    profile = measure(
        by_prompt(bench.scored(pair)),
        margins=MARGINS,
        ranks=RANKS,
        served=_stack(served, pair.pool.engine, f"{pair.pool.batch} streams", bench.hardware),
        verifier=_stack(verifier, pair.verifier, "one forced pass", bench.hardware),
        sampling=f"Gumbel-max, temperatures {', '.join(map(str, TEMPERATURES))}, no filters",
        vocab_size=served.vocab_size,
        provenance=Provenance(
            command="tidegate bench verify --only honest",
            version=__version__,
            prompts=bench.prompts_hash,
            made=bench.clock.now(),
            split_seed=SPLIT.hex(),
        ),
        seed=SPLIT,
    )
    bench.work.keep(f"profile-{pair.name}.json", profile.encode())
    bench.profiles[pair.name] = profile
    return profile


def honest(bench: Bench) -> dict[str, Figure]:
    """Match rates and noise of every pair."""
    figures: dict[str, Figure] = {}
    mains = main_pairs(bench.sizes)
    counted: list[int] = []
    for pair in (*mains.values(), *other_pairs(bench.sizes, bench.engines)):
        scored = bench.scored(pair)
        served_N = np.concatenate([np.array(one.answer.output_ids) for one in scored])
        expected_N = np.concatenate([one.scores.expected_T for one in scored])
        margin_N = np.concatenate([one.scores.boundary_margin_T for one in scored])
        same, tokens = int((served_N == expected_N).sum()), int(served_N.size)
        interval = clopper_pearson(same, tokens)
        how = (
            f"{len(scored)} answers, batch {pair.pool.batch}; served tokens that re-execution "
            f"draws, {interval.low:.4%} to {interval.high:.4%} if tokens were independent"
        )
        figures[f"honest.{pair.name}.match"] = (
            at_least(same / tokens, 1.0, unit="of tokens", n=tokens, how=how)
            if pair == mains[EXACT]
            else report(same / tokens, unit="of tokens", n=tokens, how=how)
        )
        worst = float(margin_N[np.isfinite(margin_N)].max(initial=0.0))
        figures[f"honest.{pair.name}.worst_margin"] = report(
            worst,
            unit="nats",
            n=tokens,
            how=f"largest margin of an honest token; {int(np.isinf(margin_N).sum())} beyond "
            f"{MARGINS[-1]:g} are not counted in",
        )
        if pair in (mains[EXACT], mains[FP32]):
            counted.append(tokens)
    for name, pair in mains.items():
        figures |= _noise(name, profile_of(bench, pair))
    figures["honest_tokens"] = at_least(
        min(counted),
        HONEST_TOKENS,
        unit="tokens",
        n=sum(counted),
        how="of exact and of fp32, the lesser; real prompts, a seed an answer; half of the prompts "
        "to calibrate, half to count",
    )
    return figures


def _noise(name: str, profile: NoiseProfile) -> dict[str, Figure]:
    mismatch, burst = profile.mismatch, profile.burst
    told = "no mismatch, so none" if profile.sigma is None else "if it is normal"
    quantiles = ", ".join(
        f"{share:g}: {'beyond' if margin is None else format(margin, '.2g')}"
        for share, margin in profile.quantiles
    )
    return {
        f"noise.{name}.mismatch": report(
            mismatch.share,
            unit="of tokens",
            n=mismatch.tokens,
            how=f"held-out half, {mismatch.low:.3g} to {mismatch.high:.3g}; design effect "
            f"{mismatch.design_effect:.2f}; within 16 tokens of another: "
            f"{'none' if burst is None else format(burst.share, '.3g')}",
        ),
        f"noise.{name}.sigma": report(
            profile.sigma or 0.0,
            unit="nats",
            n=profile.calibration_tokens,
            how=f"of one logit, {told}; margins that a share of tokens keeps within: {quantiles}",
        ),
    }


def pick(profile: NoiseProfile, rate: float) -> Point | None:
    """The point of least leak that the calibration half shows to flag at most `rate` of tokens.

    Where no calibration token lies beyond a margin, the next wider one is taken: the largest of one
    half is as likely as not to be exceeded in the other. None where the half cannot show so little.
    """
    tokens = profile.calibration_tokens
    shown = [
        margin
        for margin in sorted({point.margin for point in profile.points})
        if _flagged(profile, margin) <= rate
        and upper_bound(round(_flagged(profile, margin) * tokens), tokens) <= rate
    ]
    if not shown:
        return None
    if len(shown) > 1 and _flagged(profile, shown[0]) == 0:
        del shown[0]
    within = [point for point in profile.points if point.margin in shown]
    return min(within, key=lambda point: point.fitted_bits)


def _flagged(profile: NoiseProfile, margin: float) -> float:
    return max(point.fitted_flagged for point in profile.points if point.margin == margin)


def leak(bench: Bench) -> dict[str, Figure]:
    """The bound of every stack at its claim, and bf16's frontier."""
    figures: dict[str, Figure] = {}
    for name, pair in main_pairs(bench.sizes).items():
        profile = profile_of(bench, pair)
        length = np.mean([len(one.answer.output_ids) for one in bench.scored(pair)])
        point = pick(profile, CLAIMS[name])
        if point is None:
            figures[f"{name}.false_positive_rate"] = at_most(
                upper_bound(0, profile.calibration_tokens),
                CLAIMS[name],
                unit="of tokens",
                n=profile.tokens,
                how="too few tokens for any claim as small; make more",
            )
            continue
        figures |= _shares(name, profile, point, float(length))
        if name == BF16:
            figures |= _frontier(name, profile, float(length))
    return figures


def _shares(name: str, profile: NoiseProfile, point: Point, length: float) -> dict[str, Figure]:
    bounds = {
        checked: point_bound(
            point,
            profile.vocab_size,
            Ending(tokens_a_message=length, max_tokens=MAX_TOKENS, verified=checked),
        )
        for checked in (True, False)
    }
    flagged = point.flagged
    point_told = f"margin {point.margin:g} nats, rank {point.rank}"
    value = LeakBound(
        value_bits=bounds[True].value_bits,
        flagged_bits=bounds[True].flagged_bits,
        position_bits=0.0,
        length_bits=0.0,
        vocab_size=profile.vocab_size,
    )
    whole = bounds[True]
    how = (
        f"upper ends at 95% on {profile.tokens} held-out tokens at {point_told}; bits a token: "
        f"value {whole.value_bits:.3g}, flagged {whole.flagged_bits:.3g}, position "
        f"{whole.position_bits:.3g}, length {whole.length_bits:.3g}, where answers of "
        f"{length:.0f} tokens end re-executed as well; {1 / whole.share:.0f} times slower than "
        "unchecked"
    )
    limited = name != BF16
    return {
        f"{name}.leak_share": at_most(
            whole.share, MOST_LEAK, unit="of log2 V", n=profile.tokens, how=how
        )
        if limited
        else report(
            whole.share,
            unit="of log2 V",
            n=profile.tokens,
            how=f"{how}; published at this rate of false positives, position not counted: "
            f"{MOST_LEAK:g} (arXiv 2511.02620, a model of 30B)",
        ),
        f"{name}.leak_share_ends_unchecked": report(
            bounds[False].share,
            unit="of log2 V",
            n=profile.tokens,
            how="the same as if nobody checked where answers end, as with what a client cancels",
        ),
        f"{name}.leak_share_value": report(
            value.share,
            unit="of log2 V",
            n=profile.tokens,
            how="the same without position and length: the column that is published",
        ),
        f"{name}.false_positive_rate": at_most(
            flagged.upper,
            CLAIMS[name],
            unit="of tokens",
            n=profile.tokens,
            how=f"upper end at 95%: {flagged.events} of {flagged.tokens} held-out tokens beyond "
            f"the margin, design effect {flagged.design_effect:.2f}",
        ),
    }


def _frontier(name: str, profile: NoiseProfile, length: float) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for rate in FRONTIER:
        point = pick(profile, rate)
        if point is None:
            continue
        ending = Ending(tokens_a_message=length, max_tokens=MAX_TOKENS, verified=True)
        bound = point_bound(point, profile.vocab_size, ending)
        value = (bound.value_bits + bound.flagged_bits) / np.log2(profile.vocab_size)
        figures[f"{name}.frontier.{rate:g}"] = report(
            float(value),
            unit="of log2 V",
            n=profile.tokens,
            how=f"value only, with {point.flagged.upper:.3g} of honest tokens flagged at most; "
            f"with position {bound.share:.4f}; margin {point.margin:g}, rank {point.rank}",
        )
    return figures


def skipped(engines: Engines) -> Sequence[str]:
    """What cannot be measured here, a sentence each."""
    if LLAMA in engines:
        return ()
    return (
        "llama.cpp is not installed (tidegate[llama]): its pairs with transformers are left out",
    )


def alarm_points(bench: Bench, names: Sequence[str]) -> Mapping[str, Point]:
    """The point that alarms go by, of each stack that carries its claim."""
    found: dict[str, Point] = {}
    for name in names:
        profile = profile_of(bench, main_pairs(bench.sizes)[name])
        point = pick(profile, CLAIMS[name])
        if point is not None:
            found[name] = alarm_point(profile, point.rank)
    return found


def _stack(model: Model, engine: str, batch: str, hardware: str) -> Stack:
    info = model.describe()
    return Stack(
        model=model.fingerprint,
        engine=engine,
        dtype=engine,
        batch=batch,
        hardware=hardware,
        numerics=info.numerics,
    )
