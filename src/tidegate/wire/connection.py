"""The link as both halves see it: one state, one table, one step function.

`advance` knows nothing of roles: it is given every message and every frame that crosses, in the
order of the schedule, and says what the link's state is next. `Connection` adds the bytes: each
role parses what the other may say and refuses the rest. No I/O here; the caller moves the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from tidegate.errors import ProtocolViolationError
from tidegate.wire.messages import (
    MAX_MESSAGE,
    PREFIX,
    Bye,
    Echo,
    Hello,
    Message,
    Pull,
    Resume,
    Step,
    decode,
    encode,
)

MAX_OWED: Final = 256
"""Pulls that may be waiting for their frames at one time."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One answer to a pull; `data` is exactly as long as was asked."""

    data: bytes


Event = Message | Frame


class Role(Enum):
    """Which half this is."""

    OUTER = "outer"
    INNER = "inner"


class Phase(Enum):
    """How far a session has come."""

    START = "start"
    GREETED = "greeted"
    OPEN = "open"
    DONE = "done"


TRANSITIONS: Final[dict[Phase, dict[type[Event], Phase]]] = {
    Phase.START: {Hello: Phase.GREETED},
    Phase.GREETED: {
        Step: Phase.OPEN,
        Pull: Phase.OPEN,
        Resume: Phase.OPEN,
        Bye: Phase.DONE,
    },
    Phase.OPEN: {
        Step: Phase.OPEN,
        Pull: Phase.OPEN,
        Echo: Phase.OPEN,
        Frame: Phase.OPEN,
        Bye: Phase.DONE,
    },
    # A frame that was on its way when the outer half said goodbye is read and dropped.
    Phase.DONE: {Frame: Phase.DONE},
}


@dataclass(frozen=True, slots=True)
class Link:
    """The state of a session. `owed` are the sizes of the pulls not yet answered, oldest first."""

    phase: Phase = Phase.START
    next_step: int = 0
    next_echo: int = 0
    settled: int = 0
    echo: bool = False
    owed: tuple[int, ...] = ()


def advance(link: Link, event: Event) -> Link:
    """The state after `event`.

    Raises:
        ProtocolViolationError: `event` cannot come now.
    """
    phase = TRANSITIONS[link.phase].get(type(event))
    if phase is None:
        raise ProtocolViolationError(
            "This cannot come now.", phase=link.phase.value, event=type(event).__name__
        )
    match event:
        case Frame(data):
            _require(link.owed[:1] == (len(data),), "A frame was not asked for.")
            return replace(link, phase=phase, owed=link.owed[1:])
        case Pull():
            _require(len(link.owed) < MAX_OWED, "Too many pulls are waiting.")
            return replace(link, phase=phase, owed=(*link.owed, event.size))
        case Step(number=number, settled=settled):
            in_order = number == link.next_step and settled >= link.settled
            _require(in_order, "A step is out of order.")
            return replace(link, phase=phase, next_step=number + 1, settled=settled)
        case Echo(number=number):
            in_order = number == link.next_echo and number < link.next_step
            _require(link.echo and in_order, "An echo is out of order.")
            return replace(link, phase=phase, next_echo=number + 1)
        case Resume(number=number):
            _require(link.echo, "A session without echoes cannot be resumed.")
            return replace(link, phase=phase, next_step=number, next_echo=number, settled=number)
        case Hello():
            return replace(link, phase=phase, echo=event.echo)
        case Bye():
            return replace(link, phase=phase)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ProtocolViolationError(otherwise)


class Connection:
    """One end of the link: bytes in, events out.

    Memory is bounded: an inner end holds at most one message and what was handed in with it, an
    outer end at most the frames it asked for. After a `ProtocolViolationError` the connection is
    unusable and raises it again.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self.link = Link()
        self._buffer = bytearray()
        self._broken: ProtocolViolationError | None = None

    def send(self, event: Event) -> bytes:
        """Take `event` into the state and return the bytes to send.

        Raises:
            ProtocolViolationError: this half may not say that, or not now.
        """
        if isinstance(event, Frame) is not (self.role is Role.INNER):
            raise ProtocolViolationError("This half may not say that.", role=self.role.value)
        self._require_whole()
        data = event.data if isinstance(event, Frame) else encode(event)
        self.link = advance(self.link, event)
        return data

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer; then call `next_event` until it returns None.

        Raises:
            ProtocolViolationError: more frame bytes came than were asked for.
        """
        self._require_whole()
        self._buffer += data
        if self.role is Role.OUTER and len(self._buffer) > sum(self.link.owed):
            raise self._break(ProtocolViolationError("More bytes came than were asked for."))

    def next_event(self) -> Event | None:
        """The next message or frame from the peer, or None when more bytes are needed.

        Raises:
            ProtocolViolationError: the bytes are not what may come now.
        """
        self._require_whole()
        try:
            event = self._frame() if self.role is Role.OUTER else self._message()
            if event is not None:
                self.link = advance(self.link, event)
        except ProtocolViolationError as error:
            raise self._break(error) from error
        return event

    def _frame(self) -> Frame | None:
        if not self.link.owed or len(self._buffer) < self.link.owed[0]:
            return None
        return Frame(self._take(self.link.owed[0]))

    def _message(self) -> Message | None:
        if len(self._buffer) < PREFIX:
            return None
        size = int.from_bytes(self._buffer[:PREFIX], "big")
        if size > MAX_MESSAGE:
            raise ProtocolViolationError("A message is longer than the limit.", size=size)
        if len(self._buffer) < PREFIX + size:
            return None
        return decode(self._take(PREFIX + size)[PREFIX:])

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _require_whole(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _break(self, error: ProtocolViolationError) -> ProtocolViolationError:
        self._broken = error
        self._buffer.clear()
        return error
