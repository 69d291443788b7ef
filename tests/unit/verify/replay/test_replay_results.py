"""The results file: one result an answer, whatever is torn, repeated or swapped."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tidegate.errors import ConfigError, RecordError
from tidegate.verify.replay_answer import Checked, Flag, Rule
from tidegate.verify.replay_results import VERSION, Results, Subject, stored_subject

SUBJECT = Subject(
    version=VERSION,
    record="example.com/served+0+key",
    model="a" * 64,
    tokenizer="b" * 64,
    rule=Rule(),
    rate="1/3",
    by="token",
    commitment="00" * 32,
    secret="11" * 32,
)


def result(number: int) -> Checked:
    flag = Flag(3, None, 7, dangerous=True)
    return Checked(response=number, digest=f"{number:064x}", tokens=number, flags=(flag,))


def stored(path: Path, subject: Subject = SUBJECT) -> list[Checked]:
    results = Results(path, subject)
    try:
        return list(iter(results.next_stored, None))
    finally:
        results.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with three results."""
    file = tmp_path / "some" / "results"
    results = Results(file, SUBJECT)
    assert results.next_stored() is None
    for number in range(3):
        results.add(result(number))
    results.close()
    return file


def test_results_come_back_in_order_and_more_are_added_after_them(path: Path):
    results = Results(path, SUBJECT)
    assert [results.next_stored() for _ in range(4)] == [result(0), result(1), result(2), None]
    results.add(result(3))
    results.close()
    assert stored(path) == [result(number) for number in range(4)]


def test_every_length_a_killed_writer_can_leave_is_gone_on_from(path: Path, tmp_path: Path):
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    ends = [sum(map(len, lines[: count + 1])) for count in range(len(lines))]
    for length in range(len(whole) + 1):
        cut = tmp_path / "cut"
        cut.write_bytes(whole[:length])
        results = Results(cut, SUBJECT)
        known = list(iter(results.next_stored, None))
        assert len(known) == max(0, sum(length >= end for end in ends) - 1)
        for number in range(len(known), 3):
            results.add(result(number))
        results.close()
        assert cut.read_bytes() == whole


def test_a_changed_byte_is_refused(path: Path):
    raw = bytearray(path.read_bytes())
    for place in range(0, len(raw), 7):
        raw[place] ^= 4
        path.write_bytes(raw)
        with pytest.raises((RecordError, ConfigError)):
            stored(path)
        raw[place] ^= 4


@pytest.mark.parametrize(
    "change", [{"model": "c" * 64}, {"rate": "1"}, {"rule": Rule(margin=0.5)}, {"record": "x"}]
)
def test_results_of_something_else_are_refused(path: Path, change: dict[str, object]):
    with pytest.raises(ConfigError, match="resume-file"):
        Results(path, msgspec.structs.replace(SUBJECT, **change))


def test_two_runs_cannot_write_one_file(path: Path):
    results = Results(path, SUBJECT)
    with pytest.raises(ConfigError, match="another run"):
        Results(path, SUBJECT)
    results.close()
    assert len(stored(path)) == 3


def test_the_selection_is_taken_from_the_file_and_the_file_is_private(path: Path, tmp_path: Path):
    assert stored_subject(path) == SUBJECT
    assert stored_subject(tmp_path / "none") is None
    assert path.stat().st_mode & 0o077 == 0
    (tmp_path / "other").write_text("a shopping list, of forty characters or more\n")
    with pytest.raises(RecordError):
        stored_subject(tmp_path / "other")
