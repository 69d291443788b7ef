"""What travels to the plug-in comes back as it was, and nothing else is accepted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.models.vllm_contract import (
    MEANING,
    SEED_KEY,
    VERSION_KEY,
    Draw,
    Refusal,
    RefusedError,
    extra_args,
    read,
    require_version,
)
from tidegate.sampling.params import SamplingParams

SEED = bytes(range(32))


@given(
    st.builds(
        SamplingParams,
        temperature=st.floats(0, 2),
        top_k=st.integers(0, 2**31 - 1),
        top_p=st.floats(1e-9, 1),
        min_p=st.floats(0, 1),
        presence_penalty=st.floats(-2, 2),
        frequency_penalty=st.floats(-2, 2),
        repetition_penalty=st.floats(0.01, 100),
        logit_bias=st.dictionaries(st.integers(0, 2**31 - 1), st.floats(-100, 100), max_size=4).map(
            lambda biases: tuple(sorted(biases.items()))
        ),
    ),
    st.binary(min_size=32, max_size=32),
)
def test_every_draw_survives_the_way_through_json(params: SamplingParams, seed: bytes) -> None:
    draw = Draw(params=params, seed=seed)
    assert read(json.loads(json.dumps(extra_args(draw)))) == draw


def test_a_greedy_draw_needs_no_seed() -> None:
    draw = Draw(params=SamplingParams(temperature=0.0), seed=b"")
    assert read(extra_args(draw)) == draw


def test_arguments_of_others_are_none_of_ours() -> None:
    assert read(None) is None
    assert read({"kv_transfer_params": {}, "seed": 5}) is None


SOUND: dict[str, Any] = dict(extra_args(Draw(params=SamplingParams(), seed=SEED)))


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({VERSION_KEY: 2}, Refusal.CONTRACT_VERSION),
        ({VERSION_KEY: True}, Refusal.CONTRACT_VERSION),
        ({VERSION_KEY: "1"}, Refusal.CONTRACT_VERSION),
        ({SEED_KEY: "00" * 16}, Refusal.SEED),
        ({SEED_KEY: "0 " * 32}, Refusal.SEED),
        ({SEED_KEY: "0G" * 32}, Refusal.SEED),
        ({SEED_KEY: "AB" * 32}, Refusal.SEED),
        ({SEED_KEY: 7}, Refusal.SEED),
        ({SEED_KEY: ""}, Refusal.SEED),
        ({"tidegate_top_q": 1}, Refusal.UNKNOWN_ARGUMENT),
        ({"tidegate_logit_bias": {}}, Refusal.UNKNOWN_ARGUMENT),
        ({"tidegate_top_p": 0}, Refusal.PARAMETER),
        ({"tidegate_top_p": "0.5"}, Refusal.PARAMETER),
        ({"tidegate_top_p": float("nan")}, Refusal.PARAMETER),
        ({"tidegate_top_k": 1.0}, Refusal.PARAMETER),
        ({"tidegate_top_k": True}, Refusal.PARAMETER),
        ({"tidegate_temperature": 2.5}, Refusal.PARAMETER),
        ({"tidegate_temperature": None}, Refusal.PARAMETER),
        ({"tidegate_bias_ids": [1]}, Refusal.PARAMETER),
        ({"tidegate_bias_ids": [2, 1], "tidegate_bias_values": [1.0, 1.0]}, Refusal.PARAMETER),
        ({"tidegate_bias_ids": [True], "tidegate_bias_values": [1.0]}, Refusal.PARAMETER),
        ({"tidegate_bias_ids": "a", "tidegate_bias_values": "b"}, Refusal.PARAMETER),
        ({"tidegate_bias_ids": [1], "tidegate_bias_values": [1e9]}, Refusal.PARAMETER),
    ],
)
def test_anything_else_is_refused_by_name(changed: dict[str, Any], refusal: Refusal) -> None:
    with pytest.raises(RefusedError) as caught:
        read(SOUND | changed)
    assert caught.value.refusal is refusal
    assert str(caught.value).startswith(f"tidegate refuses {refusal}: ")


def test_without_a_version_nothing_is_guessed() -> None:
    with pytest.raises(RefusedError) as caught:
        read({SEED_KEY: SEED.hex()})
    assert caught.value.refusal is Refusal.CONTRACT_VERSION


def test_a_refusal_does_not_repeat_the_seed() -> None:
    with pytest.raises(RefusedError) as caught:
        read(SOUND | {SEED_KEY: SEED.hex() + "00"})
    assert SEED.hex() not in str(caught.value.diagnostics())


@pytest.mark.parametrize("seed", [bytes(16), bytes(33), b""])
def test_a_seed_of_another_length_is_not_sent(seed: bytes) -> None:
    with pytest.raises(RefusedError):
        extra_args(Draw(params=SamplingParams(), seed=seed))


def test_every_refusal_says_what_it_means() -> None:
    assert set(MEANING) == set(Refusal)


def test_only_measured_versions_pass() -> None:
    require_version("0.32.0")
    require_version("0.32.0+cpu")
    require_version("0.33.0", accepted="0.33.0")
    for version, accepted in (("0.32.1", ""), ("0.33.0+cpu", "0.33.0"), ("dev", ""), ("", "")):
        with pytest.raises(RefusedError) as caught:
            require_version(version, accepted)
        assert caught.value.refusal is Refusal.ENGINE_VERSION
