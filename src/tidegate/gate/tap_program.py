"""What runs on the tap's host: captures, counts, and answers for each boundary that it is told.

    python -m tidegate.gate.tap_program INTERFACE ADDRESS [own]

INTERFACE receives a copy of every frame on the gate's outside wire; ADDRESS is the Ethernet address
of the gate's end. Each line on standard input is a `Boundary` in JSON; each is answered with one
line, a `Reading` or `{"error": …}`. The first line of all is an answer to nobody: it captures now.
It needs root on its own host, and nothing of the gate's. `own` makes a capture of the gate itself
of it, on the interface whose address it is: what stands in for a meter that a kernel lacks.
"""

from __future__ import annotations

import os
import select
import sys

import msgspec

from tidegate.clock import Clock, SystemClock
from tidegate.errors import TidegateError
from tidegate.gate.meter_port import Boundary, MeterError, Reading, sorted_rows, summed
from tidegate.gate.tap_frames import Tally, tally_block
from tidegate.gate.tap_ring import RETIRE_MS, Ring

READY = b'{"ready":true}'

_MOST_BYTES_A_LINE = 4096


class Tap:
    """Counts what leaves the gate, from outside of it.

    Raises:
        MeterError: see `Ring`; or `address` is none.
    """

    def __init__(self, interface: str, address: str, clock: Clock, *, own: bool = False) -> None:
        self.name = "capture" if own else "tap"
        self._address = _bytes_of(address)
        self._clock = clock
        self._tally = Tally()
        self._broken: MeterError | None = None
        self.ring = Ring(interface, own=own)
        self._since = f"socket {os.getpid()}.{self.ring.fileno()} on {interface}"

    def drain(self) -> None:
        """Count what is ready. What goes wrong is kept, and told to whoever reads."""
        try:
            for block in self.ring.blocks():
                self._tally = self._tally.plus(tally_block(block, self._address))
        except MeterError as error:
            self._broken = self._broken or error

    def read(self, boundary: Boundary) -> Reading:
        """As `Meter.read`; after the time in which the ring hands over what it holds."""
        until = self._clock.monotonic() + 2.5 * RETIRE_MS / 1000
        while (left := until - self._clock.monotonic()) > 0:
            self.ring.wait(1 + int(1000 * left))
            self.drain()
        if self._broken is None and (lost := self.ring.lost()) is not None:
            self._broken = MeterError(lost)
        if self._broken is not None:
            raise self._broken
        rows = self._tally.rows()
        return Reading(
            meter=self.name,
            boundary=boundary,
            since=self._since,
            total=summed(rows.items()),
            protocols=sorted_rows(rows),
        )


def serve(tap: Tap, questions: int, answers: int) -> None:
    """Answer every line that comes in on descriptor `questions`, until it ends."""
    _say(answers, READY)
    poll = select.poll()
    for descriptor in (questions, tap.ring.fileno()):
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
    held = b""
    while True:
        ready = dict(poll.poll())
        tap.drain()
        if questions in ready:
            read = os.read(questions, _MOST_BYTES_A_LINE)
            if not read or len(held) > _MOST_BYTES_A_LINE:
                return
            *lines, held = (held + read).split(b"\n")
            for line in lines:
                _say(answers, _answer(tap, line))


def _answer(tap: Tap, line: bytes) -> bytes:
    try:
        return msgspec.json.encode(tap.read(msgspec.json.decode(line, type=Boundary)))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return msgspec.json.encode({"error": f"this is no boundary: {error}"})
    except TidegateError as error:
        return msgspec.json.encode({"error": error.message})


def _say(answers: int, line: bytes) -> None:
    os.write(answers, line + b"\n")


def _bytes_of(address: str) -> bytes:
    try:
        found = bytes.fromhex(address.replace(":", ""))
    except ValueError:
        found = b""
    if len(found) != 6:
        raise MeterError(f"{address!r} is no Ethernet address", address=address)
    return found


def main() -> int:
    """The program; its exit status."""
    words = sys.argv[1:]
    if len(words) not in (2, 3) or words[2:] not in ([], ["own"]):
        print("usage: python -m tidegate.gate.tap_program INTERFACE ADDRESS [own]", file=sys.stderr)
        return 2
    try:
        tap = Tap(words[0], words[1], SystemClock(), own=len(words) == 3)
    except TidegateError as error:
        _say(1, msgspec.json.encode({"error": error.message}))
        return 2
    serve(tap, 0, 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
