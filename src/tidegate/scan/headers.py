"""What headers carry beside what honest stacks put there. Pure: bytes in, bytes out.

Options that are known and leave their sender no choice of content are passed over, and so are TCP's
usual ones: a timestamp or a window could say something, too, but everybody sends them. All else is
given back whole, to be counted and scanned. (RFC 791, RFC 2113, RFC 2711, RFC 8200, RFC 9293.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_END, _NOTHING = 0, 1
_ROUTER_ALERT_V4, _ROUTER_ALERT_V6, _PAD_N = 148, 5, 1
_TCP: Final[Mapping[int, frozenset[int]]] = {
    2: frozenset({4}),
    3: frozenset({3}),
    4: frozenset({2}),
    5: frozenset({10, 18, 26, 34}),
    8: frozenset({10}),
}
"""Segment size, window scale, selective acknowledgement (allowed; given), timestamps: lengths."""
_USUAL: Final = b"\x01\x01\x08\x0a"
_FRAME: Final = 46
"""Bytes of payload that the shortest Ethernet frame is padded to."""


def odd_of_tcp(options: bytes) -> bytes:
    """TCP's options that are not usual ones."""
    if len(options) == 12 and options.startswith(_USUAL):
        return b""
    odd, at = b"", 0
    while at < len(options):
        kind = options[at]
        if kind == _NOTHING:
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if kind == _END or length < 2:
            return odd + _said(options[at:])
        if length not in _TCP.get(kind, ()):
            odd += options[at : at + length]
        at += length
    return odd


def odd_of_ipv4(options: bytes) -> bytes:
    """IPv4's options without padding, and without a router alert that says nothing more."""
    odd, at = b"", 0
    while at < len(options):
        kind = options[at]
        if kind == _NOTHING:
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if kind == _END or length < 2:
            return odd + _said(options[at:])
        one = options[at : at + length]
        if one != bytes((_ROUTER_ALERT_V4, 4, 0, 0)):
            odd += one
        at += length
    return odd


def odd_of_ipv6(header: bytes) -> bytes:
    """A hop-by-hop or destination options header's options, as `odd_of_ipv4`."""
    odd, at = b"", 2
    while at < len(header):
        if header[at] == 0:
            at += 1
            continue
        length = 2 + (header[at + 1] if at + 1 < len(header) else 0)
        one = header[at : at + length]
        alert = one[:2] == bytes((_ROUTER_ALERT_V6, 2))
        if not alert and (one[0] != _PAD_N or any(one[2:])):
            odd += one
        at += length
    return odd


def behind(datagram: bytes, total: int) -> bytes:
    """What follows a datagram's stated end, beyond what fills up a short frame."""
    return _said(datagram[max(total, _FRAME) :]) if 0 < total < len(datagram) else b""


def _said(padding: bytes) -> bytes:
    return padding if any(padding) else b""
