"""A thief who is root inside, against the gate as it is; what arrived outside is counted there."""

from __future__ import annotations

import pytest

from tidegate.errors import ConfigError
from tidegate.redteam import thief
from tidegate.redteam.thief import Result

pytestmark = pytest.mark.needs_root

LIFETIME = 90_000
SECONDS = 2.0


@pytest.fixture(scope="module")
def everything() -> Result:
    """Sockets, datagrams, fragments, frames by hand and super-packets, all at once."""
    (result,) = thief.run(["everything"], seconds=SECONDS, lifetime=LIFETIME)
    return result


def test_no_more_than_the_cap_arrives_whatever_is_tried_at_once(everything: Result) -> None:
    assert everything.sent > 5 * everything.cap
    assert everything.over <= 0


def test_some_of_the_secret_does_arrive_so_that_the_receiver_is_not_blind(
    everything: Result,
) -> None:
    assert 0 < everything.secret < everything.received


def test_the_ledger_knows_of_every_byte_that_arrived(everything: Result) -> None:
    assert everything.uncharged <= 0


def test_nothing_of_it_arrives_in_protocols_that_no_class_names() -> None:
    (result,) = thief.run(["protocols"], seconds=1.0, lifetime=LIFETIME)
    assert result.sent > result.cap
    assert result.secret == 0
    assert result.over <= 0


def test_without_the_gate_the_same_thief_takes_many_times_the_cap() -> None:
    haul = thief.unguarded("everything", seconds=SECONDS)
    assert haul.wire_bytes > 5 * LIFETIME
    assert haul.secret_bytes > LIFETIME


def test_a_theft_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigError, match="no theft 'telepathy'"):
        thief.run(["telepathy"])
