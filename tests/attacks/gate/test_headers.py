"""Between a packet's header and its payload is room that no port or address decides on: none."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tidegate.bench.gate_rig import DNS, held, policy
from tidegate.gate import nft
from tidegate.gate.worlds import (
    GATE,
    INNER,
    INNER_V4,
    INNER_V6,
    INSIDE,
    OUT,
    OUTSIDE_V4,
    OUTSIDE_V6,
    UP,
    World,
    world,
)
from tidegate.redteam import thief_frames as frames

pytestmark = pytest.mark.needs_root

_COUNT, _SECRET = 20, b"secret" * 40
_DATAGRAM = frames.udp(INNER_V6, OUTSIDE_V6, (4000, DNS), b"a question")
_AUTHENTICATION, _MOBILITY, _IDENTITY, _SHIM = 51, 135, 139, 140


def _behind(*kinds: int) -> bytes:
    """A datagram behind extension headers with a secret in each but fragment headers."""
    body, following = _DATAGRAM, frames.UDP
    for kind in reversed(kinds):
        if kind == frames.FRAGMENT:
            body = frames.fragment_header(following, 0, False, 7) + body
        elif kind == _AUTHENTICATION:
            body = bytes((following, 1, 0, 0)) + _SECRET[:8] + body
        else:
            body = frames.options_header(following, _SECRET) + body
        following = kind
    return frames.ipv6(INNER_V6, OUTSIDE_V6, following, body)


def _with_options(options: bytes) -> bytes:
    body = frames.udp(INNER_V4, OUTSIDE_V4, (4000, DNS), b"a question")
    return frames.ipv4(INNER_V4, OUTSIDE_V4, frames.UDP, body, options=options)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(offload=False) as made, held(made, policy(tmp_path_factory.mktemp("state"))):
        yield made


def _passed(made: World, *classes: str) -> int:
    kernel = made.enter(GATE, nft.look)
    assert kernel is not None
    return sum(packets for name, packets, _ in kernel.passed if name in classes)


def _through(made: World, datagram: bytes) -> int:
    """How many of `_COUNT` such datagrams from inside leave a gate."""
    kind = 0x86DD if datagram[0] >> 4 == 6 else 0x0800
    gate = made.run(GATE, ["cat", f"/sys/class/net/{INSIDE}/address"]).stdout.strip()

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as raw:
            for _ in range(_COUNT):
                raw.sendto(datagram, (UP, kind, 0, 0, bytes.fromhex(gate.replace(":", ""))))

    before = _passed(made, "passed_dns")
    made.enter(INNER, send)
    # The first may wait for a neighbour.
    made.run(GATE, ["sleep", "0.2"])
    return _passed(made, "passed_dns") - before


@pytest.mark.parametrize(
    "datagram",
    [_behind(), _behind(frames.FRAGMENT), _with_options(b"")],
    ids=["none", "fragment", "ipv4"],
)
def test_headers_without_room_pass(opened: World, datagram: bytes) -> None:
    assert _through(opened, datagram) == _COUNT


@pytest.mark.parametrize(
    "datagram",
    [
        _behind(frames.HOP_BY_HOP),
        _behind(frames.DESTINATION_OPTIONS),
        _behind(frames.ROUTING),
        _behind(_AUTHENTICATION),
        _behind(_MOBILITY),
        _behind(_IDENTITY),
        _behind(_SHIM),
        _behind(frames.FRAGMENT, frames.DESTINATION_OPTIONS),
        _behind(frames.FRAGMENT, frames.FRAGMENT, frames.DESTINATION_OPTIONS),
        _with_options(b"\x9e\x28" + _SECRET[:38]),
        _with_options(b"\x94\x04ab"),
    ],
    ids=[
        "hop-by-hop",
        "destination",
        "routing",
        "authentication",
        "mobility",
        "identity",
        "shim",
        "behind-fragment",
        "behind-fragments",
        "ipv4-unknown",
        "ipv4-router-alert-that-says-something",
    ],
)
def test_headers_with_room_for_a_secret_do_not(opened: World, datagram: bytes) -> None:
    assert _through(opened, datagram) == 0


@pytest.mark.parametrize("says", [b"\x05\x02\x00\x00\x01\x00", b"\x05\x02hi\x01\x00"])
def test_a_listener_report_may_alert_routers_and_say_nothing_more(
    opened: World, says: bytes
) -> None:
    report = b"\x3a\x00" + says + frames.echo(INNER_V6, "ff02::16", b"")
    packet = frames.ipv6("fe80::1", "ff02::16", 0, report)
    frame = b"\x33\x33\x00\x00\x00\x16" + b"\x02" * 6 + b"\x86\xdd" + packet

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((OUT, 0))
            for _ in range(_COUNT):
                try:
                    raw.send(frame)
                except OSError:
                    assert says[2:4] == b"hi", "only what is dropped is refused"

    before = _passed(opened, "passed_neighbours")
    opened.enter(GATE, send)
    sent = _passed(opened, "passed_neighbours") - before
    # The kernels' own reports, of which there are few, count, too.
    assert (sent >= _COUNT) == (says[2:4] == b"\0\0")
