"""The shell round the examiner: opens logs and journals, reads them as streams, feeds it.

Everything else in this room is pure.
"""

from __future__ import annotations

import gc
import gzip
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import IO, Final, cast

from tidegate.audit.conclude import Source
from tidegate.audit.event import Broken, Event, Place
from tidegate.audit.examine import Examiner
from tidegate.audit.grants import Journal, read_journal
from tidegate.audit.reader import Reader
from tidegate.audit.readers import HEAD, READERS, kind_of
from tidegate.audit.records import FAULTS, json_records
from tidegate.audit.sigma import Sigma
from tidegate.errors import ConfigError
from tidegate.transparency.store_sqlite import SqliteStore

Progress = Callable[[str, int, int], None]
"""Told the stage, how much of it is done, and of how much."""

_GZIP: Final = b"\x1f\x8b"
_SQLITE: Final = b"SQLite format 3\x00"
_EACH: Final = 5_000
"""Records between two looks at how far a file has been read."""

_SKIPPED: Final = frozenset({".md", ".txt", ".html", ".sha256"})
"""Of a folder: what lies beside logs. A file that is named is always read."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A log to be read: its path (None: standard input), and its kind."""

    path: Path | None
    kind: str
    first: float


Taken = Callable[[Event], None]
"""Called with every event, after it was examined."""


def logs_of(targets: Sequence[str], kind: str | None) -> tuple[list[Opened], list[Path]]:
    """The logs among files and folders, by the time of their first event, and the files that no
    reader is for. Raises ConfigError for what is not there, and for a kind that there is not."""
    if kind is not None and kind not in READERS:
        raise ConfigError(f"there is no kind {kind!r}; choose of {', '.join(READERS)}")
    found, unknown = [], []
    for target in targets:
        if target == "-":
            if kind is None:
                raise ConfigError("for standard input give --kind, since it is read but once")
            found.append(Opened(None, kind, 0.0))
            continue
        path = Path(target)
        if not path.exists():
            raise ConfigError(f"{target} is not there; give files or folders of logs, or -")
        for file in _files(path):
            told = kind or kind_of(_head(file))
            if told is None:
                unknown.append(file)
            else:
                found.append(Opened(file, told, _first_time(file, told)))
    return sorted(found, key=lambda log: (log.first, str(log.path))), unknown


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if file.is_file() and not hidden and file.suffix not in _SKIPPED and file.name != "LICENSE":
            yield file


def _head(path: Path) -> bytes:
    try:
        with _lines_file(path) as file:
            return file.read(HEAD)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return b""


def _lines_file(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    return cast("IO[bytes]", gzip.open(path)) if packed else path.open("rb")


def _first_time(path: Path, kind: str) -> float:
    """So that files are read in the order of time; a file without a readable event comes last."""
    reader = READERS[kind]()
    with _lines_file(path) as file:
        try:
            for count, (_, raw) in enumerate(reader.records(file)):
                if isinstance(raw, bytes):
                    try:
                        event = reader.parse(raw)
                    except FAULTS:
                        event = None
                    if event is not None:
                        return event.time
                if count > _LOOKED_AT:
                    break
        except (EOFError, gzip.BadGzipFile, zlib.error):
            pass
    return float("inf")


_LOOKED_AT: Final = 20


def examine_logs(
    examiner: Examiner,
    logs: Sequence[Opened],
    unknown: Sequence[Path],
    sources: list[Source],
    progress: Progress,
    sigma: Sigma | None = None,
    taken: Taken | None = None,
) -> None:
    """Feed all logs, and add each to `sources`, by whose order evidence numbers them."""
    total = sum(log.path.stat().st_size for log in logs if log.path is not None)
    before = 0
    with seldom_collecting():
        for log in logs:
            reader = READERS[log.kind]()
            size = log.path.stat().st_size if log.path is not None else 0
            with _counted(log, before, total, progress) as lines:
                items = _items(reader, lines)
                count = feed(examiner, reader, len(sources), items, sigma, taken)
            before += size
            progress("reading logs", before, total)
            name = str(log.path) if log.path is not None else "standard input"
            sources.append(Source(name, log.kind, reader.unit, count, size))
    for path in unknown:
        place = Place(len(sources), 1)
        examiner.fail(Broken("no reader knows this file; give --kind if it is a log"), place)
        sources.append(Source(str(path), "unknown", "line", 0, path.stat().st_size))


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Records make no cycles: to look for them after every few hundred costs a fifth."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _items(reader: Reader, lines: Iterable[bytes]) -> Iterator[tuple[int, bytes | Broken]]:
    """The reader's records; a file that ends early ends in a broken record."""
    number = 0
    try:
        for number, raw in reader.records(lines):
            yield number, raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        yield number + 1, Broken(f"the file ends early or is damaged: {error}")


def feed(
    examiner: Examiner,
    reader: Reader,
    source: int,
    items: Iterable[tuple[int, bytes | Broken]],
    sigma: Sigma | None,
    taken: Taken | None,
) -> int:
    """Parse and examine one log's records. Returns how many there were."""
    parse, take = reader.parse, examiner.take
    count = 0
    for number, raw in items:
        count += 1
        place = Place(source, number)
        if isinstance(raw, Broken):
            examiner.fail(raw, place)
            continue
        try:
            event = parse(raw)
        except FAULTS as error:
            # Named without its text: a line of a log may hold credentials.
            examiner.fail(Broken(_plain(error)), place)
            continue
        if event is None:
            continue
        take(event, place)
        if sigma is not None:
            for rule in sigma.matches(reader.kind, raw):
                examiner.matched(rule, event, place)
        if taken is not None:
            taken(event)
    return count


def _plain(error: Exception) -> str:
    """What is wrong, without values and places that differ from line to line."""
    text = str(error).partition(" - at")[0]
    return text.partition(" (byte ")[0]


class _Counted:
    """Lines of a file, telling how far its file has been read."""

    def __init__(self, file: IO[bytes], told: FileIO | None, tell: Callable[[int], None]) -> None:
        self._file, self._told, self._tell = file, told, tell

    def __iter__(self) -> Iterator[bytes]:
        for count, line in enumerate(self._file):
            if count % _EACH == 0 and self._told is not None:
                self._tell(self._told.tell())
            yield line

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not sys.stdin.buffer:
            self._file.close()
            if self._told is not None:
                self._told.close()


def _counted(log: Opened, before: int, total: int, progress: Progress) -> _Counted:
    def tell(position: int) -> None:
        progress("reading logs", min(before + position, total), total)

    if log.path is None:
        return _Counted(sys.stdin.buffer, None, tell)
    # A file that is being iterated cannot tell where it is, so the layer under it is asked.
    under = log.path.open("rb", buffering=0)
    packed = under.read(2) == _GZIP
    under.seek(0)
    buffered = BufferedReader(under, 1 << 20)
    file = cast("IO[bytes]", gzip.GzipFile(fileobj=buffered)) if packed else buffered
    return _Counted(file, under, tell)


def read_grants(path: Path, source: int) -> tuple[Journal, Source]:
    """The journal of grants, from JSON lines or from a log's SQLite file."""
    with path.open("rb") as file:
        head = file.read(len(_SQLITE))
    lines = _from_sqlite(path) if head == _SQLITE else _records_of(path)
    count = 0

    def counted() -> Iterator[tuple[Place, bytes | Broken]]:
        nonlocal count
        for number, raw in lines:
            count += 1
            yield Place(source, number), raw

    journal = read_journal(counted())
    size = path.stat().st_size
    return journal, Source(str(path), "grants", "entry", count, size)


def _records_of(path: Path) -> Iterator[tuple[int, bytes | Broken]]:
    with _lines_file(path) as file:
        yield from json_records(file)


def _from_sqlite(path: Path) -> Iterator[tuple[int, bytes | Broken]]:
    store = SqliteStore(path)
    number = 0
    while rows := store.read(number, 1000):
        for raw in rows:
            number += 1
            yield number, raw
    store.close()
