"""A proof as a folder: written whole or not at all, read piece by piece.

`receipt.txt` is the signed note and `statement.json` the prover's word of request and answer. A
trace is `rows.bin`, `hashes.bin` and `embedding.bin` (T3), or `trace.safetensors` and `head.bin`
(T2). Whoever can read a trace can compute weights from it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tidegate.errors import ConfigError
from tidegate.models.cache import publish
from tidegate.prove.check import Proof
from tidegate.prove.trace import Read
from tidegate.prove.verdict import UnverifiableError
from tidegate.transparency.note import MAX_NOTE_BYTES

RECEIPT: Final = "receipt.txt"
STATEMENT: Final = "statement.json"
ROWS: Final = "rows.bin"
HASHES: Final = "hashes.bin"
EMBEDDING: Final = "embedding.bin"
FLOAT_TRACE: Final = "trace.safetensors"
HEAD_ROWS: Final = "head.bin"


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """A folder to write a proof into, which takes its name once all is there.

    Raises ConfigError if the name is taken.
    """
    if folder.exists():
        raise ConfigError(f"{folder} exists already; choose another place for the proof")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(folder.name + ".making")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    try:
        yield temporary
        publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class TraceWriter:
    """A `recording.Sink` into a proof's folder. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._rows = (folder / ROWS).open("xb")
        self._hashes = (folder / HASHES).open("xb")

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()
        self._hashes.close()

    def __call__(self, raw: bytes | bytearray, hashes: list[bytes]) -> None:
        self._rows.write(raw)
        self._hashes.write(b"".join(hashes))


def read_note(folder: Path) -> str:
    """The receipt. Raises UnverifiableError where there is none."""
    return read_bytes(folder, RECEIPT, MAX_NOTE_BYTES).decode("utf-8", "replace")


def read_bytes(folder: Path, name: str, most: int) -> bytes:
    """A file of the proof, or a byte more than `most` of it if it is longer.

    Raises UnverifiableError where it cannot be read.
    """
    path = folder / name
    try:
        with path.open("rb") as handle:
            return handle.read(most + 1)
    except OSError as error:
        raise UnverifiableError(f"cannot read {path}: {error.strerror}") from error


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[Proof]:
    """A T3 proof, read as it is asked for. Raises UnverifiableError where a file is missing."""
    with contextlib.ExitStack() as stack:
        yield Proof(
            note=read_note(folder),
            rows=stack.enter_context(_piecewise(folder / ROWS)),
            hashes=stack.enter_context(_piecewise(folder / HASHES)),
            embedding=stack.enter_context(_piecewise(folder / EMBEDDING)),
        )


@contextlib.contextmanager
def reading_hashes(folder: Path) -> Iterator[Read | None]:
    """The trace's hashes, or None if there is no trace."""
    if not (folder / HASHES).exists():
        yield None
        return
    with _piecewise(folder / HASHES) as read:
        yield read


@contextlib.contextmanager
def _piecewise(path: Path) -> Iterator[Read]:
    try:
        handle = path.open("rb", buffering=0)
    except OSError as error:
        raise UnverifiableError(f"cannot read {path}: {error.strerror}") from error
    buffer = bytearray()

    def read(offset: int, size: int) -> memoryview:
        # Copied, not mapped: what was checked cannot change under the check. And into memory that
        # was used before, since fresh memory costs more than all of Freivalds' products.
        nonlocal buffer
        if len(buffer) < size:
            buffer = bytearray(size)
        view = memoryview(buffer)[:size]
        return view[: os.preadv(handle.fileno(), [view], offset)]

    with handle:
        yield read
