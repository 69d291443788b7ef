"""Linux auditd: system calls on files, as `auditctl -w` and `-S` rules write them.

https://github.com/linux-audit/audit-documentation/wiki/SPEC-Audit-Event-Enrichment

One event is several lines with one serial number. An `open` says that a file was opened and not
what was read of it; where the rules log `pread64` too, ranges are exact, and where they log `read`,
offsets follow from what was read before on that descriptor. Descriptors that were duplicated or
inherited, and memory maps, are not followed: their reads have no file, and are counted as such.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final

from tidegate.audit.event import UNKNOWN, Action, Event
from tidegate.audit.reader import UnreadableError
from tidegate.audit.records import Record, text_lines

_STAMP: Final = re.compile(
    rb"(?:node=(?P<node>\S+) )?type=(?P<type>\S+) msg=audit\((?P<time>\d+\.\d+):(?P<serial>\d+)\):"
)
_FIELD: Final = re.compile(r'([A-Za-z0-9_-]+)=("[^"]*"|\'[^\']*\'|\S+)')
_OPEN_EVENTS: Final = 64
"""Serials that are gathered at once: the kernel's CPUs write between each other's lines."""
_DESCRIPTORS: Final = 65_536
_UNSET: Final = "4294967295"

_X86_64: Final = {
    0: "read",
    2: "open",
    17: "pread64",
    40: "sendfile",
    257: "openat",
    437: "openat2",
}
_AARCH64: Final = {56: "openat", 63: "read", 67: "pread64", 71: "sendfile", 437: "openat2"}
_CALLS: Final = {"c000003e": _X86_64, "c00000b7": _AARCH64}
_OPENS: Final = frozenset({"open", "openat", "openat2"})
_OFF_TYPES: Final = frozenset({"DAEMON_END", "DAEMON_ABORT"})


class Auditd:
    """See the module. Remembers which file a descriptor stands for, at most 65,536 of them."""

    kind = "auditd"
    unit = "line"

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[str, str, int], tuple[str, int]] = OrderedDict()

    def records(self, lines: Iterable[bytes]) -> Iterator[Record]:
        """All lines of one serial as one record, numbered by the first of them."""
        gathered: OrderedDict[bytes, tuple[int, list[bytes]]] = OrderedDict()
        for number, line in text_lines(lines):
            stamp = _STAMP.match(line) if isinstance(line, bytes) else None
            if stamp is None or not isinstance(line, bytes):
                yield number, line
                continue
            serial = (stamp["node"] or b"") + stamp["time"] + b":" + stamp["serial"]
            if stamp["type"] == b"EOE":
                if serial in gathered:
                    first, parts = gathered.pop(serial)
                    yield first, b"".join(parts)
                continue
            if serial not in gathered:
                gathered[serial] = (number, [])
                if len(gathered) > _OPEN_EVENTS:
                    first, parts = gathered.popitem(last=False)[1]
                    yield first, b"".join(parts)
            gathered[serial][1].append(line if line.endswith(b"\n") else line + b"\n")
        for first, parts in gathered.values():
            yield first, b"".join(parts)

    def parse(self, raw: bytes) -> Event:
        """Raises UnreadableError for lines without auditd's stamp, and for unknown machines."""
        stamp = _STAMP.match(raw)
        if stamp is None:
            raise UnreadableError("not a line of auditd")
        node = (stamp["node"] or b"").decode("utf-8", "replace")
        first = stamp["type"].decode("ascii", "replace")
        fields, paths = _fields(raw)
        action, target, offset, length = self._what(first, fields, paths, node)
        return Event(
            time=float(stamp["time"]),
            stream="auditd",
            action=action,
            operation=f"auditd:{first.lower()}",
            ok=fields.get("success", fields.get("res", "yes")) in ("yes", "1", "success"),
            principal=_principal(fields, node),
            target=target,
            credential=f"ses:{node}:{fields['ses']}" if fields.get("ses", _UNSET) != _UNSET else "",
            address=fields.get("addr", "") if fields.get("addr", "?") != "?" else node,
            agent=_text(fields.get("exe", "")),
            offset=offset,
            length=length,
        )

    def _what(
        self, kind: str, fields: dict[str, str], paths: list[str], node: str
    ) -> tuple[Action, str, int, int]:
        if kind in _OFF_TYPES or (kind == "CONFIG_CHANGE" and _switched_off(fields)):
            return Action.LOGGING_OFF, "", UNKNOWN, UNKNOWN
        if kind == "DAEMON_START":
            return Action.LOGGING_ON, "", UNKNOWN, UNKNOWN
        if kind != "SYSCALL":
            return Action.OTHER, "", UNKNOWN, UNKNOWN
        calls = _CALLS.get(fields.get("arch", ""))
        if calls is None:
            raise UnreadableError(
                f"system calls of a machine without a table: {fields.get('arch')}"
            )
        number, result = fields.get("syscall", ""), _whole(fields.get("exit", "-1"))
        call = calls.get(int(number)) if number.isdecimal() else number
        if call in _OPENS:
            path = paths[-1] if paths else ""
            if result >= 0 and path:
                self._keep((node, fields.get("pid", ""), result), (path, 0))
            return Action.OPEN, f"file://{path}" if path else "", UNKNOWN, UNKNOWN
        if call in ("read", "pread64", "sendfile"):
            return self._served(call, fields, result, node)
        return Action.OTHER, f"file://{paths[-1]}" if paths else "", UNKNOWN, UNKNOWN

    def _served(
        self, call: str, fields: dict[str, str], result: int, node: str
    ) -> tuple[Action, str, int, int]:
        source = "a1" if call == "sendfile" else "a0"
        key = (node, fields.get("pid", ""), int(fields.get(source, "0"), 16))
        path, position = self._files.get(key, ("", UNKNOWN))
        length = max(result, 0)
        if call == "pread64":
            return _SERVED, f"file://{path}" if path else "", int(fields.get("a3", "0"), 16), length
        if call == "sendfile":
            return _SERVED, f"file://{path}" if path else "", UNKNOWN, length
        if path and position >= 0:
            self._keep(key, (path, position + length))
        return _SERVED, f"file://{path}" if path else "", position, length

    def _keep(self, key: tuple[str, str, int], value: tuple[str, int]) -> None:
        self._files[key] = value
        self._files.move_to_end(key)
        if len(self._files) > _DESCRIPTORS:
            self._files.popitem(last=False)


_SERVED: Final = Action.READ


def _fields(raw: bytes) -> tuple[dict[str, str], list[str]]:
    """The fields of the first line (with what auditd enriched it with), and the paths, whole."""
    fields: dict[str, str] = {}
    paths: list[str] = []
    folder = ""
    for number, line in enumerate(raw.decode("utf-8", "replace").replace("\x1d", " ").split("\n")):
        found = dict(_FIELD.findall(line.partition("): ")[2] or line.partition("):")[2]))
        if number == 0:
            fields = found
        if " type=CWD " in f" {line}":
            folder = _text(found.get("cwd", ""))
        elif " type=PATH " in f" {line}" and found.get("nametype") != "PARENT":
            name = _text(found.get("name", ""))
            whole = name if name.startswith("/") else f"{folder.rstrip('/')}/{name}"
            paths.append(whole)
    return fields, paths


def _text(value: str) -> str:
    """A name, quoted or, where it holds odd bytes, in hex."""
    if value.startswith('"'):
        return value[1:-1]
    if len(value) % 2 == 0 and value and all(c in "0123456789ABCDEF" for c in value):
        return bytes.fromhex(value).decode("utf-8", "replace").rstrip("\0")
    return "" if value == "(null)" else value


def _principal(fields: dict[str, str], node: str) -> str:
    """The login user, who stays the same through su and sudo; without a login, the user."""
    login = fields.get("auid", _UNSET)
    if login not in (_UNSET, "-1", "unset"):
        name = _text(fields.get("AUID", "")) or login
    else:
        name = _text(fields.get("UID", "")) or fields.get("uid", "unknown")
    return f"user:{name}@{node}" if node else f"user:{name}"


def _switched_off(fields: dict[str, str]) -> bool:
    return fields.get("audit_enabled") == "0" or fields.get("op", "").strip('"') == "remove_rule"


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return -1
