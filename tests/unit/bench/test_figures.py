from __future__ import annotations

import io

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tidegate.bench.figures import Figure, Result, at_least, at_most, machine, report
from tidegate.bench.serve import Cell, Pass
from tidegate.bench.serve_figures import figures
from tidegate.errors import TidegateError

FIELDS = {"unit": "ratio", "n": 1, "how": "counted [carefully]"}


@given(value=st.floats(allow_nan=False, allow_infinity=False), limit=st.floats(-10, 10))
def test_a_figure_holds_up_to_and_with_its_limit(value: float, limit: float):
    assert at_most(value, limit, **FIELDS).holds == (value <= limit)
    assert at_least(value, limit, **FIELDS).holds == (value >= limit)
    assert report(value, **FIELDS).holds is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_never_becomes_json_and_nan_never_holds(value: float):
    result = Result("bench", {"bad": report(value, **FIELDS)}, machine={})
    with pytest.raises(TidegateError, match="bad"):
        result.to_json()
    assert at_most(float("nan"), 1.0, **FIELDS).holds is False
    assert at_least(float("nan"), 1.0, **FIELDS).holds is False


def test_numpys_numbers_become_json():
    values = (np.float64(0.5), np.float32(0.5), np.int64(1))
    for make in (at_most, at_least):
        result = Result("b", {str(i): make(v, 1.0, **FIELDS) for i, v in enumerate(values)}, {})
        decoded = msgspec.json.decode(result.to_json())
        assert [figure["value"] for figure in decoded["figures"].values()] == [0.5, 0.5, 1.0]


def test_the_json_object_has_the_shape_all_benches_share():
    result = Result("bench", {"a": at_most(2.0, 1.0, **FIELDS), "b": report(3.0, **FIELDS)})
    decoded = msgspec.json.decode(result.to_json())
    assert set(decoded) == {"name", "machine", "figures"}
    assert set(decoded["figures"]["a"]) == set(Figure.__struct_fields__)
    assert decoded["machine"] == machine()
    assert not result.holds()
    stream = io.StringIO()
    result.print(Console(file=stream, width=200))
    assert "<= 1" in stream.getvalue()
    assert "counted [carefully]" in stream.getvalue()


def cell(streams: int, length: int, bits: int, ideal: float) -> Cell:
    return Cell(streams, length, streams * length, 2.0, bits, ideal, 10**8, 10**7)


def test_speed_is_a_median_of_pairs_and_framing_what_crossed_over_the_ideal():
    pairs = [
        (Pass(100, 1.0, 0.10), Pass(100, 1.0 / speed, 0.10 / speed)) for speed in (0.5, 0.9, 3.0)
    ]
    cells = [
        cell(1, 64, 110, 100.0),
        cell(1, 256, 210, 200.0),
        cell(32, 64, 1020, 1000.0),
    ]
    found = figures({1: pairs, 32: pairs}, cells)
    assert found["throughput_over_direct"].value == pytest.approx(0.9)
    assert found["ttft_over_direct"].value == pytest.approx(0.9)
    assert found["throughput_over_direct.1"].holds
    assert found["framing_overhead_32"].value == pytest.approx(0.02)
    assert found["framing_overhead_1"].value == pytest.approx(20 / 300)
    assert found["framing_overhead_1"].holds is None
    tokens = 64 + 256 + 32 * 64
    assert found["bits_per_token"].value == pytest.approx(1340 / tokens)
    assert Result("serve", found).to_json()
