"""S3 server access logs: one line a request, delivered on a best-effort basis.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html

The line has the bytes sent and the object's size, and not which bytes: the Range header is not
logged. A part number is in the request's URI, but the size of parts is not.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Iterable, Iterator
from typing import Final

from tidegate.audit.event import UNKNOWN, Action, Event
from tidegate.audit.reader import UnreadableError, account_of, role_of, unquoted
from tidegate.audit.records import Record, text_lines

_HEAD: Final = (
    r"[^ ]+ ([^ ]+) \[([^\]]+)\] ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) "
    r'(?:"[^"]*"|-) ([^ ]+) [^ ]+ ([^ ]+) ([^ ]+) '
)
_TAIL: Final = r'[^ ]+ [^ ]+ (?:"[^"]*"|-) (?:"([^"]*)"|-)(?: [^ ]+ [^ ]+ [^ ]+ [^ ]+ ([^ \r\n]+))?'
_LINE: Final = re.compile(_HEAD + _TAIL)
_FORGED: Final = re.compile(_HEAD + "()()")
"""Whoever reads chooses referrer and agent, and may put quotes in: what was served stands before
them."""

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_ACTIONS: Final = {
    "REST.GET.OBJECT": Action.READ,
    "WEBSITE.GET.OBJECT": Action.READ,
    "SOAP.GETOBJECT": Action.READ,
    "REST.SELECT.OBJECT": Action.READ,
    "REST.HEAD.OBJECT": Action.LIST,
    "REST.GET.BUCKET": Action.LIST,
    "REST.GET.BUCKETVERSIONS": Action.LIST,
    "REST.GET.OBJECT_TAGGING": Action.LIST,
    "REST.GET.ACL": Action.LIST,
    "REST.PUT.OBJECT": Action.WRITE,
    "REST.PUT.PART": Action.WRITE,
    "REST.POST.UPLOADS": Action.WRITE,
    "REST.POST.UPLOAD": Action.WRITE,
    "REST.DELETE.OBJECT": Action.DELETE,
    "REST.POST.MULTI_OBJECT_DELETE": Action.DELETE,
    "BATCH.DELETE.OBJECT": Action.DELETE,
    "S3.EXPIRE.OBJECT": Action.DELETE,
    "REST.COPY.OBJECT_GET": Action.COPY,
    "REST.COPY.PART_GET": Action.COPY,
    "REST.COPY.OBJECT": Action.WRITE,
    "REST.COPY.PART": Action.WRITE,
    "REST.PUT.REPLICATION": Action.SHARE,
    "REST.PUT.BUCKETPOLICY": Action.SHARE,
    "REST.PUT.ACL": Action.SHARE,
    "REST.PUT.LOGGING_STATUS": Action.LOGGING_OFF,
}


class S3Access:
    """See the module. Keeps the last minute that it read, since lines of one minute follow."""

    kind = "s3-access"
    unit = "line"

    def __init__(self) -> None:
        self._minute = ""
        self._epoch = 0

    def records(self, lines: Iterable[bytes]) -> Iterator[Record]:
        """One line an event."""
        return text_lines(lines)

    def parse(self, raw: bytes) -> Event:
        """Raises UnreadableError for a line of another shape."""
        line = raw.decode("utf-8", "replace")
        match = _LINE.match(line) or _FORGED.match(line)
        if match is None:
            raise UnreadableError("not a line of an S3 server access log")
        (
            bucket, time, address, who, request, operation, key, status, sent, size, agent, method,
        ) = match.groups()  # fmt: skip
        action = _ACTIONS.get(operation) or _other(operation)
        length = int(sent) if sent.isdecimal() else 0 if sent == "-" else UNKNOWN
        if action is Action.COPY:
            # The store copies inside: nothing is sent, and the size is that of what was copied.
            length = int(size) if size.isdecimal() else UNKNOWN
        target = f"s3://{bucket}" if key == "-" else f"s3://{bucket}/{unquoted(unquoted(key))}"
        principal = "anonymous" if who == "-" else role_of(who)
        return Event(
            time=self._time(time),
            stream="s3 access",
            action=action,
            operation=f"s3:{operation}",
            ok=status[:1] == "2",
            principal=principal,
            target=target,
            address=address,
            agent=agent or "",
            offset=0 if action is _READ and sent == size and status == "200" else UNKNOWN,
            length=length,
            account=account_of(principal),
            request=request,
            presigned=method == "QueryString",
        )

    def _time(self, text: str) -> float:
        if text[:17] != self._minute:
            try:
                day, month, year, hour, minute = (
                    int(text[0:2]), _MONTHS[text[3:6]], int(text[7:11]), int(text[12:14]),
                    int(text[15:17]),
                )  # fmt: skip
            except (ValueError, KeyError) as error:
                raise UnreadableError(f"no time of an S3 server access log: {error}") from error
            self._epoch = timegm((year, month, day, hour, minute, 0))
            self._minute = text[:17]
        try:
            return float(self._epoch + int(text[18:20]))
        except ValueError as error:
            raise UnreadableError("a time without seconds") from error


_READ: Final = Action.READ


def _other(operation: str) -> Action:
    """Operations of the rest of the interface: what reads settings is told from the unknown."""
    if ".OBJECT" in operation or "SELECT" in operation:
        return Action.UNKNOWN
    return Action.LIST if ".GET." in operation or ".HEAD." in operation else Action.OTHER
