"""ln Φ to the last digits, from deep tails to 1."""

from __future__ import annotations

import mpmath
import numpy as np

from tidegate.verify.scores_normal import log_ndtr, ndtr


def test_the_logarithm_is_accurate_everywhere():
    z_N = np.concatenate([np.linspace(-60, 10, 141), [-1e4, -1e-9, 0.0, 37.0]])
    with mpmath.workdps(50):
        exact = [
            float(mpmath.log(mpmath.erfc(-mpmath.mpf(float(z)) / mpmath.sqrt(2)) / 2)) for z in z_N
        ]
    np.testing.assert_allclose(log_ndtr(z_N), exact, rtol=1e-12, atol=1e-15)


def test_infinities_are_the_limits():
    assert log_ndtr(np.array([-np.inf, np.inf])).tolist() == [-np.inf, 0.0]
    np.testing.assert_allclose(ndtr(np.array([-np.inf, 0.0, np.inf])), [0, 0.5, 1], rtol=1e-12)
