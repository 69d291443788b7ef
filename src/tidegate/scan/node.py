"""One stream of bytes, the outermost or one that was unwrapped, and the streams inside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from tidegate.scan import magic, unwrap_http, unwrap_packed, unwrap_text
from tidegate.scan.calibration import SHORT, WEIGHING, WINDOW
from tidegate.scan.judge import Judge, Span
from tidegate.scan.lanes import OTHERS, Lanes, cut, looks_like_json
from tidegate.scan.seen import (
    Held,
    Seen,
    Shared,
    is_dull,
    leftmost,
    may_stand_for,
    settled,
    stretches,
)
from tidegate.scan.sighting import Kind
from tidegate.scan.unwrap_packed import PackedError, Unpacker
from tidegate.scan.windows import Measures, binary_bytes, measure

_BLOCK: Final = 1 << 18
_INNER_HOLD: Final = 4 * WINDOW
_PROBE: Final = 4096
_SAMPLE: Final = 1 << 14
_AROUND: Final = "(around)"
_SMALLEST_BOMB: Final = 1 << 20
_MOST_BINARY: Final = 80
"""More bytes than so many that no text has, and a block is not JSON, whatever is around them."""
_SHORTEST_DIGEST, _LONGEST_DIGEST = 30, 130
"""Characters of a value: hex of such lengths are checksums, which harmless traffic is full of."""


@dataclass(slots=True)
class _Encoded:
    """An encoding as text that may go on where the last stretch of it ended."""

    node: Node
    layer: str
    left: bytes = b""
    end: int = 0


class Node:
    """Takes a stream in pieces. `only_own`: tells of nothing but the owner's own weights.

    `digests`: what is fed now are values as long as checksums are.
    """

    def __init__(
        self,
        shared: Shared,
        layers: tuple[str, ...] = (),
        *,
        hold: int = _INNER_HOLD,
        only_own: bool = False,
    ) -> None:
        self._shared = shared
        self._layers = layers
        self._hold = hold
        self._only_own = only_own
        self._held = Held()
        self._marks: dict[int, bool] = {}
        self._ahead = 0
        self._span: Span = (0, 0)
        self._done = 0
        self._lanes: Lanes | None = None
        self._inner: dict[str, Node] = {}
        self._unpacker: Unpacker | None = None
        self._unpacked: Node | None = None
        self._ended = -1
        self._encoded: _Encoded | None = None
        self._headers: set[str] = set()
        self.digests = False
        self._judge = Judge(shared, layers, only_own=only_own)
        self._too_deep = False

    def feed(self, data: bytes, span: Span) -> None:
        """The stream goes on; `span` is where in the outermost stream `data` comes from."""
        began = self._span[0] if self._held.size else span[0]
        self._span = (max(began, span[1] - _BLOCK), span[1])
        self._held.add(data)
        if self._held.size >= self._hold:
            self._process(final=False)

    def mark(self) -> None:
        """What is fed next begins something: a part, or a body."""
        self._marks[self._done + self._held.size] = False

    def close(self) -> None:
        """The stream is over."""
        self._process(final=True)
        if self._unpacker is not None and self._unpacker.frame is not None:
            self._around(self._unpacker.frame.left(), self._span)
            self._end_unpacking()
        elif self._unpacker is not None:
            self._broken(f"{self._unpacker.layer} that ends before its end")
        if self._encoded is not None:
            self._encoded.node.close()
        for node in self._inner.values():
            node.close()

    def _process(self, *, final: bool) -> None:
        data, at = self._held.take(), 0
        while at < len(data):
            self._ahead = len(data) - at
            block = data[at : at + _BLOCK]
            if self._unpacker is not None:
                taken = self._unpack(self._unpacker, block)
            else:
                taken = self._up_to_a_beginning(block, final=final and self._ahead <= _BLOCK)
            at += taken
            self._done += taken
            if not taken and self._unpacker is None:
                break
        self._held.add(data[at:])

    def _up_to_a_beginning(self, block: bytes, *, final: bool) -> int:
        """Looks at what lies before the first body or part that can be unwrapped."""
        stop = len(block)
        if not self._layers:
            bodies, stop = unwrap_http.bodies(block)
            self._marks |= {self._done + body.start: body.chunked for body in bodies}
        self._marks = {at: chunked for at, chunked in self._marks.items() if at >= self._done}
        for mark, chunked in sorted(self._marks.items()):
            at = mark - self._done
            if 0 < at < len(block) and self._opens(
                block[at : at + _SAMPLE], at_start=True, chunked=chunked
            ):
                return self._plain(block[:at], final=True, goes_on=True)
        if final or stop == len(block):
            return self._plain(block, final=final)
        return self._plain(block[:stop], final=False)

    def _where(self, start: int, stop: int) -> Span:
        """Where bytes of what is at hand lie in the outermost stream."""
        if self._layers:
            return self._span
        base = self._span[1] - self._ahead
        return base + start, base + stop

    def _tell(self, span: Span, kind: Kind, detector: str, score: float, explanation: str) -> None:
        self._judge.tell(span, kind, detector, score, explanation)

    # What is neither packed nor encoded.

    def _plain(self, data: bytes, *, final: bool, goes_on: bool = False) -> int:
        """Looks at what is at hand, as far as a packed member; returns how far that is.

        `goes_on`: the stream does not end with what is at hand, though the text does.
        """
        if self._done == 0:
            self._header(data)
        chunked = self._marks.pop(self._done, None)
        begins = self._done == 0 or chunked is not None
        if (begins or self._done == self._ended) and self._begin(
            data, at_start=begins, chunked=bool(chunked)
        ):
            return 0
        window = WINDOW if len(data) >= WINDOW else len(data)
        if window < WINDOW and not final:
            return 0
        if window < (SHORT // 2 if self._layers else SHORT):
            if goes_on:
                self._around(data, self._where(0, len(data)))
            return len(data)
        json = looks_like_json(data)
        if json and _is_text(data) and self._deeper(self._where(0, len(data)), "json"):
            return self._json(data, final=final)
        measures = measure(data, window)
        if settled(measures, self._shared.calibration.line(window)):
            return len(measures.cost_W) * window
        seen = self._seen(data, window, measures)
        if json:
            # Nothing that a parser would take: it is looked at as it lies.
            self._look(seen._replace(dull_W=np.zeros_like(seen.dull_W)), seen.whole)
            return seen.whole
        return self._bytes(seen)

    def _seen(self, data: bytes, window: int, measures: Measures) -> Seen:
        beyond_W = WEIGHING.score(measures) - np.float32(self._shared.calibration.line(window))
        loud_W = beyond_W > 0
        return Seen(data, window, measures, beyond_W, loud_W, is_dull(measures) & ~loud_W)

    def _bytes(self, seen: Seen) -> int:
        for first, last in stretches(seen.loud_W):
            start = max(0, first - 1) * seen.window
            packed = self._packed(seen.data, start, last * seen.window)
            if packed is not None:
                self._look(seen, packed)
                return packed
        self._look(seen, seen.whole)
        return seen.whole

    def _look(self, seen: Seen, stop: int) -> None:
        mark_W = np.where(seen.loud_W, 2, np.where(seen.dull_W, 1, 0))[: stop // seen.window]
        for mark in (2, 1):
            for first, last in stretches(mark_W == mark):
                self._stretch(seen, first, last, loud=mark == 2)

    def _stretch(self, seen: Seen, first: int, last: int, *, loud: bool) -> None:
        start, stop = first * seen.window, last * seen.window
        span = self._where(start, stop)
        going_on = self._encoded if self._done + start == self._goes_on_at() else None
        begin = start if going_on else leftmost(seen.data, start)
        left = going_on.left if going_on else b""
        decoded = unwrap_text.decode(left + seen.data[begin:stop])
        cost = float(seen.measures.cost_W[first:last].mean())
        if (
            decoded is not None
            and (loud or self._may_stand_for(decoded.layer, seen.data[begin:stop], cost))
            and self._deeper(span, decoded.layer)
        ):
            node = self._encoding(decoded.layer, going_on)
            self._encoded = _Encoded(node, decoded.layer, decoded.left, self._done + stop)
            node.feed(decoded.data, span)
            return
        if loud:
            self._header(seen.data[start:stop], span)
            self._judge.judge(seen, first, last, span)

    def _may_stand_for(self, layer: str, text: bytes, cost: float) -> bool:
        checksums = layer == unwrap_text.HEX and self.digests
        return not checksums and may_stand_for(layer, text, cost)

    def _goes_on_at(self) -> int:
        return self._encoded.end if self._encoded else -1

    def _encoding(self, layer: str, going_on: _Encoded | None) -> Node:
        if going_on is not None and going_on.layer == layer:
            return going_on.node
        if self._encoded is not None:
            self._encoded.node.close()
        only = self._only_own or layer == unwrap_text.DECIMAL
        return Node(self._shared, (*self._layers, layer), only_own=only)

    def _header(self, data: bytes, span: Span | None = None) -> None:
        """Tells of a model format's header at the beginning of `data`, or where one is plain."""
        found = magic.identify(data) or magic.find(data)
        if found is None or found.name in self._headers:
            return
        self._headers.add(found.name)
        where = span or self._where(0, len(data))
        says = f"header of a {found.name} file: {found.says}"
        self._tell(where, Kind.MODEL_FILE, "header", 1.0, says)

    # JSON and server-sent events.

    def _json(self, data: bytes, *, final: bool) -> int:
        if self._lanes is None:
            self._lanes = Lanes()
        stop = len(data) if final else cut(data)
        outer = "sse" if data.count(b"data:", 0, _PROBE) else "json"
        for name, said, values in self._lanes.feed(data[:stop]):
            node = self._inner.get(name)
            if node is None:
                node = Node(
                    self._shared, (*self._layers, f"{outer} {name}"), only_own=self._only_own
                )
                self._inner[name] = node
            # What shares the last lane has nothing to do with one another.
            length = len(said) / values
            node.digests = name == OTHERS or _SHORTEST_DIGEST <= length <= _LONGEST_DIGEST
            node.feed(said, self._where(0, stop))
        return stop

    # Packed members.

    def _packed(self, data: bytes, start: int, stop: int) -> int | None:
        """Where in a stretch a packed member begins that can be unpacked; it is begun."""
        for hit in unwrap_packed.beginnings(data, start, stop):
            self._header(data[hit:])
            if self._begin(data[hit:], at_start=False):
                return hit
        return None

    def _begin(self, data: bytes, *, at_start: bool, chunked: bool = False) -> bool:
        layer = self._opens(data, at_start=at_start, chunked=chunked)
        if layer is None or not self._deeper(self._where(0, len(data)), layer):
            return False
        self._unpacker = unwrap_packed.begin(data, at_start=at_start, chunked=chunked)
        self._unpacked = Node(self._shared, (*self._layers, layer), only_own=self._only_own)
        if chunked:
            self._unpacked.mark()
        return True

    @staticmethod
    def _opens(data: bytes, *, at_start: bool, chunked: bool) -> str | None:
        """The layer that begins here; None where the first bytes cannot be unpacked."""
        probe = unwrap_packed.begin(data, at_start=at_start, chunked=chunked)
        if probe is None:
            return None
        try:
            for _ in probe.feed(data[probe.skip : probe.skip + _PROBE]):
                pass
        except PackedError:
            return None
        return probe.layer

    def _around(self, data: bytes, span: Span) -> None:
        """Text round what is wrapped: too little to be looked at each time, so put together."""
        node = self._inner.get(_AROUND)
        if node is None:
            node = Node(self._shared, (*self._layers, _AROUND), only_own=self._only_own)
            self._inner[_AROUND] = node
        node.feed(data, span)

    def _unpack(self, unpacker: Unpacker, data: bytes) -> int:
        limits = self._shared.limits
        inner = self._unpacked
        body = data[unpacker.skip :]
        unpacker.skip = max(0, unpacker.skip - len(data))
        span = self._where(0, len(data))
        try:
            for piece in unpacker.feed(body):
                self._shared.unpacked += len(piece)
                much = unpacker.given > max(_SMALLEST_BOMB, limits.ratio * unpacker.taken)
                if much or self._shared.unpacked > limits.unpacked:
                    self._bomb(unpacker, span)
                    return len(data)
                if inner is not None:
                    if unpacker.frame is not None and unpacker.frame.begins:
                        unpacker.frame.begins = False
                        inner.mark()
                    inner.feed(piece, span)
        except PackedError as error:
            self._broken(f"{unpacker.layer} that cannot be unpacked ({error})")
            return len(data)
        if unpacker.frame is not None and unpacker.frame.around:
            self._around(bytes(unpacker.frame.around), span)
            unpacker.frame.around.clear()
        rest = unpacker.rest()
        if rest is None:
            return len(data)
        self._end_unpacking()
        taken = len(data) - len(rest)
        self._ended = self._done + taken
        return taken

    def _bomb(self, unpacker: Unpacker, span: Span) -> None:
        ratio = unpacker.given / max(1, unpacker.taken)
        says = (
            f"{unpacker.layer} that unpacks to {ratio:,.0f} times its size, "
            f"{self._shared.unpacked:,} bytes so far in this stream: not unpacked any further"
        )
        self._end_unpacking()
        self._tell(span, Kind.BOMB, "limits", ratio / self._shared.limits.ratio, says)

    def _broken(self, says: str) -> None:
        self._end_unpacking()
        self._tell(self._where(0, self._ahead), Kind.OPAQUE, "limits", 1.0, says)

    def _end_unpacking(self) -> None:
        inner, self._unpacked, self._unpacker = self._unpacked, None, None
        if inner is not None:
            inner.close()

    def _deeper(self, span: Span, layer: str) -> bool:
        """Whether one more layer may be unwrapped; told once where it may not."""
        if len(self._layers) < self._shared.limits.depth:
            return True
        if not self._too_deep:
            self._too_deep = True
            says = f"{layer} inside {len(self._layers)} layers already: not unwrapped any further"
            self._tell(span, Kind.BOMB, "limits", 1.0, says)
        return False


def _is_text(data: bytes) -> bool:
    return binary_bytes(data) <= _MOST_BINARY
