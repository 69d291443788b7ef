from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tidegate.models.exact.rotation import tables


@pytest.mark.parametrize(("size", "theta"), [(64, 10_000.0), (64, 1e6), (128, 1e6), (2, 500.0)])
def test_rotations_are_the_cosines_and_sines_they_are_said_to_be(size: int, theta: float) -> None:
    cos_TR, sin_TR = tables(300, size, theta)
    angles_TR = np.arange(300)[:, None] * theta ** (-2 * np.arange(size // 2) / size)
    # Half a unit in the last place, and what float64's own cosine is off by.
    np.testing.assert_allclose(cos_TR, np.cos(angles_TR), rtol=0, atol=2.0**-25 + 1e-12)
    np.testing.assert_allclose(sin_TR, np.sin(angles_TR), rtol=0, atol=2.0**-25 + 1e-12)
    assert cos_TR.dtype == sin_TR.dtype == np.float32


def test_a_far_position_is_as_precise_as_a_near_one() -> None:
    cos_TR, sin_TR = tables(20_000, 4, 10_000.0)
    length_TR = cos_TR.astype(np.float64) ** 2 + sin_TR.astype(np.float64) ** 2
    assert abs(length_TR - 1).max() < 2.0**-23
    assert cos_TR[-1, 0] == np.float32(np.cos(19_999.0))


def test_rotations_are_these_bytes_on_every_machine() -> None:
    cos_TR, sin_TR = tables(257, 32, 10_000.0)
    digest = hashlib.sha256(cos_TR.tobytes() + sin_TR.tobytes()).hexdigest()
    assert digest == "56bb4d9972c3ab841cbec5bf260d602289a61d71702b6f9a654a7619c02faba9"
