"""Harmless text for the scanner: which files of a package are text, and answers of this API."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tidegate.bench.scan_data import arrived
from tidegate.models.cache import Progress
from tidegate.models.packages import Wheel
from tidegate.openai_api.responses import DONE, ChatShape, Stamp

SUFFIXES: Final = frozenset(
    {".py", ".pyi", ".h", ".hpp", ".c", ".cpp", ".html", ".css", ".js", ".md", ".txt", ".rst"}
    | {".json", ".yml", ".yaml", ".xml", ".csv", ".tsv", ".po", ".j2", ".ps1", ".sh", ".cfg"}
    | {".ini", ".toml", ".tex", ".svg"}
)
_ALSO: Final = frozenset({".ts", ".mjs", ".jsonl", ".log", ".sql"})
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Text(NamedTuple):
    """One harmless file or stream, and where it is from."""

    source: str
    data: bytes


def files(
    wheels: Iterable[Wheel], progress: Progress, *, leave: tuple[str, ...] = ()
) -> Iterator[Text]:
    """Every file of a kind of text, once; those that are packed again as they are.

    `leave`: ends of names that are not read.
    """
    known: set[bytes] = set()
    for one in wheels:
        with zipfile.ZipFile(arrived(one, progress)) as archive:
            for name in archive.namelist():
                if not is_text(name) or name.endswith(leave):
                    continue
                data = archive.read(name)
                digest = hashlib.sha256(data).digest()
                if digest not in known:
                    known.add(digest)
                    yield Text(f"{one.package} {one.version}", data)


def is_text(name: str) -> bool:
    """By its name; of what is packed, only what was text before."""
    kind = Path(name.removesuffix(".gz")).suffix
    return kind in SUFFIXES or kind in _ALSO


def sources(one: Wheel, suffix: str, progress: Progress) -> list[str]:
    """Every second file of a kind in a package."""
    with zipfile.ZipFile(arrived(one, progress)) as archive:
        names = [name for name in archive.namelist() if name.endswith(suffix)][::2]
        return [archive.read(name).decode() for name in names]


def streamed(pages: Iterable[str]) -> Iterator[list[bytes]]:
    """Each page, cut to a thousand words, as the events that this API streams it in."""
    stamp = Stamp(id="chatcmpl-0123456789abcdef", created=1_750_000_000, model="m", fingerprint="f")
    shape = ChatShape(stamp)
    for page in pages:
        words = page.split(" ")
        for at in range(0, len(words), 1024):
            said = words[at : at + 1024]
            yield [shape.opening(0), *(shape.delta(0, word + " ") for word in said), DONE]


def in_chunks(pages: Iterable[str]) -> Iterator[Text]:
    """Pages as a coding model says them through this API, in HTTP chunks of an event each."""
    for events in streamed(pages):
        chunks = (b"%x\r\n%s\r\n" % (len(event), event) for event in events)
        yield Text("answers of this API in chunks", _HEAD + b"".join(chunks) + b"0\r\n\r\n")
