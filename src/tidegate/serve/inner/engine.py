"""One outer half's session inside: steps in, frames out. No I/O.

At every step the strong model says each stream's symbol, the weak model says what was expected,
and the coder takes the symbol in. In a session with echoes the symbols of unsettled steps are kept,
so that a resumed session sends them again without generating them again.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Protocol

from tidegate.coding.candidates import Candidates
from tidegate.coding.upload import ABORT, UploadEncoder
from tidegate.errors import ConfigError, LinkError, ProtocolViolationError
from tidegate.models.port import Model, Tokenizer
from tidegate.sampling.finish import Limits, Rules
from tidegate.serve.inner.draw import Drawer
from tidegate.serve.inner.generate import Generator, Scorer, by_likelihood
from tidegate.serve.inner.reasoning import ReasoningStore, Thinking
from tidegate.serve.lockstep import CODER, WAIT, Lockstep, Ready, Symbol, Voice, VoiceKey
from tidegate.units import MicroBits
from tidegate.wire.messages import PROTOCOL_VERSION, Echo, Hello, Resume, Step


class EchoMismatchError(LinkError):
    """The outer half used other tables than this half; what it decoded cannot be trusted."""

    code = "echo_mismatch"


class Observer(Protocol):
    """Told, inside, what tokens cost; nothing it does may reach the coder."""

    def said(self, voice: Voice, token: int, micro_bits: int) -> None:
        """`token` (or ABORT) was put into the coder; `voice` has not taken it yet."""
        ...

    def ended(self, voice: Voice) -> None:
        """The stream is over."""
        ...


@dataclass(frozen=True, slots=True)
class _Done:
    step: Step
    symbols: tuple[Symbol, ...]


class InnerEngine:
    """The models and the state of at most one session. Not thread-safe: one caller at a time."""

    def __init__(
        self,
        strong: Model | Drawer,
        weak: Model,
        tokenizer: Tokenizer,
        store: ReasoningStore,
        *,
        slots: int = 64,
        tracks: int = 128,
        thinking: Thinking | None = None,
        scorer: Scorer = by_likelihood,
        observer: Observer | None = None,
    ) -> None:
        """`strong` is a model, or an engine that draws itself. `slots` bounds the streams at one
        time, `tracks` the sequences drafted for them; `observer` is told what every token cost.

        Raises:
            ConfigError: the two models do not share a vocabulary.
        """
        # An engine that draws itself is asked for tokens, each of which is checked when it comes.
        if not isinstance(strong, Drawer) and strong.vocab_size != weak.vocab_size:
            raise ConfigError(
                "The strong and the weak model need one vocabulary.",
                strong=strong.vocab_size,
                weak=weak.vocab_size,
            )
        self._weak = weak
        self._tokenizer = tokenizer
        self._slots = slots
        self._observer = observer
        self._generator = Generator(strong, store, thinking=thinking, scorer=scorer, tracks=tracks)
        self._hello: Hello | None = None
        self._lockstep: Lockstep | None = None
        self._encoder = UploadEncoder(weak.vocab_size)
        self._past: dict[int, _Done] = {}
        self._digests: dict[int, bytes] = {}

    @property
    def voices(self) -> int:
        """How many streams of the session there are."""
        return 0 if self._lockstep is None else self._lockstep.voices

    def check(self, hello: Hello) -> None:
        """Refuse an outer half whose code or models differ from ours.

        Raises:
            LinkError: they differ; the details name what does.
        """
        ours = {
            "version": PROTOCOL_VERSION,
            "tokenizer": self._tokenizer.fingerprint,
            "weak": self._weak.fingerprint,
            "coder": CODER,
        }
        for what, value in ours.items():
            if getattr(hello, what) != value:
                raise LinkError("The two halves differ.", what=what)
        if not (hello.echo or self._weak.exact):
            raise LinkError("The two halves differ.", what="echo")

    @property
    def said_all(self) -> bool:
        """Whether everything that streams said has been pulled."""
        return self._encoder.empty

    def leave(self) -> None:
        """Answer what has begun, and nothing else. May be called from any thread."""
        self._generator.leaving = True

    def forget(self) -> None:
        """There is nothing to resume any more: what the strong model held is lost."""
        self._hello = None

    def begin(self, hello: Hello) -> None:
        """Start a session from nothing; whatever an earlier one left is dropped."""
        self._generator.keep(())
        if self._lockstep is not None:
            self._lockstep.forget()
        rules = Rules(
            Limits(max_tokens=1), frozenset(hello.eos), self._tokenizer.decode, text=False
        )
        self._lockstep = Lockstep(self._weak, rules, slots=self._slots, echo=hello.echo)
        self._hello = hello
        self._encoder = UploadEncoder(self._weak.vocab_size)
        self._past.clear()
        self._digests.clear()

    def resume(self, hello: Hello, message: Resume) -> None:
        """Go back to step `message.number` of the session that `hello` began.

        Raises:
            ProtocolViolationError: there is no such session, or no way back to that step.
        """
        if self._hello != hello or self._lockstep is None:
            raise ProtocolViolationError("There is no such session to resume.")
        self._lockstep.rewind(message.number, message.exact_steps)
        self._settle(message.number)
        self._encoder = UploadEncoder(self._weak.vocab_size)
        self._digests.clear()

    def step(self, step: Step) -> None:
        """Run decode step `step.number` and take its symbols into the coder.

        After an error there is nothing to resume.

        Raises:
            ProtocolViolationError: the step cannot be applied.
            EngineError: the weak model failed, which leaves the two halves apart.
        """
        lockstep, hello = self._begun()
        self._hello = None
        done = self._past.get(step.number)
        if done is not None and (done.step.cancels, done.step.joins) != (step.cancels, step.joins):
            raise ProtocolViolationError("A step was granted twice and differs.", step=step.number)
        self._settle(step.settled)
        voices = lockstep.open(step)
        if done is None:
            self._generator.keep(voices)
            done = _Done(step, self._generator.step(voices))
        tables = lockstep.predict(step.number)
        over: set[VoiceKey] = set()
        for voice, table, symbol in zip(voices, tables, done.symbols, strict=True):
            cost = self._put(voice, table, symbol)
            if self._observer is not None and table is not None and isinstance(symbol, int):
                self._observer.said(voice, symbol, cost)
            outcome = lockstep.observe(voice, symbol)
            if outcome.ended:
                over.add(voice.key)
                if self._observer is not None:
                    self._observer.ended(voice)
        if over:
            # At once, for an engine that draws ahead would go on until the next step.
            self._generator.keep([voice for voice in voices if voice.key not in over])
        if hello.echo:
            self._past[step.number] = done
            self._digests[step.number] = lockstep.digest()
        self._hello = hello

    def echo(self, message: Echo) -> None:
        """Compare the outer half's tables of a step with ours.

        Raises:
            EchoMismatchError: they differ.
        """
        ours = self._digests.pop(message.number, b"")
        if not hmac.compare_digest(ours, message.digest):
            raise EchoMismatchError("The outer half used other tables.", step=message.number)

    def frame(self, size: int) -> bytes:
        """The next `size` bytes of the link's bitstream."""
        return self._encoder.take_frame(size)

    def _put(self, voice: Voice, table: Candidates | None, symbol: Symbol) -> MicroBits:
        if table is None:
            cost = self._encoder.put_wait(isinstance(symbol, Ready))
            if isinstance(symbol, Ready) and voice.join.candidates > 1:
                cost = MicroBits(
                    cost + self._encoder.put_choice(symbol.choice, voice.join.candidates)
                )
            return cost
        if symbol == ABORT:
            return self._encoder.put_abort(table)
        if isinstance(symbol, Ready) or symbol == WAIT:
            raise LinkError("A stream that speaks cannot wait.", slot=voice.key.slot)
        return self._encoder.put_token(table, symbol)

    def _settle(self, before: int) -> None:
        for steps in (self._past, self._digests):
            for number in [number for number in steps if number < before]:
                del steps[number]

    def _begun(self) -> tuple[Lockstep, Hello]:
        if self._lockstep is None or self._hello is None:
            raise ProtocolViolationError("No session has begun.")
        return self._lockstep, self._hello
