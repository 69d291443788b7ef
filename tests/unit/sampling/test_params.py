"""Parameters are refused when out of range, and their encoding tells different values apart."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.sampling.params import InvalidParamsError, SamplingParams


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_k", 2**31),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", math.inf),
        ("logit_bias", ((3, 101.0),)),
        ("logit_bias", ((3, math.nan),)),
        ("logit_bias", ((3, 1.0), (3, 2.0))),
        ("logit_bias", ((4, 1.0), (3, 2.0))),
        ("logit_bias", ((-1, 1.0),)),
        ("logit_bias", ((2**31, 1.0),)),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidParamsError) as caught:
        SamplingParams(**{name: value})  # type: ignore[arg-type]
    assert caught.value.diagnostics()["parameter"] == name


params = st.builds(
    SamplingParams,
    temperature=st.floats(0.0, 2.0),
    top_k=st.integers(0, 2**31 - 1),
    top_p=st.floats(1e-9, 1.0),
    min_p=st.floats(0.0, 1.0),
    logit_bias=st.dictionaries(st.integers(0, 9), st.floats(-100, 100), max_size=3).map(
        lambda biases: tuple(sorted(biases.items()))
    ),
)


@given(params, params)
def test_different_parameters_never_share_an_encoding(
    first: SamplingParams, second: SamplingParams
) -> None:
    if first != second:
        assert first.canonical() != second.canonical()


@given(params)
def test_the_encoding_is_read_back(value: SamplingParams) -> None:
    assert SamplingParams.from_canonical(value.canonical()) == value


@pytest.mark.parametrize("cut", [0, 1, 8, 55, 56, 63])
def test_another_encoding_is_no_parameters(cut: int) -> None:
    raw = SamplingParams(logit_bias=((3, 1.0),)).canonical()
    for other in (raw[:cut], raw + b"x", raw + raw[-16:], raw[:-16]):
        with pytest.raises(InvalidParamsError):
            SamplingParams.from_canonical(other)


def test_an_integer_and_the_equal_float_encode_alike() -> None:
    assert SamplingParams(temperature=1).canonical() == SamplingParams(temperature=1.0).canonical()
