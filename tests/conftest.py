"""What holds for every test: one torch thread, and examples that do not depend on the clock."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tidegate.gate.needs import missing
from tidegate.gate.worlds import World, world

LOUD = ("THE GATE", "not tested here", "GENUINE EVIDENCE", "the real logs are not", "VLLM")
"""What reasons for skipping are repeated at the end of a run."""

# Set before anything imports torch; `make test` sets the same.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A deadline would fail a correct test on a busy machine.
settings.register_profile("house", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "house")


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A command logs its own way, to a stream that may be closed by the time of the next test."""
    yield
    structlog.reset_defaults()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the kernel where it cannot be had."""
    rooted = [item for item in items if item.get_closest_marker("needs_root")]
    if rooted and (lacking := missing()):
        reason = "THE GATE IS NOT TESTED HERE: " + "; ".join(lacking)
        for item in rooted:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say aloud what a row of dots would hide."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {str(report.longrepr[2]) for report in skipped}
    for reason in sorted(one for one in reasons if any(loud in one for loud in LOUD)):
        terminalreporter.write_sep("!", reason, red=True)


@pytest.fixture
def gate_world() -> Iterator[World]:
    """Namespaces inner, gate, outside and tap, with offload; removed after the test."""
    with world() as made:
        yield made


@pytest.fixture
def gate_world_without_offload() -> Iterator[World]:
    """The same where no packet is longer than the MTU."""
    with world(offload=False) as made:
        yield made
