"""A live scanner's settings, from the files that `tidegate scan` makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tidegate.cli.scan_files import read_calibration, read_matcher
from tidegate.errors import ConfigError
from tidegate.scan.calibration import Calibration
from tidegate.scan.stream import Settings


def settings_of(
    calibration: Path | None, fingerprints: Sequence[Path], key: Path | None, *, block: int
) -> Settings:
    """Thresholds and own weights for a scanner that looks at `block` bytes together.

    Raises ConfigError, or OSError for a missing file.
    """
    if fingerprints and key is None:
        raise ConfigError("fingerprints are opened with a key: name its file, too")
    chosen = Calibration() if calibration is None else read_calibration(calibration)
    matcher = read_matcher(fingerprints, key) if fingerprints and key is not None else None
    return Settings(calibration=chosen, matcher=matcher, block=block)
