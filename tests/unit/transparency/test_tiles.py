"""Tiles as https://c2sp.org/tlog-tiles has them; its own examples are the expected values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_world import LogWorld

from tidegate.clock import ManualClock
from tidegate.transparency.entry import Kind
from tidegate.transparency.errors import LogError
from tidegate.transparency.log import Log
from tidegate.transparency.store_sqlite import SqliteStore
from tidegate.transparency.tiles import Tile, bundle, cover, entries_of, read
from tidegate.transparency.tree import leaf_hash, root_of


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(0, 0), "tile/0/000"),
        (Tile(63, 999), "tile/63/999"),
        (Tile(1, 1000), "tile/1/x001/000"),
        (Tile(2, 0, 1), "tile/2/000.p/1"),
        (Tile(None, 273, 112), "tile/entries/273.p/112"),
    ],
)
def test_a_tile_has_one_path(tile: Tile, path: str) -> None:
    assert tile.path() == path
    assert Tile.parse(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/0",
        "tile/0/x000/000",
        "tile/00/000",
        "tile/64/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/1000",
        "tile/-1/000",
        "tile/0/٠٠٠",
        "tile/data/000",
        "tile/0/000/",
        "tile/0/../../log.key",
    ],
)
def test_another_path_is_no_tiles(path: str) -> None:
    assert Tile.parse(path) is None


def test_a_tree_of_seventy_thousand_has_the_tiles_of_the_standard() -> None:
    size = 70_000
    assert Tile(0, 272).within(size)
    assert not Tile(0, 273).within(size)
    assert Tile(0, 273, 112).within(size)
    assert not Tile(0, 273, 113).within(size)
    assert Tile(1, 0).within(size)
    assert Tile(1, 1, 17).within(size)
    assert not Tile(1, 1, 18).within(size)
    assert Tile(2, 0, 1).within(size)
    assert not Tile(2, 0, 2).within(size)
    assert Tile(1, 0, 1).within(256)
    assert not Tile(1, 0, 1).within(255)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Six hundred entries: two full tiles, a partial one, and two hashes a level up."""
    world = LogWorld()
    world.grow(600)
    return world.log


def test_tiles_hold_the_hashes_that_the_standard_defines(log: Log) -> None:
    leaves = [leaf_hash(raw) for _, raw in log.raw_entries(0, 600)]
    assert read(log, Tile(0, 1)) == b"".join(leaves[256:512])
    assert read(log, Tile(0, 2, 88)) == b"".join(leaves[512:])
    assert read(log, Tile(1, 0, 2)) == root_of(leaves[:256]) + root_of(leaves[256:512])
    for beyond in (Tile(0, 2, 89), Tile(1, 0, 3), Tile(2, 0, 1), Tile(None, 2, 89)):
        with pytest.raises(LogError):
            read(log, beyond)


def test_bundles_hold_the_entries_and_cover_what_is_asked(log: Log) -> None:
    found: list[bytes] = []
    for tile in cover(0, 600):
        assert tile.within(600)
        found.extend(entries_of(read(log, tile), tile.width))
    assert found == [raw for _, raw in log.raw_entries(0, 600)]
    assert [tile.path() for tile in cover(300, 600)] == [
        "tile/entries/001",
        "tile/entries/002.p/88",
    ]
    assert tuple(cover(600, 600)) == ()


@given(st.lists(st.binary(max_size=300), max_size=9))
def test_a_bundle_reads_back_and_a_torn_one_does_not(entries: list[bytes]) -> None:
    raw = bundle(entries)
    assert entries_of(raw, len(entries)) == tuple(entries)
    with pytest.raises(LogError):
        entries_of(raw, len(entries) + 1)
    if raw:
        with pytest.raises(LogError):
            entries_of(raw[:-1], len(entries))


def test_a_log_in_a_file_serves_the_same_tiles(tmp_path_factory: pytest.TempPathFactory) -> None:
    filed = Log(SqliteStore(tmp_path_factory.mktemp("log") / "log.db"), ManualClock())
    world = LogWorld()
    for n in range(20):
        filed.append(Kind.GRANT, {"n": n})
    world.grow(20)
    assert read(filed, Tile(0, 0, 20)) == read(world.log, Tile(0, 0, 20))
    assert read(filed, Tile(None, 0, 20)) == read(world.log, Tile(None, 0, 20))
