"""Where the line is drawn between text and what looks like weights, and how a site redraws it."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from tidegate.errors import ConfigError
from tidegate.scan.windows import Array, Weighing

WINDOW: Final = 4096
SHORT: Final = 1024
"""What ends before a whole window is full is scored if it has this many bytes."""

HIGHEST: Final = 5.6
"""Above it, bfloat16 weights in base64 would pass."""
HIGHEST_SHORT: Final = 6.0
"""As long as 1 to 4 KiB of base64 that nothing decodes, its alphabet shuffled, are above it."""


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Thresholds in bits a byte, and what they were set on.

    A window of 4 KiB whose score is above `threshold` is sighted; a shorter one, of 1 KiB and more,
    above `short_threshold`. `false_positives` is the share of the site's own windows that was aimed
    at, `windows` how many there were.
    """

    threshold: float = 5.2
    short_threshold: float = 5.75
    false_positives: float = 0.0
    windows: int = 0

    def line(self, window: int) -> float:
        """The threshold for a window of that size."""
        return self.threshold if window >= WINDOW else self.short_threshold


def calibrated(long_W: Array, short_W: Array, false_positives: float) -> Calibration:
    """Thresholds that at most the given share of harmless windows exceed.

    Never below the packaged ones: a site with dull traffic gains nothing from a sharper line, and
    loses it on its first odd day. Raises ConfigError for too few windows to support the share.
    """
    need = int(np.ceil(3 / false_positives))
    if min(len(long_W), len(short_W)) < need:
        raise ConfigError(
            f"{len(long_W)} windows cannot show a share of {false_positives:g}; give at least "
            f"{need} (that is {need * WINDOW / 1e6:.0f} MB), or a larger share"
        )
    packaged = Calibration()
    return Calibration(
        threshold=max(packaged.threshold, _quantile(long_W, false_positives)),
        short_threshold=max(packaged.short_threshold, _quantile(short_W, false_positives)),
        false_positives=false_positives,
        windows=len(long_W),
    )


def _quantile(score_W: np.ndarray[Any, Any], above: float) -> float:
    allowed = int(above * len(score_W))
    return round(float(np.partition(score_W, -allowed - 1)[-allowed - 1]) + 0.005, 2)


WEIGHING: Final = Weighing()
"""Fitted once, on the models and texts that `tidegate bench scan` names as used for tuning."""
