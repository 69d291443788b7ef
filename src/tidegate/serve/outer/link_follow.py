"""The decoding side of the lock-step: schedule events and frames in, finished steps out.

No I/O and no clock. It is slow (it runs the weak model), so the session calls `work` in a thread of
its own and hands over everything that happened since by value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tidegate.coding.candidates import Candidates
from tidegate.coding.upload import ABORT, UploadDecoder
from tidegate.models.port import Model
from tidegate.sampling.finish import FinishReason, Rules
from tidegate.serve.lockstep import WAIT, Lockstep, Ready, Symbol, Voice, VoiceKey
from tidegate.units import Bits, MicroBits
from tidegate.wire.connection import Frame
from tidegate.wire.messages import Pull, Resume, Step

MICRO: Final = 1 << 16
"""`MicroBits` in a bit."""


@dataclass(frozen=True, slots=True)
class Said:
    """One stream's symbol of a step: the text it let out, and whether and why the stream ended."""

    key: VoiceKey
    symbol: Symbol
    text: str
    ended: bool
    reason: FinishReason | None

    @property
    def token(self) -> int | None:
        """The token id, if the symbol was one."""
        if isinstance(self.symbol, Ready) or self.symbol in (ABORT, WAIT):
            return None
        return self.symbol


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step of which all is known; `digest`: the hash of the tables it was decoded with."""

    number: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Worked:
    """What a call of `work` came to: at most to the end of one step, `done`.

    `said` are the symbols of step `step` that were decoded in this call; `costs` are (stream, is a
    token, ideal length) of what was decoded since the last. After `done` all pulls up to number
    `pulls` are replayed as far as that step goes, and `unsent` bits of its symbols are in none of
    them.
    """

    step: int
    said: tuple[Said, ...]
    done: StepDone | None
    costs: tuple[tuple[VoiceKey, bool, MicroBits], ...]
    pulls: int
    unsent: Bits
    padding: Bits


class Follower:
    """Decodes one session. Not thread-safe: one caller at a time."""

    def __init__(self, weak: Model, rules: Rules, *, slots: int, echo: bool) -> None:
        """`rules` holds the end tokens and the tokenizer; each join brings its own limits."""
        self._weak = weak
        self._lockstep = Lockstep(weak, rules, slots=slots, echo=echo)
        self._decoder = UploadDecoder(weak.vocab_size)
        self._granted: deque[Step] = deque()
        self._last_granted = -1
        self._pulls = 0
        self._step: Step | None = None
        self._number = -1
        self._voices: deque[tuple[Voice, Candidates | None]] = deque()
        self._readying = False
        self._said: list[Said] = []
        self._costs: list[tuple[VoiceKey, bool, MicroBits]] = []

    def work(self, events: Iterable[Step | Pull | Frame], *, settled: int = 0) -> Worked:
        """Take `events` in schedule order, then decode up to the end of a step or of the bytes.

        Steps below `settled` were released and will never be rewound. Call again, with or without
        new events, while `done` is not None.

        Raises:
            LinkError: a frame is not the one its symbols encode to.
        """
        self._lockstep.settle(settled)
        for event in events:
            if isinstance(event, Step):
                self._granted.append(event)
                self._last_granted = event.number
            elif isinstance(event, Pull):
                self._decoder.pull(self._last_granted, event.size)
                self._pulls += 1
            else:
                self._decoder.receive(event.data)
        done = self._advance()
        said, self._said = tuple(self._said), []
        costs, self._costs = tuple(self._costs), []
        return Worked(
            self._number,
            said,
            done,
            costs,
            self._pulls,
            self._decoder.unsent_bits(),
            Bits(8 * self._decoder.padding_bytes),
        )

    def prepare(self) -> None:
        """Run the weak model for the next step if it is granted, without waiting for bytes."""
        if self._step is None and self._granted:
            self._open(self._granted.popleft())

    def rewind(self, message: Resume) -> None:
        """Go back to step `message.number`; its symbols and all after it will come again."""
        self._lockstep.rewind(message.number, message.exact_steps)
        self._decoder = UploadDecoder(self._weak.vocab_size)
        self._granted.clear()
        self._last_granted = message.number - 1
        self._pulls = 0
        self._step = None
        self._voices.clear()
        self._readying = False
        self._said.clear()
        self._costs.clear()

    def forget(self) -> None:
        """The session is over: drop the weak model's sequences."""
        self._lockstep.forget()

    def _advance(self) -> StepDone | None:
        self.prepare()
        if self._step is None:
            return None
        while self._voices:
            voice, table = self._voices[0]
            symbol = self._get(voice, table)
            if symbol is None:
                return None
            self._voices.popleft()
            outcome = self._lockstep.observe(voice, symbol)
            said = Said(voice.key, symbol, outcome.text, outcome.ended, outcome.reason)
            self._said.append(said)
        self._step = None
        self._decoder.end_step(self._number)
        return StepDone(self._number, self._lockstep.digest())

    def _open(self, step: Step) -> None:
        voices = self._lockstep.open(step)
        self._voices.extend(zip(voices, self._lockstep.predict(step.number), strict=True))
        self._step, self._number = step, step.number

    def _get(self, voice: Voice, table: Candidates | None) -> Symbol | None:
        if table is None:
            return self._get_waiting(voice)
        token = self._decoder.get_token(table)
        if token is not None:
            self._costs.append((voice.key, True, self._decoder.last_cost))
        return token

    def _get_waiting(self, voice: Voice) -> Symbol | None:
        if not self._readying:
            ready = self._decoder.get_wait()
            if ready is None:
                return None
            self._costs.append((voice.key, False, self._decoder.last_cost))
            if not ready:
                return WAIT
            self._readying = True
        if voice.join.candidates > 1:
            choice = self._decoder.get_choice(voice.join.candidates)
            if choice is None:
                return None
            self._costs.append((voice.key, False, self._decoder.last_cost))
        else:
            choice = 0
        self._readying = False
        return Ready(choice)
