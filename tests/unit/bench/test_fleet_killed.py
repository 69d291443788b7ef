"""The onlooker of the fleet's bench sees what it is there for."""

from __future__ import annotations

from pathlib import Path

from tidegate.bench.fleet_killed import Onlooker


def test_a_verdict_that_stays_is_made_once(tmp_path: Path) -> None:
    onlooker = Onlooker(tmp_path)
    (tmp_path / "v").write_bytes(b"first")
    for _ in range(3):
        onlooker.look()
    assert onlooker.seen.keys() == {"v"}
    assert onlooker.twice == set()


def test_a_verdict_that_is_another_file_than_before_was_made_twice(tmp_path: Path) -> None:
    onlooker = Onlooker(tmp_path)
    (tmp_path / "v").write_bytes(b"first")
    onlooker.look()
    fresh = tmp_path / ".new"
    fresh.write_bytes(b"first")
    fresh.replace(tmp_path / "v")
    onlooker.look()
    assert onlooker.twice == {"v"}


def test_a_verdict_written_over_in_place_was_made_twice(tmp_path: Path) -> None:
    onlooker = Onlooker(tmp_path)
    (tmp_path / "v").write_bytes(b"first")
    onlooker.look()
    (tmp_path / "v").write_bytes(b"second")
    onlooker.look()
    assert onlooker.twice == {"v"}
