"""What a reader of one kind of log is, and what readers share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import unquote_plus

from tidegate.audit.event import Event
from tidegate.audit.records import Record


class UnreadableError(ValueError):
    """A record is not what its log's format says; the message says what is missing or wrong."""


class Reader(Protocol):
    """One kind of log.

    `kind`: its name. `unit`: what evidence is counted in. `records` cuts a file into records, and
    `parse` reads one: None where the record is no event by the format's own rules (a Kubernetes
    request that has only been received). `parse` raises UnreadableError, or msgspec's errors, where
    the record is not of the format.
    """

    @property
    def kind(self) -> str: ...

    @property
    def unit(self) -> str: ...

    def records(self, lines: Iterable[bytes]) -> Iterator[Record]: ...

    def parse(self, raw: bytes) -> Event | None: ...


def seconds_of(moment: datetime) -> float:
    """Seconds since the Unix epoch. A moment without a zone is UTC: every format here says so."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def role_of(arn: str) -> str:
    """The role behind a session's ARN, so that one role is one principal in every log of AWS.

    `arn:aws:sts::1:assumed-role/NAME/SESSION` -> `arn:aws:iam::1:role/NAME`; others as they are.
    """
    parts = arn.split(":", 5)
    if len(parts) == 6 and parts[2] == "sts" and parts[5].startswith("assumed-role/"):
        name = parts[5].split("/")[1]
        return f"arn:{parts[1]}:iam::{parts[4]}:role/{name}"
    return arn


def account_of(arn: str) -> str:
    """The account in an ARN, or nothing."""
    parts = arn.split(":", 5)
    return parts[4] if len(parts) == 6 and parts[0] == "arn" else ""


def plain_role(arn: str) -> str:
    """A role's ARN without its path, which sessions' lack: `role/a/b/NAME` -> `role/NAME`."""
    head, found, rest = arn.partition(":role/")
    return f"{head}:role/{rest.rsplit('/', 1)[-1]}" if found else arn


def unquoted(text: str) -> str:
    """A key as it is, from as it is written in a URL."""
    return unquote_plus(text) if "%" in text or "+" in text else text


def span_of(header: str) -> tuple[int, int]:
    """`bytes=0-99` -> (0, 100). An open end or several ranges are unknown: (-1, -1)."""
    unit, _, told = header.partition("=")
    first, dash, last = told.partition("-")
    if unit.strip().lower() != "bytes" or not dash or not (first.isdecimal() and last.isdecimal()):
        return -1, -1
    return int(first), int(last) - int(first) + 1
