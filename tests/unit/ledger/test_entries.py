from __future__ import annotations

import pytest

from tidegate.errors import LedgerError
from tidegate.ledger import InvalidEntryError
from tidegate.ledger.entries import Charge, Command, Commit, Entry, Reserve, encode, parse

LINE = encode(Entry(n=3, time=5, wall=7, does=Commit(reservation=1, bits=90)))


def test_an_entry_reads_back() -> None:
    assert encode(parse(LINE, 3)) == LINE


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[]",
        LINE + b" ",
        LINE.replace(b":", b": ", 1),
        LINE.replace(b'"n":3', b'"n":3.0'),
        LINE.replace(b'"n":3', b'"n":03'),
        LINE.replace(b'"n":3', b'"n":3,"n":3'),
        LINE.replace(b'"bits":90', b'"bits":-90'),
        LINE.replace(b'"bits":90', b'"bits":9223372036854775808'),
        LINE.replace(b'"bits":90', b'"bits":90,"more":1'),
        LINE.replace(b"commit", b"comm\\u0069t"),
        LINE.replace(b"commit", b"spend"),
    ],
)
def test_a_second_spelling_of_an_entry_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidEntryError) as caught:
        parse(raw, 3)
    assert caught.value.entry == 3


def test_an_entry_out_of_its_place_is_refused() -> None:
    with pytest.raises(InvalidEntryError, match="calls itself 3"):
        parse(LINE, 4)


@pytest.mark.parametrize(
    "command",
    [
        Reserve("alice", "inner→outside", -1),
        Reserve("alice", "inner→outside", 2**63),
        Reserve("alice", "inner→outside", 2**70),
        Reserve("alice", "inner→outside", 1.5),
        Reserve("alice", "inner→outside", True),
        Reserve("", "inner→outside", 1),
        Reserve("alice\n", "inner→outside", 1),
        Reserve('a"b', "inner→outside", 1),
        Reserve("\ud800", "inner→outside", 1),
        Reserve("a" * 257, "inner→outside", 1),
        Charge("alice", "inner→outside", 64, "back\\slash"),
    ],
)
def test_what_could_not_be_read_back_is_never_written(command: Command) -> None:
    with pytest.raises(LedgerError, match="cannot be recorded"):
        encode(Entry(n=0, time=0, wall=0, does=command))
