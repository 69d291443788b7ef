from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.models.exact.calibrate import (
    EIGHTHS,
    calibration_prompts,
    calibration_texts,
    power,
    smoothing,
)
from tidegate.models.exact.ops_numpy import product, quantise
from tidegate.models.exact.weights import integer_rows
from tidegate.models.tokenizer import FileTokenizer, load


@pytest.fixture
def words(tmp_path) -> FileTokenizer:
    import tiny_pair

    tiny_pair.write_tokenizer(tmp_path)
    return load(tmp_path)


def rows(count: int, size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)


def error(x_NK: np.ndarray, w_OK: np.ndarray, smooth_K: np.ndarray) -> float:
    x, (q_OK, scale_O) = quantise(x_NK / smooth_K), integer_rows(w_OK * smooth_K)
    found_NO = product(x.q, q_OK) * x.scale[:, None].astype(np.float64) * scale_O
    return float(np.square(found_NO - x_NK.astype(np.float64) @ w_OK.T).sum())


def test_an_outlier_channel_costs_the_others_less_once_smoothed() -> None:
    x_NK, w_OK = rows(64, 40, 1), rows(24, 40, 2)
    x_NK[:, 7] *= 80
    smooth_K = smoothing(x_NK, w_OK, EIGHTHS)
    assert error(x_NK, w_OK, smooth_K) < 0.2 * error(x_NK, w_OK, np.ones(40, np.float32))


def test_the_choice_is_the_candidate_with_the_least_error() -> None:
    x_NK, w_OK = rows(64, 40, 3), rows(24, 40, 4)
    x_NK[:, 5] *= 30
    chosen = error(x_NK, w_OK, smoothing(x_NK, w_OK, EIGHTHS))
    alone = [error(x_NK, w_OK, smoothing(x_NK, w_OK, [eighth])) for eighth in EIGHTHS]
    assert chosen == pytest.approx(min(alone), rel=1e-3)


def test_alpha_zero_leaves_everything_as_it_is() -> None:
    assert (smoothing(rows(9, 8, 5), rows(7, 8, 6), [0]) == 1).all()


def test_channels_that_carry_one_value_share_one_number() -> None:
    group_K = np.array([0, 1, 0, 1, 4, 5, 4, 5])
    smooth_K = smoothing(rows(9, 8, 7), rows(7, 8, 8), [4], group_K)
    assert (smooth_K == smooth_K[group_K]).all()
    assert len(set(smooth_K.tolist())) == 4


@pytest.mark.parametrize("silent", ["inputs", "weights", "both"])
def test_a_channel_of_zeros_gives_no_infinity(silent: str) -> None:
    x_NK, w_OK = rows(9, 8, 9), rows(7, 8, 10)
    if silent != "weights":
        x_NK[:, 3] = 0
    if silent != "inputs":
        w_OK[:, 3] = 0
    for eighth in EIGHTHS:
        smooth_K = smoothing(x_NK, w_OK, [eighth])
        assert np.isfinite(smooth_K).all()
        assert (smooth_K >= 2.0**-12).all()


def test_a_product_of_nothing_but_zeros_is_smoothed_by_ones() -> None:
    smooth_K = smoothing(np.zeros((4, 8), np.float32), np.zeros((3, 8), np.float32), EIGHTHS)
    assert np.isfinite(smooth_K).all()


@given(st.floats(1e-20, 1e20), st.sampled_from(EIGHTHS))
def test_powers_come_from_square_roots(base: float, eighth: int) -> None:
    assert power(np.array([base]), eighth)[0] == pytest.approx(base ** (eighth / 8), rel=1e-14)


def test_calibration_leaves_half_of_the_prompts_to_measure_with() -> None:
    from tidegate.bench.prompts import read

    everything = read(None)
    seen = {prompt.id for prompt in calibration_prompts()}
    assert len(everything) // 2 <= len(seen) <= len(everything) // 2 + 1
    assert seen < {prompt.id for prompt in everything}


def test_calibration_text_is_as_long_as_asked_and_from_every_source(words: FileTokenizer) -> None:
    texts = calibration_texts(words, limit=5_000)
    assert sum(map(len, texts)) == 5_000
    assert texts == calibration_texts(words, limit=5_000)
    assert calibration_texts(words, limit=1_000)[0] == texts[0]


def test_a_model_without_a_chat_template_is_calibrated_on_bare_text(tmp_path) -> None:
    import tiny_pair

    tiny_pair.write_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    assert sum(map(len, calibration_texts(load(tmp_path), limit=300))) == 300
