"""A record in object storage: shipped once, read as it is, and told apart where it is not whole."""

from __future__ import annotations

import pytest
from fleet_world import record
from hypothesis import given
from hypothesis import strategies as st
from record_world import read_all

from tidegate.errors import RecordError
from tidegate.verify import record_store_objects
from tidegate.verify.fleet_store import StoreError
from tidegate.verify.fleet_store_memory import Fault, MemoryObjects
from tidegate.verify.record_store import Source
from tidegate.verify.record_store_memory import MemoryStore
from tidegate.verify.record_store_objects import HalfWrittenError, ObjectSource, Shipper


def whole(source: Source) -> dict[int, bytes]:
    return {segment: source.read(segment, 0, 1 << 30) for segment in source.segments()}


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_store_objects, "PIECE", 500)


def shipped(store: Source) -> MemoryObjects:
    objects = MemoryObjects()
    Shipper(store, objects).round()
    return objects


@pytest.mark.usefixtures("small_pieces")
def test_a_shipped_record_reads_as_the_one_it_was_copied_from() -> None:
    store = record([3] * 8, segment_bytes=2_000).store
    source = ObjectSource(shipped(store))
    assert source.segments() == store.segments()
    assert whole(source) == whole(store)
    responses, summary = read_all(source)
    assert (len(responses), summary.sound) == (8, True)


@given(
    data=st.binary(min_size=1, max_size=3_000),
    offset=st.integers(0, 3_100),
    limit=st.integers(0, 1_500),
)
def test_any_stretch_reads_the_same_however_it_lies_across_pieces(
    data: bytes, offset: int, limit: int
) -> None:
    store = MemoryStore()
    store.append(0, 0, data + b"\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_store_objects, "PIECE", 500)
        source = ObjectSource(shipped(store))
        assert source.read(0, offset, limit) == store.read(0, offset, limit)


@pytest.mark.usefixtures("small_pieces")
def test_each_byte_is_shipped_once_while_the_record_grows() -> None:
    world = record([3] * 3)
    objects = MemoryObjects()
    shipper = Shipper(world.store, objects)
    sizes = [shipper.round().size]
    for number in range(3, 6):
        world.answer(f"r{number}", (1, 2))
        sizes.append(shipper.round().size)
    assert min(sizes) > 0
    assert sum(sizes) == sum(map(len, whole(world.store).values()))
    assert shipper.round().pieces == 0
    # Another shipper, as after a restart.
    assert Shipper(world.store, objects).round().pieces == 0
    assert whole(ObjectSource(objects)) == whole(world.store)


def test_a_line_that_is_not_finished_is_not_shipped() -> None:
    world = record([3])
    objects = MemoryObjects()
    end = len(world.store.read(0, 0, 1 << 20))
    world.store.append(0, end, b"E torn")
    Shipper(world.store, objects).round()
    assert len(ObjectSource(objects).read(0, 0, 1 << 20)) == end


def test_nothing_is_shipped_that_the_machine_could_still_forget() -> None:
    order: list[str] = []
    world = record([3])
    objects = MemoryObjects(lambda call, _name: order.append(call))  # type: ignore[func-returns-value]
    Shipper(world.store, objects, lambda segment: order.append(f"durable {segment}")).round()
    assert order.index("durable 0") < order.index("create")


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("fault", [Fault.NOT_DONE, Fault.DONE, Fault.TORN])
def test_however_a_write_breaks_another_round_makes_the_copy_whole(fault: Fault) -> None:
    store = record([3] * 4).store
    for broken in range(6):
        calls = 0

        def fails(call: str, _name: str, broken: int = broken) -> Fault | None:
            nonlocal calls
            calls += call == "create"
            return fault if call == "create" and calls - 1 == broken else None

        objects = MemoryObjects(fails)
        shipper = Shipper(store, objects)
        with pytest.raises(StoreError):
            shipper.round()
        objects.fault = lambda _call, _name: None
        done = shipper.round()
        assert done.mended == (fault is Fault.TORN)
        assert whole(ObjectSource(objects)) == whole(store)


@pytest.mark.usefixtures("small_pieces")
def test_a_half_written_piece_is_named_and_never_read_as_the_records_end() -> None:
    store = record([3] * 4).store
    objects = shipped(store)
    names = sorted(objects.data)
    for name in (names[0], names[2], names[-1]):
        kept = objects.data[name]
        objects.data[name] = kept[: len(kept) // 2]
        with pytest.raises(HalfWrittenError, match="half-written") as raised:
            whole(ObjectSource(objects))
        assert name in raised.value.message
        objects.data[name] = kept


@pytest.mark.usefixtures("small_pieces")
def test_a_piece_whose_bytes_were_changed_is_named() -> None:
    objects = shipped(record([3] * 4).store)
    name = sorted(objects.data)[1]
    objects.data[name] = bytes([objects.data[name][0] ^ 1]) + objects.data[name][1:]
    with pytest.raises(HalfWrittenError, match="does not hold what its name says"):
        whole(ObjectSource(objects))


@pytest.mark.usefixtures("small_pieces")
def test_a_piece_that_was_deleted_is_missed_and_shipped_again() -> None:
    store = record([3] * 4).store
    objects = shipped(store)
    del objects.data[sorted(objects.data)[1]]
    with pytest.raises(RecordError, match="is missing at byte"):
        whole(ObjectSource(objects))
    Shipper(store, objects).round()
    assert whole(ObjectSource(objects)) == whole(store)


def test_what_else_lies_there_is_passed_over() -> None:
    store = record([3]).store
    objects = shipped(store)
    objects.create("segments/notes.txt", b"hello")
    objects.create(f"segments/{0:020d}/000000000000-99999999-{'0' * 32}", b"too large to be ours")
    assert whole(ObjectSource(objects)) == whole(store)


@pytest.mark.parametrize("other", [[5] * 4, [3]])
def test_another_record_or_one_that_was_cut_is_not_shipped_over_the_first(other: list[int]) -> None:
    objects = shipped(record([3] * 4).store)
    before = dict(objects.data)
    with pytest.raises(RecordError, match="another record, or it was cut or rewritten"):
        Shipper(record(other).store, objects).round()
    assert objects.data == before


@pytest.mark.usefixtures("small_pieces")
def test_pieces_of_two_shippers_that_cut_differently_read_as_one_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = record([3] * 4).store
    objects = shipped(store)
    monkeypatch.setattr(record_store_objects, "PIECE", 330)
    other = shipped(store)
    objects.data |= other.data
    monkeypatch.setattr(record_store_objects, "PIECE", 500)
    assert whole(ObjectSource(objects)) == whole(store)


def test_a_segment_that_there_is_not_is_refused() -> None:
    with pytest.raises(RecordError, match="no such segment"):
        ObjectSource(shipped(record([3]).store)).read(99, 0, 10)
