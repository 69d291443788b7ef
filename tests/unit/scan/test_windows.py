from __future__ import annotations

import pytest
import scan_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.bench.scan_formats import FORMATS, WRAPPINGS
from tidegate.scan import seen, windows
from tidegate.scan.calibration import WEIGHING, Calibration
from tidegate.scan.lanes import looks_like_json


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(
        st.binary(min_size=256, max_size=1200),
        st.lists(
            st.sampled_from([b"abcdefg", b"1234567890", b"\0\0\0\0", b"x"]),
            min_size=260,
            max_size=300,
        ).map(b"".join),
    )
)
def test_the_kernel_measures_what_the_reference_defines(data: bytes) -> None:
    measured = [float(column[0]) for column in windows.measure(data, len(data))]
    assert measured == pytest.approx(windows.measure_slowly(data), abs=1e-3)


def test_each_window_is_measured_by_itself() -> None:
    parts = [scan_bytes.prose(1024), scan_bytes.random(1024), bytes(1024)]
    together = windows.measure(b"".join(parts) + b"rest", 1024)
    alone = [windows.measure(part, 1024) for part in parts]
    assert together.cost_W.tolist() == [float(one.cost_W[0]) for one in alone]
    assert together.binary_W.tolist() == [float(one.binary_W[0]) for one in alone]


@pytest.mark.parametrize("window", [255, 65_537])
def test_a_window_of_an_odd_size_is_refused(window: int) -> None:
    with pytest.raises(ValueError, match="256 to 65536"):
        windows.measure(bytes(100_000), window)


@pytest.mark.parametrize("wrapping", ["raw", "base64", "zstd", "encrypted"])
@pytest.mark.parametrize("form", FORMATS)
def test_weights_in_every_format_score_above_the_line(form: str, wrapping: str) -> None:
    data = WRAPPINGS[wrapping](FORMATS[form](scan_bytes.weights()))
    score_W = WEIGHING.score(windows.measure(data, 4096))
    assert (score_W > Calibration().threshold).mean() > 0.97


def test_text_scores_below_the_line() -> None:
    score_W = WEIGHING.score(windows.measure(scan_bytes.prose(1 << 18), 4096))
    assert score_W.max() < Calibration().threshold


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=2, max_size=24), st.integers(0, 4096))
def test_no_window_that_is_loud_or_dull_is_settled_as_plain_text(
    alphabet: list[int], text: int
) -> None:
    # From prose to random letters of an alphabet, whole or in part: both sides of every line.
    letters = bytes(alphabet[value % len(alphabet)] for value in scan_bytes.random(4096))
    data = scan_bytes.prose(text) + letters[text:]
    measures = windows.measure(data, 4096)
    loud = WEIGHING.score(measures)[0] > Calibration().line(4096)
    if seen.settled(measures, Calibration().line(4096)):
        assert not loud
        assert not seen.is_dull(measures)[0]


def test_plain_prose_is_settled() -> None:
    measures = windows.measure(scan_bytes.prose(65_536), 4096)
    assert seen.settled(measures, Calibration().line(4096))


@given(st.binary(max_size=1000))
def test_counting_and_finding_do_what_bytes_do(data: bytes) -> None:
    data += b"ab" * (len(data) % 300)
    assert windows.binary_bytes(data) == sum(windows.is_binary(value) for value in data)
    assert windows.find(data, b"ba") == data.find(b"ba")
    assert looks_like_json(data + b'":') == (2048 * (data + b'":').count(b'":') > len(data) + 2)
