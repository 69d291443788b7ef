"""Drives a verification: from the record's stream through selection and pool to the tally.

Everything is bounded: answers wait only for the checkpoint that covers them, the pool holds a few,
results are written and folded in the order of the record. `round` may be called again while the
record grows, and a run that was killed goes on from its results file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from tidegate.errors import RecordError
from tidegate.verify.record_findings import Finding, Kind, Summary
from tidegate.verify.record_reader import Reader
from tidegate.verify.record_response import Response
from tidegate.verify.record_seal import Opener, Seeds
from tidegate.verify.replay_answer import Checked, Task
from tidegate.verify.replay_findings import Found, found, of_record
from tidegate.verify.replay_results import Results
from tidegate.verify.replay_tally import Meta, Tally
from tidegate.verify.replay_task import task_of
from tidegate.verify.selection import (
    EPOCH_ENTRIES,
    Policy,
    closed_epochs,
    epoch_key,
    epoch_of,
    selected,
    subject_of,
)

MAX_UNSIGNED: Final = 4_096
"""Answers that may wait for their checkpoint; a writer signs with each answer's end."""


class Executor(Protocol):
    """Where answers are re-executed; `replay_pool.Pool` is one."""

    def room(self) -> bool: ...

    def pending(self) -> int: ...

    def put(self, task: Task) -> None: ...

    def take(self, timeout: float | None = None) -> Checked | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which answers are verified: `selection` with keys for each epoch from one `secret`."""

    origin: str
    policy: Policy
    secret: bytes

    def takes(self, response: Response) -> bool:
        """Whether an answer is drawn."""
        if self.policy.rate == 1:
            return True
        epoch = epoch_of(response)
        begins = epoch * EPOCH_ENTRIES
        subject = subject_of(response, self.origin, begins, begins + EPOCH_ENTRIES)
        key = epoch_key(self.secret, epoch)
        return subject is not None and selected(key, subject, self.policy)

    def revealed(self, summary: Summary, *, spent: bool) -> dict[int, str]:
        """Keys by epoch, in hexadecimal, with which anybody draws again.

        Of an epoch that may still grow only if the secret is `spent`: what is drawn with a key that
        is known can be avoided.
        """
        if self.policy.rate == 1:
            return {}
        closed = len(closed_epochs(summary.signed))
        seen = -(-summary.entries // EPOCH_ENTRIES) if spent else closed
        return {epoch: epoch_key(self.secret, epoch).hex() for epoch in range(seen)}


class Name(NamedTuple):
    """An answer, as whoever asked for it names it."""

    request: str
    choice: int


class Word(NamedTuple):
    """Whether one answer may be released: it was re-executed, and nothing at all is wrong."""

    passed: bool
    reason: str = ""


class Run:
    """One verification. `step` is told, after each result, how many are done and how many drawn;
    `told` hears one word on each answer that was drawn."""

    def __init__(
        self,
        reader: Reader,
        executor: Executor,
        tally: Tally,
        choice: Choice,
        *,
        vocab_size: int,
        opener: Opener | None = None,
        seeds: Seeds | None = None,
        results: Results | None = None,
        step: Callable[[int, int], None] = lambda _done, _drawn: None,
        told: Callable[[Name, Word], None] = lambda _name, _word: None,
    ) -> None:
        self.tally = tally
        self._reader = reader
        self._executor = executor
        self._choice = choice
        self._vocab_size = vocab_size
        self._opener = opener
        self._seeds = seeds
        self._results = results
        self._step = step
        self._told = told
        self._unsigned: deque[Response] = deque()
        self._in_hand: deque[tuple[Name, Meta]] = deque()
        self._done = 0

    def round(self) -> None:
        """Read and re-execute all that is in the record now.

        Raises:
            RecordError: the record or the results file cannot be read or written.
            EngineError: workers cannot be started.
        """
        for item in self._reader.read():
            if isinstance(item, Finding):
                self.tally.find(of_record(item))
                continue
            self._unsigned.append(item)
            self._release()
            if len(self._unsigned) > MAX_UNSIGNED:
                self._give_up()
            while self._executor.pending() and self._collect(0.0):
                pass
        self._release()
        while self._executor.pending():
            self._collect(None)

    def summary(self) -> Summary:
        """What reading came to so far; complete after `finish`."""
        return self._reader.summary()

    def finish(self) -> None:
        """Read what is wrong with the record's end; call `round` no more."""
        for finding in self._reader.finish():
            self.tally.find(of_record(finding))
        self._give_up()
        if self._results is not None and self._results.next_stored() is not None:
            reason = "The results file holds answers that the record no longer has."
            self.tally.find(found(Kind.ROLLBACK, reason))

    def _release(self) -> None:
        """Re-execute what a checkpoint covers by now."""
        while self._unsigned and self._unsigned[0].last < self._reader.signed:
            self._consider(self._unsigned.popleft())

    def _give_up(self) -> None:
        for response in self._unsigned:
            self.tally.see(response)
            reason = "No checkpoint covers this answer, so it was not re-executed."
            self.tally.find(found(Kind.UNSIGNED, reason, response.number))
        self._unsigned.clear()

    def _consider(self, response: Response) -> None:
        self.tally.see(response)
        if not self._choice.takes(response):
            return
        self.tally.select(response)
        task = task_of(
            response, vocab_size=self._vocab_size, opener=self._opener, seeds=self._seeds
        )
        name = Name(response.begin.request, response.begin.choice)
        if isinstance(task, Found):
            self.tally.find(task)
            self._told(name, Word(False, task.kind))
            return
        meta = Meta.of(response, self._choice.origin)
        stored = None if self._results is None else self._results.next_stored()
        if stored is not None:
            if (stored.response, stored.digest) != (task.response, task.digest.hex()):
                raise RecordError(
                    f"the results file has answer {stored.response} where the record has "
                    f"{task.response}: one of them was changed; remove the results file"
                )
            self._fold(stored, name, meta)
            return
        while not self._executor.room():
            self._collect(None)
        self._executor.put(task)
        self._in_hand.append((name, meta))

    def _collect(self, timeout: float | None) -> bool:
        checked = self._executor.take(timeout)
        if checked is None:
            return False
        if self._results is not None:
            self._results.add(checked)
        self._fold(checked, *self._in_hand.popleft())
        return True

    def _fold(self, checked: Checked, name: Name, meta: Meta) -> None:
        self.tally.fold(checked, meta)
        self._told(name, self._word(checked))
        self._done += 1
        self._step(self._done, self.tally.selected_responses)

    def _word(self, checked: Checked) -> Word:
        # Once anything shows that somebody failed, nothing more is released: fail closed.
        if self.tally.conclusive:
            return Word(False, "something was found; see the verifier's report")
        if checked.findings:
            return Word(False, checked.findings[0].kind)
        if checked.counts.dangerous:
            return Word(False, "a token far from anything the model would say")
        return Word(True)
