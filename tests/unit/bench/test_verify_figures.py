"""Noise, leaks, cheats and speed, on models small enough for a test."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import exact_models
import float_models
import msgspec
import numpy as np
import pytest
import tiny_pair
import torch

from tidegate.bench import verify_attackers, verify_honest, verify_speed
from tidegate.bench.verify_attackers import BUCKETS, FALSE_ALARMS, catch
from tidegate.bench.verify_campaign import figures as campaign_figures
from tidegate.bench.verify_engines import BF16, EXACT, FP32, GROUP, Engines, to_four_bits
from tidegate.bench.verify_honest import Bench, Sizes, honest, leak, pick, skipped
from tidegate.bench.verify_replayed import MARGINS
from tidegate.bench.verify_work import Work
from tidegate.clock import ManualClock
from tidegate.errors import ModelError
from tidegate.models import tokenizer
from tidegate.models.cache import no_progress
from tidegate.models.transformers_torch import load
from tidegate.redteam.results import Result
from tidegate.verify.calibrate import NoiseProfile, Point
from tidegate.verify.sequential import Null

PROMPTS = tuple((f"p{n}", tuple(range(3 + n, 9 + n))) for n in range(12))
SIZES = Sizes(claims=700, bf16=1_000, few=2)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    source = float_models.write(folder / "source", float_models.config("llama", tied=False))
    return Bench(
        engines=Engines(
            {
                EXACT: lambda: exact_models.model_of(exact_models.shape_of()),
                FP32: lambda: load(source, dtype="float32", threads=1),
                BF16: lambda: load(source, dtype="bfloat16", threads=1),
            }
        ),
        prompts=PROMPTS,
        prompts_hash="made up",
        work=Work(folder / "work"),
        sizes=SIZES,
        clock=ManualClock(),
        hardware="a test",
        progress=no_progress,
    )


def test_honest_pairs_match_and_too_small_a_sample_claims_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_honest, "RANKS", (8,))
    figures = honest(bench)
    assert figures["honest.exact_to_exact.match"].value == 1
    assert figures["honest.exact_to_exact.worst_margin"].value == 0
    assert figures["honest.fp32_to_fp32.match"].value > 0.99
    assert 0.5 < figures["honest.bf16_to_fp32.match"].value < 1
    assert (
        figures["honest.bf16_to_fp32.worst_margin"].value
        > figures["honest.fp32_to_fp32.worst_margin"].value
    )
    assert figures["noise.exact.sigma"].value == 0
    assert figures["honest_tokens"].value >= SIZES.claims
    assert figures["honest_tokens"].holds is False  # 30,000 are wanted
    batched = {key for key in figures if ".batch" in key and key.endswith(".match")}
    assert {key.split(".")[1].split(".")[0] for key in batched} == {"fp32", "bf16"}
    assert len(skipped(bench.engines)) == 1

    found = leak(bench)
    assert not {"exact.leak_share", "fp32.leak_share"} & found.keys()
    assert found["exact.false_positive_rate"].holds is False
    value = found["bf16.leak_share_value"].value
    unchecked = found["bf16.leak_share_ends_unchecked"].value
    assert 0 < value < found["bf16.leak_share"].value < unchecked
    assert "bf16.frontier.0.03" in found


def profile(tokens: int, beyond: Callable[[float], int]) -> NoiseProfile:
    """A profile whose calibration half has so many tokens beyond each margin."""
    blank = msgspec.json.decode(
        b'{"events":0,"tokens":1,"sequences":1,"design_effect":1,"low":0,"high":1,"upper":1}'
    )
    mean = {"value": 0.0, "low": 0.0, "high": 0.0}
    points = [
        {
            "margin": margin,
            "rank": rank,
            "fitted_flagged": beyond(margin) / tokens,
            "fitted_dangerous": 0.0,
            "fitted_bits": margin + rank / 1e6,
            "flagged": blank,
            "suspicious": blank,
            "dangerous": blank,
            "value_bits": mean,
            "plain_bits": mean,
        }
        for margin in MARGINS
        for rank in (8, 2)
    ]

    class Stub:
        calibration_tokens = tokens

    stub = Stub()
    stub.points = msgspec.convert(points, tuple[Point, ...])  # type: ignore[attr-defined]
    return stub  # type: ignore[return-value]


def test_a_point_is_picked_that_the_calibration_half_can_carry() -> None:
    quiet = profile(40_000, lambda margin: 1_000 if margin < 1e-4 else 0)
    point = pick(quiet, 1e-4)
    assert point is not None
    # 1e-4 shows no exception, so the next one is taken; of its ranks the one that leaks less.
    assert (point.margin, point.rank) == (3e-4, 2)
    assert pick(profile(20_000, lambda _: 0), 1e-4) is None
    loud = profile(40_000, lambda margin: round(40_000 * math.exp(-margin / 0.02)))
    some = pick(loud, 1e-2)
    assert some is not None
    assert some.margin == 0.12  # e^-6 is below a hundredth, e^-4 above


def test_cheats_are_caught_early_and_honest_tokens_never() -> None:
    null = Null(1e-4, 1e-4)
    every = catch(np.full(1_000, 2), null)
    assert every.missed == 0
    assert every.quantile(0.95) <= 3
    none = catch(np.zeros(1_000, np.int64), null)
    assert none.missed == len(none.tokens)
    assert none.quantile(0.5) == 1_000 // BUCKETS + 1
    tenth_N = np.zeros(1_000, np.int64)
    tenth_N[::10] = 1
    tenth = catch(tenth_N, null)
    assert 10 < tenth.quantile(0.95) < 100
    # Fewer could not reach the odds: each flagged token pays at most the inverse of its null rate.
    assert tenth.quantile(0.0) > 10 * math.log(1 / FALSE_ALARMS) / math.log(1e4) - 10


def test_every_cheat_gets_a_pool_of_ten_buckets() -> None:
    for (stack, cheat), limit in verify_attackers.LIMITS.items():
        pool = verify_attackers.pool_of(EXACT if stack == EXACT else FP32, cheat)
        assert pool.tokens >= BUCKETS * limit
    assert verify_attackers.pool_of(FP32, verify_attackers.WARM).temperatures == (1.0,)


def test_four_bits_leave_fifteen_levels_and_the_shared_head_alone() -> None:
    linear, embedding = torch.nn.Linear(64, 8, bias=False), torch.nn.Embedding(16, 64)
    head = torch.nn.Linear(64, 16, bias=False)
    head.weight = embedding.weight
    before, shared = linear.weight.detach().clone(), head.weight.detach().clone()
    to_four_bits(torch.nn.ModuleList([linear, embedding, head]))
    after = linear.weight.detach()
    assert torch.equal(head.weight, shared)
    for group, was in zip(after.reshape(-1, GROUP), before.reshape(-1, GROUP), strict=True):
        assert len(torch.unique(group)) <= 15
        assert float((group - was).abs().max()) <= float(was.abs().max()) / 14 + 1e-6
        assert not torch.equal(group, was)


@pytest.fixture
def words(tmp_path: Path) -> tokenizer.FileTokenizer:
    tiny_pair.write_tokenizer(tmp_path)
    return tokenizer.load(tmp_path)


def tiny_engines(verifier: exact_models.ExactModel | None = None) -> Engines:
    model = exact_models.model_of(exact_models.shape_of())
    engines = Engines({EXACT: lambda: model, FP32: lambda: model})
    if verifier is not None:
        other = Engines({EXACT: lambda: verifier})
        engines.replay = lambda name: other.replay(EXACT)  # type: ignore[method-assign]
    return engines


def test_the_same_tokens_are_generated_and_verified(words: tokenizer.FileTokenizer) -> None:
    words.eos_ids = frozenset({2})  # the small model's
    figures = verify_speed.measure(
        tiny_engines(), words, PROMPTS, floats=FP32, turns=2, tokens=12, progress=no_progress
    )
    assert figures["verify_over_generate"] == figures["verify_over_generate.fp32"]
    assert figures["verify_over_generate.exact"].n == 2
    assert all(figure.target == "<= 0.25" for figure in figures.values())


def test_a_verifier_that_disagrees_is_not_timed(words: tokenizer.FileTokenizer) -> None:
    words.eos_ids = frozenset({2})
    shape = exact_models.shape_of()
    weights = exact_models.tensors(shape)
    name = next(name for name in weights if weights[name].ndim == 2)
    weights[name] = -weights[name]
    engines = tiny_engines(exact_models.model_of(shape, weights=weights))
    with pytest.raises(ModelError, match="did not verify"):
        verify_speed.measure(
            engines, words, PROMPTS, floats=FP32, turns=1, tokens=12, progress=no_progress
        )


def result(attack: str, got: float, *, caught: float | None) -> Result:
    return Result(
        attack=attack,
        world="exact",
        says="says something",
        tokens=100,
        bits_sent=60.0,
        bits_received=50.0,
        caught_by=None if caught is None else "sequential test",
        tokens_to_alarm=caught,
        runs=8,
        got=got,
        bound="counting",
        bound_bits=10.0,
        within_bound=got <= 10,
        must_catch=True,
        limit=30,
    )


def test_a_campaign_counts_who_got_more_than_the_bound_and_who_was_late() -> None:
    figures = campaign_figures(
        [
            result("good", 3.0, caught=20.0),
            result("slow", 9.0, caught=40.0),
            result("never", 30.0, caught=None),
        ]
    )
    assert figures["attackers_above_bound"].value == 1
    assert "exact.never" in figures["attackers_above_bound"].how
    assert figures["attackers_caught_late"].value == 2
    assert figures["campaign.exact.good"].value == 0.5
    assert "never stopped" in figures["campaign.exact.never"].how
