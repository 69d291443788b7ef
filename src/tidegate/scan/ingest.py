"""Suricata EVE and Zeek logs, line by line, to connections; our own request log to bills. Pure.

EVE events of type `flow`, `netflow` and `dns`; Zeek's `conn.log` and `dns.log`, as JSON or as
tab-separated values. Other events are passed over. A line that cannot be read is refused with a
reason and the next one is read: whoever can write to a log must not be able to stop its reading.
"""

from __future__ import annotations

import ipaddress
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from tidegate.errors import ConfigError, TidegateError
from tidegate.scan.flow import UNITS, Bin
from tidegate.scan.flow_views import Connection

MAX_LINE: Final = 1 << 20
"""Bytes; longer lines are refused unread."""
DNS_NAME: Final = "dns-name"
"""Protocol of what a name carries that is asked for: its bytes, to its parent domain."""
_LONGEST_BINS: Final = 1 << 20
"""Bins between the first and the last; more means a log with broken times."""

Networks = Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]


class LogLineError(TidegateError):
    """A line of a log cannot be read; the message says why, without what it holds."""

    code = "log_line_error"


class Reader:
    """Reads one log, whichever of the forms it is in; used for one file at a time."""

    def __init__(self) -> None:
        self._columns: tuple[str, ...] = ()
        self._separator, self._unset = "\t", frozenset({"-", "(empty)"})
        self.passed_over = 0

    def feed(self, line: bytes) -> Connection | None:
        """What a line says; None where it is of no interest. Raises LogLineError."""
        if len(line) > MAX_LINE:
            raise LogLineError(f"a line of {len(line)} bytes is too long to be of a log")
        line = line.strip(b"\r\n")
        if not line.strip():
            return None
        if line.startswith(b"#"):
            self._header(_text(line))
            return None
        row = self._row(line)
        maker = _maker(row)
        if maker is None:
            self.passed_over += 1
            return None
        try:
            return maker(row)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            name = type(error).__name__
            raise LogLineError(f"a field is missing or malformed ({name})") from error

    def _header(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if name == "#separator":
            try:
                self._separator = rest.encode().decode("unicode_escape") or "\t"
            except UnicodeDecodeError as error:
                raise LogLineError("the log's separator is malformed") from error
        name, *values = line.split(self._separator)
        if name == "#fields":
            self._columns = tuple(values)
        elif name in ("#unset_field", "#empty_field"):
            self._unset |= frozenset(values)

    def _row(self, line: bytes) -> Mapping[str, Any]:
        if line.startswith(b"{"):
            try:
                row = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise LogLineError("the line is not JSON") from error
            if not isinstance(row, dict):
                raise LogLineError("the line is not a JSON object")
            return row
        if not self._columns:
            raise LogLineError("the line is neither JSON nor under a #fields header")
        values = _text(line).split(self._separator)
        if len(values) != len(self._columns):
            raise LogLineError(f"{len(values)} values under {len(self._columns)} #fields")
        pairs = zip(self._columns, values, strict=True)
        return {name: value for name, value in pairs if value not in self._unset}


def leaving(connection: Connection, inside: Networks) -> Connection | None:
    """The connection seen from the inside host: `sent` is what left. None where both of its ends
    are inside, or neither is. What an inside server answered has no destination port, since those
    of clients mean nothing."""
    source, destination = (
        _within(host, inside) for host in (connection.source, connection.destination)
    )
    if connection.protocol == DNS_NAME:
        return connection if source else None
    if source == destination:
        return None
    if source:
        return connection
    return msgspec.structs.replace(
        connection,
        source=connection.destination,
        source_port=connection.destination_port,
        destination=connection.source,
        destination_port=0,
        sent=connection.received,
        received=connection.sent,
    )


class Bill(msgspec.Struct, frozen=True):
    """One answered request. `time`: Unix seconds of its end; `amounts`: of each of `flow.UNITS`."""

    time: float
    amounts: tuple[float, ...]


def billed(line: bytes) -> Bill | None:
    """What a line of the outer half's log bills; None for its other events. Raises LogLineError."""
    try:
        row = msgspec.json.decode(line[: MAX_LINE + 1])
        if not isinstance(row, dict) or row.get("event") != "request":
            return None
        tokens = _count(row["completion_tokens"])
        events = _count(row.get("events", 1))
        return Bill(_time(row["timestamp"]), (1.0, float(tokens), float(events)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LogLineError("the line is not JSON") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise LogLineError(f"a field is missing or malformed ({type(error).__name__})") from error


def bins(connections: Iterable[Connection], bills: Iterable[Bill], width: float) -> list[Bin]:
    """Both, in intervals of `width` seconds from the first to the last in which there is any.

    A connection's bytes are spread evenly over its duration, since logs do not say when they left:
    take bins that are long against connections. Raises ConfigError for a width of 0 or less, or for
    times so far apart that they cannot be one log's.
    """
    if not 0 < width < math.inf:
        raise ConfigError("a bin has a length in seconds above 0")
    sent: defaultdict[int, float] = defaultdict(float)
    amounts: defaultdict[int, list[float]] = defaultdict(lambda: [0.0] * len(UNITS))
    for one in connections:
        first, last = int(one.start // width), int((one.start + one.duration) // width)
        if last - first > _LONGEST_BINS:
            raise ConfigError("a connection lasted longer than any log; its times are broken")
        for index in range(first, last + 1):
            sent[index] += one.sent / (last - first + 1)
    for bill in bills:
        at = amounts[int(bill.time // width)]
        for place, amount in enumerate(bill.amounts):
            at[place] += amount
    known = sent.keys() | amounts.keys()
    if not known:
        return []
    if max(known) - min(known) > _LONGEST_BINS:
        raise ConfigError("the log's times are too far apart; take longer bins, or mend them")
    return [
        Bin(index * width, sent[index], tuple(amounts[index]))
        for index in range(min(known), max(known) + 1)
    ]


def parent_domain(name: str) -> str:
    """Whom a name is asked of in the end: its last two labels, or three under suffixes such as
    co.uk. Without the public suffix list that is a guess, which at worst lumps peers together."""
    labels = name.rstrip(".").lower().split(".")
    short = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3
    return ".".join(labels[-3:] if short else labels[-2:])


def _maker(row: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Connection] | None:
    if "event_type" in row:
        kind = row["event_type"]
        if kind == "dns" and not _is_query(row.get("dns")):
            return None
        return _EVE.get(kind) if isinstance(kind, str) else None
    if "id.orig_h" in row:
        if "query" in row:
            return _zeek_dns
        return _zeek_conn if "conn_state" in row or "orig_ip_bytes" in row else None
    return None


def _is_query(dns: object) -> bool:
    return isinstance(dns, dict) and dns.get("type") in ("query", "request")


def _eve_flow(row: Mapping[str, Any]) -> Connection:
    flow = row["flow"]
    start, end = _time(flow["start"]), _time(flow.get("end", flow["start"]))
    return _connection(
        row, start, end - start, _count(flow["bytes_toserver"]), _count(flow["bytes_toclient"])
    )


def _eve_netflow(row: Mapping[str, Any]) -> Connection:
    flow = row["netflow"]
    start, end = _time(flow["start"]), _time(flow.get("end", flow["start"]))
    return _connection(row, start, end - start, _count(flow["bytes"]), 0)


def _eve_dns(row: Mapping[str, Any]) -> Connection:
    asked = row["dns"]
    name = asked["rrname"] if "rrname" in asked else asked["queries"][0]["rrname"]
    return _asked(_time(row["timestamp"]), _host(row["src_ip"]), name)


def _connection(
    row: Mapping[str, Any], start: float, duration: float, sent: int, received: int
) -> Connection:
    return Connection(
        start=start,
        duration=max(0.0, duration),
        protocol=_word(row["proto"]).lower(),
        source=_host(row["src_ip"]),
        source_port=_port(row.get("src_port", 0)),
        destination=_host(row["dest_ip"]),
        destination_port=_port(row.get("dest_port", 0)),
        sent=sent,
        received=received,
        service=_word(row.get("app_proto", "")),
    )


def _zeek_conn(row: Mapping[str, Any]) -> Connection:
    return Connection(
        start=_time(row["ts"]),
        duration=max(0.0, _finite(row.get("duration", 0.0))),
        protocol=_word(row["proto"]).lower(),
        source=_host(row["id.orig_h"]),
        source_port=_port(row["id.orig_p"]),
        destination=_host(row["id.resp_h"]),
        destination_port=_port(row["id.resp_p"]),
        sent=_count(row.get("orig_ip_bytes", row.get("orig_bytes", 0))),
        received=_count(row.get("resp_ip_bytes", row.get("resp_bytes", 0))),
        service=_word(row.get("service", "")),
    )


def _zeek_dns(row: Mapping[str, Any]) -> Connection:
    return _asked(_time(row["ts"]), _host(row["id.orig_h"]), row["query"])


def _asked(time: float, source: str, name: object) -> Connection:
    told = _word(name)
    domain = parent_domain(told)
    return Connection(time, 0.0, DNS_NAME, source, 0, domain, 0, len(told), 0, "dns")


_EVE: Final[Mapping[str, Callable[[Mapping[str, Any]], Connection]]] = {
    "flow": _eve_flow,
    "netflow": _eve_netflow,
    "dns": _eve_dns,
}


def _time(value: object) -> float:
    """Unix seconds, from a number, a number's text or ISO 8601."""
    if isinstance(value, str) and "T" in value:
        stamp = datetime.fromisoformat(value)
        if stamp.tzinfo is None:
            raise ValueError("a time without a zone")
        return stamp.timestamp()
    return _finite(value)


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _count(value: object) -> int:
    number = _finite(value)
    if number < 0 or number >= 2**63:
        raise ValueError("not a count")
    return int(number)


def _port(value: object) -> int:
    port = _count(value)
    if port > 0xFFFF:
        raise ValueError("not a port")
    return port


def _host(value: object) -> str:
    return str(ipaddress.ip_address(_word(value)))


def _word(value: object) -> str:
    if not isinstance(value, str) or len(value) > 1024:
        raise TypeError("not a word")
    return value


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def _within(host: str, networks: Networks) -> bool:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(found in network for network in networks)
