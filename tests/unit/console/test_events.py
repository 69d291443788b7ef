"""The store of events: each once, newest first, any filter, any page."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.console import events as events_module
from tidegate.console.errors import ConsoleError
from tidegate.console.event import Asked, Event, Kept
from tidegate.console.events import Events


def event(number: int, **changes: object) -> Event:
    made = Event(
        uid=f"u{number}",
        time=1000.0 + number,
        severity=1 + number % 5,
        kind=f"kind{number % 3}",
        source=f"source{number % 2}",
        subject=f"subject{number % 4}",
        title=f"event {number}",
        body={"number": number},
    )
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Events]:
    made = Events(tmp_path / "deep" / "events.sqlite")
    yield made
    made.close()


def pages(store: Events, asked: Asked) -> list[Kept]:
    found: list[Kept] = []
    while True:
        page = store.page(asked)
        found += page.events
        if page.before is None:
            return found
        asked = msgspec.structs.replace(asked, before=page.before)


def test_an_event_read_twice_is_kept_once(store: Events) -> None:
    assert [kept.event for kept in store.add([event(1), event(2), event(1)])] == [
        event(1),
        event(2),
    ]
    assert store.add([event(2)]) == ()


def test_what_is_kept_survives_and_comes_back_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    first = Events(path)
    (kept,) = first.add([event(7, title='quotes " and ünïcode', body={"deep": [{"x": None}]})])
    first.close()
    again = Events(path)
    assert again.one(kept.n) == kept
    assert again.one(kept.n + 1) is None
    again.close()


filters = st.fixed_dictionaries(
    {},
    optional={
        "severity": st.integers(1, 5),
        "kind": st.sampled_from(["kind0", "kind1", "other"]),
        "subject": st.sampled_from(["subject0", "subject3"]),
        "source": st.sampled_from(["source0", "source1"]),
        "open_only": st.booleans(),
        "limit": st.integers(1, 7),
    },
)


@settings(max_examples=60, deadline=None)
@given(chosen=filters, count=st.integers(0, 60), looked=st.integers(3, 40))
def test_pages_hold_every_event_that_matches_once_and_newest_first(
    chosen: dict[str, object], count: int, looked: int
) -> None:
    asked = msgspec.convert(chosen, Asked)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(events_module, "_LOOKED", looked)
        store = Events(Path(folder) / "events.sqlite")
        kept = list(store.add(event(number) for number in range(count)))
        for one in kept[::5]:
            store.finish(one.n)
        done = {one.n for one in kept[::5]}
        wanted = [
            one.n
            for one in reversed(kept)
            if one.event.severity >= asked.severity
            and asked.kind in ("", one.event.kind)
            and asked.subject in ("", one.event.subject)
            and asked.source in ("", one.event.source)
            and not (asked.open_only and (one.n in done or one.event.severity < 3))
        ]
        found = pages(store, asked)
        store.close()
    assert [one.n for one in found] == wanted


def test_a_page_can_begin_at_a_time(store: Events) -> None:
    store.add(event(number) for number in range(50))
    page = store.page(Asked(until=1020.5, limit=3))
    assert [one.event.title for one in page.events] == ["event 20", "event 19", "event 18"]
    assert store.page(Asked(until=5.0)).events == ()


def test_an_alert_is_closed_once(store: Events) -> None:
    (kept,) = store.add([event(3, severity=5)])
    assert store.still_open() == {"critical": 1}
    assert store.finish(kept.n)
    assert not store.finish(kept.n)
    assert store.still_open() == {}


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.sqlite"
    path.write_bytes(b"something else, longer than a header of SQLite's would be" * 20)
    with pytest.raises(ConsoleError, match="cannot be opened"):
        Events(path)
