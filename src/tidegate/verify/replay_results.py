"""What was re-executed so far, in one file: exactly one result an answer, whatever is killed.

A line is the first 16 hex digits of SHA-256 over what follows, a space, and one JSON object. The
first line says what the results are of; the others are `replay_answer.Checked`, in the order in
which the record's answers end. They are written in that order and synced before anybody counts
them, so that going on means reading the record and the file side by side: no index, flat memory. A
last line that is torn was never counted; it is cut off and its answer re-executed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import msgspec

from tidegate.errors import ConfigError, RecordError
from tidegate.verify.replay_answer import Checked, Rule

VERSION: Final = 2
_MARK: Final = 16
_LONGEST: Final = 1 << 20

T = TypeVar("T")


class Subject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What results are of; two runs share a file only where all of it is equal.

    `record` is the record's public key in full, `model` and `tokenizer` are fingerprints, `rate` is
    a fraction. `commitment` is to the key of epoch 0. `secret` (hex) is what answers are drawn with
    where no other file keeps it, else empty: these results are as secret as it.
    """

    version: int
    record: str
    model: str
    tokenizer: str
    rule: Rule
    rate: str
    by: str
    commitment: str
    secret: str


class Results:
    """An open results file. Raises ConfigError where it is of something else, or in use."""

    def __init__(self, path: Path, subject: Subject) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._file: BinaryIO = os.fdopen(handle, "r+b", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another run is writing {path}") from error
        except OSError as error:
            raise ConfigError(f"cannot open {path}: {error.strerror}") from error
        self._stored = self._lines()
        first = next(self._stored, None)
        if first is None:
            self._append(msgspec.json.encode(subject))
        elif _decoded(first, Subject, path) != subject:
            raise ConfigError(
                f"{path} holds results of another record, model, rule or selection; give another "
                "--resume-file, or remove it"
            )

    def next_stored(self) -> Checked | None:
        """The next result of an earlier run; None once there are no more.

        Raises:
            RecordError: the file was changed by somebody else.
        """
        line = next(self._stored, None)
        return None if line is None else _decoded(line, Checked, self._path)

    def add(self, checked: Checked) -> None:
        """Append a result; it is durable on return. Raises RecordError where it cannot be."""
        self._append(msgspec.json.encode(checked))

    def add_all(self, results: Iterable[Checked]) -> None:
        """Append many, durable together on return. Raises RecordError where they cannot be."""
        for checked in results:
            self._write(msgspec.json.encode(checked))
        self._sync()

    def close(self) -> None:
        """Let another run go on."""
        self._file.close()

    def _append(self, body: bytes) -> None:
        self._write(body)
        self._sync()

    def _write(self, body: bytes) -> None:
        line = memoryview(_mark(body) + b" " + body + b"\n")
        with self._failing():
            while line:
                line = line[self._file.write(line) :]

    def _sync(self) -> None:
        with self._failing():
            os.fdatasync(self._file.fileno())

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RecordError(f"{self._path.name} cannot be written: {error.strerror}") from error

    def _lines(self) -> Iterator[bytes]:
        """The bodies of whole lines; what is torn at the end is cut off."""
        at = 0
        with self._path.open("rb") as file:
            while line := file.readline(_LONGEST):
                body = line[_MARK + 1 : -1]
                if not line.endswith(b"\n"):
                    break
                if line[: _MARK + 1] != _mark(body) + b" ":
                    raise RecordError(
                        f"{self._path.name} is damaged at byte {at}: remove it and start again"
                    )
                at += len(line)
                yield body
        self._file.truncate(at)
        self._file.seek(at)


def stored_subject(path: Path) -> Subject | None:
    """What a results file is of; None where there is none yet. Raises RecordError for another."""
    try:
        with path.open("rb") as file:
            line = file.readline(_LONGEST)
    except FileNotFoundError:
        return None
    body = line[_MARK + 1 : -1]
    if not line.endswith(b"\n"):
        return None
    if line[: _MARK + 1] != _mark(body) + b" ":
        raise RecordError(f"{path.name} holds no results of a verification")
    return _decoded(body, Subject, path)


def _mark(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:_MARK].encode()


def _decoded(body: bytes, kind: type[T], path: Path) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path.name} holds no results of a verification: {error}") from error
