"""The state file: whole, or not believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.bench.gate_trials import torn_writes
from tidegate.errors import GateError
from tidegate.gate.accounts import Account, State
from tidegate.gate.state import Store, decode, encode

OLD = State("p", "b", (Account("api", 1_000, 2, 30), Account("lifetime", 5_000)))
NEW = State("p", "b", (Account("api", 2_000, 3, 40), Account("lifetime", 6_000)))

names = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)
counts = st.integers(0, 2**62)
accounts = st.builds(Account, names, counts, counts, counts)
states = st.builds(State, st.text(max_size=8), st.text(max_size=8), st.tuples(accounts, accounts))


@given(states)
def test_what_was_written_is_what_is_read(state: State) -> None:
    assert decode(encode(state)) == state


@given(st.binary(max_size=400))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(GateError):
        decode(data)


@given(st.integers(0, len(encode(OLD)) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    data = bytearray(encode(OLD))
    data[place] ^= change
    with pytest.raises(GateError):
        decode(bytes(data))


def test_a_write_torn_at_any_byte_undercounts_nothing() -> None:
    tried, short = torn_writes()
    assert tried > 500
    assert short == 0


@pytest.mark.parametrize("fails", ["fsync", "replace", "open"])
def test_a_write_that_fails_raises_and_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    store = Store(tmp_path)
    store.write(OLD)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path if fails == "replace" else os, fails, full)
        with pytest.raises(GateError, match="No space left"):
            store.write(NEW)
    assert store.read() == OLD


def test_one_controller_at_a_time(tmp_path: Path) -> None:
    store = Store(tmp_path / "made")
    assert store.holder() is None
    with store.sole():
        assert store.holder() == os.getpid()
        with pytest.raises(GateError, match="another controller"), Store(store.folder).sole():
            pass
    assert store.holder() is None


def test_an_empty_folder_is_no_state_and_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    assert Store(tmp_path).read() is None
    (tmp_path / "state").mkdir()
    with pytest.raises(GateError, match="cannot read"):
        Store(tmp_path).read()
