"""What both halves compute at every step, so that neither has to tell the other.

The inner half knows the symbols and encodes them, the outer half decodes them; the streams, their
ends, the weak model's batches and the candidate tables follow, and both run the code below on the
same numbers. No I/O; what it owns is the weak model's sequences (one a slot).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from tidegate.coding.candidates import Candidates, candidates, no_candidates
from tidegate.coding.upload import ABORT
from tidegate.errors import EngineError, ProtocolViolationError
from tidegate.models.port import MODEL_FAILURES, F32Array, Model
from tidegate.sampling.filters import PenaltyState, needs_penalties, shift_logits
from tidegate.sampling.finish import FinishReason, Limits, Progress, Rules, decide
from tidegate.sampling.gumbel import Noise
from tidegate.sampling.seed import sub_seed
from tidegate.wire.messages import Join, Step

CODER: Final = "tidegate-coder-2"
"""Names the coder and the symbol order in `Hello`; changes whenever a bit of the upload would."""

WAIT: Final = -2
"""In place of a token: the stream has nothing to say at this step."""

MAX_UNSETTLED: Final = 1024
"""Steps both halves can go back; a session that leaves more of them unsettled is refused."""


@dataclass(frozen=True, slots=True)
class Ready:
    """In place of a token: from the next step on the stream says what candidate `choice` says."""

    choice: int = 0


Symbol = int | Ready
"""A token id, `ABORT`, `WAIT`, or `Ready`."""


class VoiceKey(NamedTuple):
    """A stream of a session: the step at which it joined, and its slot."""

    step: int
    slot: int


class Voice:
    """One stream as both halves see it; only `Lockstep` changes it."""

    __slots__ = (
        "_drawn",
        "_noise",
        "fed",
        "join",
        "key",
        "params",
        "penalties",
        "progress",
        "rules",
        "seed",
        "tokens",
        "waiting",
    )

    def __init__(self, key: VoiceKey, join: Join, rules: Rules, vocab_size: int) -> None:
        self.key = key
        self.join = join
        self.params = join.params.value()
        self.rules = rules
        self.waiting = join.candidates > 1 or join.reasoning is not None
        self.tokens: list[int] = []
        self.seed = sub_seed(join.seed, "candidate", 0)
        self.progress = Progress()
        self.penalties = PenaltyState.of(join.prompt) if needs_penalties(self.params) else None
        self.fed = 0
        self._noise = Noise(vocab_size)
        self._drawn: tuple[bytes, int] | None = None

    def noise(self) -> Noise:
        """The noise the next visible token is drawn with."""
        wanted = (self.seed, len(self.tokens))
        if self.params.temperature > 0.0 and self._drawn != wanted:
            self._noise.move(*wanted)
            self._drawn = wanted
        return self._noise

    def unfed(self) -> Sequence[int]:
        """Visible tokens the weak model has not seen, the prompt's included."""
        if self.fed < len(self.join.prompt):
            return (*self.join.prompt[self.fed :], *self.tokens)
        return self.tokens[self.fed - len(self.join.prompt) :]

    def length(self) -> int:
        """Tokens of prompt and visible answer."""
        return len(self.join.prompt) + len(self.tokens)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a symbol did to its stream: the text it let out, and whether and why it ended."""

    text: str = ""
    ended: bool = False
    reason: FinishReason | None = None


_NOTHING: Final = Outcome()
_ABORTED: Final = Outcome(ended=True)

_Memory = tuple[Voice, bool, int, bytes, Progress, PenaltyState | None]


class Lockstep:
    """The streams of a link. Per step: `open`, `predict`, `observe` each voice, `close`."""

    def __init__(self, weak: Model, rules: Rules, *, slots: int, echo: bool) -> None:
        """`rules` holds what is common to all streams; each join brings its own limits."""
        self._weak = weak
        self._rules = rules
        self._slots = slots
        self._echo = echo
        self._voices: dict[int, Voice] = {}
        self._order: tuple[Voice, ...] = ()
        self._past: dict[int, tuple[_Memory, ...]] = {}
        self._next = 0
        self._exact_until = 0
        self._hash = hashlib.blake2b(digest_size=16)

    @property
    def voices(self) -> int:
        """How many streams there are now."""
        return len(self._voices)

    def open(self, step: Step) -> tuple[Voice, ...]:
        """Apply cancels and joins; return the streams of this step in the order they are coded.

        Those with nothing said yet come first, since somebody waits for their first token; slots
        ascending among them and among the others.

        Raises:
            ProtocolViolationError: a slot is taken or out of range, or a join names a token outside
                the vocabulary, or too many steps are unsettled.
        """
        if self._echo:
            self._remember(step)
        self._next = step.number + 1
        for slot in step.cancels:
            if slot in self._voices:
                self._drop(self._voices[slot])
        for join in step.joins:
            self._check(join)
            limits = Limits(max_tokens=join.max_tokens, stop=join.stop, ignore_eos=join.ignore_eos)
            key = VoiceKey(step.number, join.slot)
            rules = replace(self._rules, limits=limits)
            self._voices[join.slot] = Voice(key, join, rules, self._weak.vocab_size)
        if step.joins:
            self._voices = dict(sorted(self._voices.items()))
        if self._echo:
            self._hash = hashlib.blake2b(step.number.to_bytes(8, "big"), digest_size=16)
        voices = self._voices.values()
        self._order = tuple(sorted(voices, key=lambda voice: (bool(voice.tokens), voice.key.slot)))
        return self._order

    def predict(self, step: int) -> tuple[Candidates | None, ...]:
        """For each stream of `open(step)`, what the weak model expects; None while it waits.

        One forward call of the weak model for all. A stream too long for it goes without.

        Raises:
            EngineError: the weak model failed, which leaves the two halves apart.
        """
        voices = [voice for voice in self._voices.values() if not voice.waiting]
        if step < self._exact_until:
            voices = []
        voices = [voice for voice in voices if voice.length() <= self._weak.context_length]
        known: dict[int, Candidates] = {}
        if voices:
            batch = [(voice.key.slot, voice.unfed()) for voice in voices]
            try:
                logits_NV = self._weak.forward(batch)
                for voice, logits_V in zip(voices, logits_NV, strict=True):
                    voice.fed = voice.length()
                    known[voice.key.slot] = _expect(voice, logits_V)
            except MODEL_FAILURES as error:
                raise EngineError("The weak model failed.", error=type(error).__name__) from error
        tables = tuple(
            None
            if voice.waiting
            else known.get(voice.key.slot) or no_candidates(voice.params.temperature == 0.0)
            for voice in self._order
        )
        if self._echo:
            self._absorb(tables)
        return tables

    def observe(self, voice: Voice, symbol: Symbol) -> Outcome:
        """Take a stream's symbol of this step; a stream that ends is gone from the next."""
        if isinstance(symbol, Ready):
            voice.waiting = False
            voice.seed = sub_seed(voice.join.seed, "candidate", symbol.choice)
            return _NOTHING
        if symbol == WAIT:
            return _NOTHING
        if symbol == ABORT:
            self._drop(voice)
            return _ABORTED
        voice.tokens.append(symbol)
        if voice.penalties is not None:
            voice.penalties = voice.penalties.advance(symbol)
        decision = decide(voice.progress, symbol, voice.rules)
        voice.progress = decision.progress
        if decision.reason is not None:
            self._drop(voice)
        return Outcome(decision.text, decision.reason is not None, decision.reason)

    def digest(self) -> bytes:
        """The hash of this step's tables, to be echoed."""
        return self._hash.digest()

    def settle(self, before: int) -> None:
        """Steps below `before` will never be rewound."""
        for number in [number for number in self._past if number < before]:
            del self._past[number]

    def rewind(self, to: int, exact_steps: int) -> None:
        """Go back to before step `to`; use no tables for `exact_steps` steps from there.

        The weak model forgets everything and reads each stream again when it is next asked.

        Raises:
            ProtocolViolationError: step `to` is settled already, or lies beyond the next one.
        """
        memories = self._memories() if to == self._next else self._past.get(to)
        if memories is None:
            raise ProtocolViolationError("There is no way back to this step.", step=to)
        self.forget()
        for voice, waiting, count, seed, progress, penalties in memories:
            voice.waiting = waiting
            del voice.tokens[count:]
            voice.seed = seed
            voice.progress = progress
            voice.penalties = penalties
            voice.fed = 0
            self._voices[voice.key.slot] = voice
        self._past = {number: past for number, past in self._past.items() if number < to}
        self._next = to
        self._exact_until = to + exact_steps

    def forget(self) -> None:
        """Drop every stream."""
        for voice in tuple(self._voices.values()):
            self._drop(voice)

    def _drop(self, voice: Voice) -> None:
        del self._voices[voice.key.slot]
        if voice.fed:
            self._weak.drop(voice.key.slot)
            voice.fed = 0

    def _check(self, join: Join) -> None:
        if join.slot >= self._slots or join.slot in self._voices:
            raise ProtocolViolationError("A slot is taken or out of range.", slot=join.slot)
        biased = (token for token, _ in join.params.logit_bias)
        if max(*join.prompt, *biased, 0) >= self._weak.vocab_size:
            raise ProtocolViolationError("A token is outside the vocabulary.", slot=join.slot)

    def _remember(self, step: Step) -> None:
        self.settle(step.settled)
        if len(self._past) >= MAX_UNSETTLED:
            raise ProtocolViolationError("Too many steps are unsettled.", step=step.number)
        self._past[step.number] = self._memories()

    def _memories(self) -> tuple[_Memory, ...]:
        return tuple(
            (voice, voice.waiting, len(voice.tokens), voice.seed, voice.progress, voice.penalties)
            for voice in self._voices.values()
        )

    def _absorb(self, tables: Sequence[Candidates | None]) -> None:
        for voice, table in zip(self._order, tables, strict=True):
            if table is None:
                continue
            self._hash.update(voice.key.slot.to_bytes(2, "big") + len(table.ids).to_bytes(2, "big"))
            self._hash.update(table.ids.tobytes())
            self._hash.update(table.gaps.tobytes())
            self._hash.update(table.falls.tobytes())


def _expect(voice: Voice, logits_V: F32Array) -> Candidates:
    scores_V = shift_logits(logits_V, voice.params, voice.penalties)
    return candidates(
        scores_V, voice.params.temperature, voice.seed, len(voice.tokens), voice.noise()
    )
