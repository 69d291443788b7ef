from __future__ import annotations

import pytest
import scan_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.bench.scan_formats import FORMATS, WRAPPINGS
from tidegate.scan import windows
from tidegate.scan.calibration import WEIGHING, Calibration


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
