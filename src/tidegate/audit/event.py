"""The one kind of event that every access log is read into.

An event says who did what to which object, from where, and how much was served. What a source does
not log is empty or -1, never guessed; `coverage` turns what is missing into bounds.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

UNKNOWN: Final = -1
"""A length or an offset that the log does not give."""


class Action(IntEnum):
    """What an event did, in the words that the findings need."""

    READ = 1  # bytes of an object were served
    OPEN = 2  # an object was opened; how much was read is another event, or in no log
    LIST = 3
    WRITE = 4
    DELETE = 5
    COPY = 6  # bytes of an object were copied by the store itself
    SHARE = 7  # somebody else was given access, or copies from now on
    DECRYPT = 8  # a wrapped key was unwrapped, or a secret was read
    WRAP = 9
    LOGGING_OFF = 10
    LOGGING_ON = 11
    EXECUTE = 12  # a door into where objects are used: exec, attach, port-forward
    OTHER = 13  # read and understood, of no interest here
    UNKNOWN = 14  # an operation that the reader has no word for


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that happened.

    time: seconds since the Unix epoch, UTC. target: the object, as a URI without a version
    (`s3://bucket/key`, `gs://bucket/object`, `az://account/container/blob`, `file:///path`,
    `k8s://namespace/resource/name`, `kms:ID`, `bao:PATH`). offset, length: bytes served, -1 where
    the log does not say. account, owner: who pays for the caller and for the object. other: where
    a copy or a share goes, or the context a key was unwrapped under. stream: which kind of log, so
    that a missing kind is seen.
    """

    time: float
    stream: str
    action: Action
    operation: str
    ok: bool
    principal: str
    target: str
    credential: str = ""
    address: str = ""
    agent: str = ""
    offset: int = UNKNOWN
    length: int = UNKNOWN
    account: str = ""
    owner: str = ""
    other: str = ""
    request: str = ""
    presigned: bool = False


class Broken(msgspec.Struct, frozen=True, gc=False):
    """A record that could not be read, and why. Never the record's text: logs hold credentials."""

    why: str


Item = Event | Broken


class Place(msgspec.Struct, frozen=True, gc=False, order=True):
    """Where evidence is: the source's number, and the line (or the record of a document) in it,
    from 1."""

    source: int
    line: int
