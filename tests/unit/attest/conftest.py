"""Where genuine evidence lies, if it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.bench.vault_evidence import FOLDER


@pytest.fixture(scope="session")
def evidence_folder() -> Path:
    """The folder of genuine evidence beside the checkout; without it the test skips, loudly."""
    if not FOLDER.is_dir():
        pytest.skip(
            "GENUINE EVIDENCE IS NOT HERE: shared/data/evidence beside the checkout is missing, so "
            "nothing that real machines signed was looked at"
        )
    return FOLDER
