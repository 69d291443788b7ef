"""One suite over every store of the record: what `verify.record_store` promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tidegate.errors import RecordError
from tidegate.verify.record_store import Store
from tidegate.verify.record_store_files import FileSource, FileStore
from tidegate.verify.record_store_memory import MemoryStore

Make = Callable[[], Store]


@pytest.fixture(params=["files", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    files = FileStore(tmp_path / "record")
    yield files
    files.close()


def test_an_empty_store_has_no_segments(store: Store) -> None:
    assert store.segments() == ()
    with pytest.raises(RecordError):
        store.read(0, 0, 10)


def test_what_is_appended_is_read_back_in_order(store: Store) -> None:
    store.append(0, 0, b"one\n")
    store.append(0, 4, b"two\n")
    store.append(17, 0, b"three\n")
    assert store.segments() == (0, 17)
    assert store.read(0, 0, 100) == b"one\ntwo\n"
    assert store.read(0, 4, 2) == b"tw"
    assert store.read(0, 8, 100) == b""
    assert store.read(17, 0, 100) == b"three\n"


@pytest.mark.parametrize("offset", [0, 3, 5])
def test_nothing_is_written_anywhere_but_at_the_end(store: Store, offset: int) -> None:
    store.append(0, 0, b"one\n")
    with pytest.raises(RecordError):
        store.append(0, offset, b"xxx\n")
    assert store.read(0, 0, 100) == b"one\n"


def test_what_was_cut_is_gone_and_the_rest_stays(store: Store) -> None:
    store.append(0, 0, b"one\ntw")
    store.cut(0, 4)
    store.append(0, 4, b"two\n")
    assert store.read(0, 0, 100) == b"one\ntwo\n"


def test_a_folder_has_one_writer_and_many_readers(tmp_path: Path) -> None:
    first = FileStore(tmp_path)
    first.append(0, 0, b"one\n")
    with pytest.raises(RecordError, match="Another process"):
        FileStore(tmp_path)
    assert FileSource(tmp_path).read(0, 0, 10) == b"one\n"
    first.close()
    FileStore(tmp_path).close()


def test_only_its_owner_may_read_the_record(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "record")
    store.append(0, 0, b"one\n")
    store.close()
    folder = tmp_path / "record"
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


def test_a_link_in_place_of_a_segment_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"")
    store = FileStore(tmp_path / "record")
    (tmp_path / "record" / f"{0:020d}.log").symlink_to(target)
    with pytest.raises(RecordError):
        store.append(0, 0, b"one\n")
    store.close()
    assert target.read_bytes() == b""
