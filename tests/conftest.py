"""What holds for every test: one torch thread, and examples that do not depend on the clock."""

from __future__ import annotations

import os

from hypothesis import settings

# Set before anything imports torch; `make test` sets the same.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A deadline would fail a correct test on a busy machine.
settings.register_profile("house", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "house")
