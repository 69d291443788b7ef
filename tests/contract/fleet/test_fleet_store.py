"""One contract, every store: in memory, a folder, fsspec's memory, and a real S3 server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from object_server import s3_server

from tidegate.errors import ConfigError
from tidegate.verify import fleet_store
from tidegate.verify.fleet_store import NoSuchObjectError, Objects, StoreError, probe
from tidegate.verify.fleet_store_files import FileObjects
from tidegate.verify.fleet_store_fsspec import FsspecObjects
from tidegate.verify.fleet_store_memory import MemoryObjects
from tidegate.verify.fleet_store_open import open_objects

Make = Callable[[], Objects]
"""Opens one store, as another process would: what one wrote the other reads."""


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=["memory", "files", "fsspec", "s3"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    place = f"{request.node.name}-{tmp_path.name}".replace("[", "-").replace("]", "")
    if request.param == "memory":
        one = MemoryObjects()
        return lambda: one
    if request.param == "files":
        return lambda: FileObjects(tmp_path / "store")
    if request.param == "fsspec":
        return lambda: FsspecObjects(f"memory://{place}")
    url = request.getfixturevalue("bucket")
    return lambda: FsspecObjects(f"{url}/{place}")


def test_what_one_creates_the_other_lists_and_reads(opened: Make) -> None:
    opened().create("a/one", b"1")
    opened().create("a/b/two", b"22")
    opened().create("c/three", b"333")
    assert opened().names("a/") == {"a/one": 1, "a/b/two": 2}
    assert opened().read("a/b/two") == b"22"


def test_nothing_is_listed_where_nothing_is(opened: Make) -> None:
    assert opened().names("a/") == {}


def test_a_name_is_created_once_and_its_bytes_stay(opened: Make) -> None:
    assert opened().create("verdicts/v", b"first")
    assert not opened().create("verdicts/v", b"second")
    assert opened().read("verdicts/v") == b"first"


def test_of_many_that_create_one_name_at_once_one_does(opened: Make) -> None:
    stores = [opened() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: stores[n % 4].create("v/v", b"%d" % n), range(16)))
    assert sum(made) == 1
    assert opened().read("v/v") == b"%d" % made.index(True)


def test_replaced_bytes_are_the_new_ones_whole(opened: Make) -> None:
    opened().create("plan", b"old and longer")
    opened().replace("plan", b"new")
    assert opened().read("plan") == b"new"
    opened().replace("fresh", b"x")
    assert opened().read("fresh") == b"x"


def test_a_deleted_object_is_gone_and_may_be_created_again(opened: Make) -> None:
    opened().create("a/v", b"first")
    opened().delete("a/v")
    opened().delete("a/v")
    assert opened().names("a/") == {}
    assert opened().create("a/v", b"second")


def test_what_is_not_there_is_named(opened: Make) -> None:
    with pytest.raises(NoSuchObjectError, match="a/nothing"):
        opened().read("a/nothing")


def test_an_object_of_no_bytes_is_read_as_it_is(opened: Make) -> None:
    opened().create("a/empty", b"")
    assert opened().read("a/empty") == b""
    assert opened().names("a/") == {"a/empty": 0}


def test_an_object_larger_than_any_of_ours_is_not_read(
    opened: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened().create("a/large", bytes(2_000))
    for module in ("memory", "files", "fsspec"):
        monkeypatch.setattr(f"tidegate.verify.fleet_store_{module}.MAX_OBJECT", 1_000)
    with pytest.raises(StoreError, match="larger than any of ours"):
        opened().read("a/large")


def test_the_probe_passes_a_store_that_keeps_the_contract_and_leaves_nothing(opened: Make) -> None:
    probe(opened())
    assert opened().names(fleet_store.PROBES) == {}


def test_a_folder_shows_no_half_written_object_of_a_killed_writer(tmp_path: Path) -> None:
    FileObjects(tmp_path).create("a/whole", b"1")
    (tmp_path / "a" / ".new-0123456789abcdef").write_bytes(b"hal")
    assert FileObjects(tmp_path).names("a/") == {"a/whole": 1}


def test_a_bucket_that_there_is_not_is_an_error_and_no_empty_store(bucket: str) -> None:
    store = FsspecObjects("s3://there-is-no-such-bucket/fleet")
    with pytest.raises(StoreError):
        store.create("a/v", b"")
    with pytest.raises(StoreError):
        probe(store)


def test_a_server_that_does_not_answer_is_tried_again_and_then_named(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    waited: list[float] = []
    store = open_objects(f"{bucket}/fleet", sleep=waited.append)
    with pytest.raises(StoreError, match="plan"):
        store.read("plan")
    assert len(waited) == 5
    assert waited == sorted(waited)


def test_a_medium_without_its_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="nowhere:"):
        open_objects("nowhere://bucket/fleet")
