"""One job on the link: what it sends inwards, and the events its reader gets."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import msgspec

from tidegate.coding.upload import ABORT
from tidegate.errors import BudgetExceededError, ProtocolViolationError, TidegateError
from tidegate.ledger.errors import NotLentError
from tidegate.serve.jobs import Delta, Event, Failed, Finished, Job, Place
from tidegate.serve.lockstep import Ready, VoiceKey
from tidegate.serve.outer.link_account import Account, Accounts
from tidegate.serve.outer.link_follow import Said
from tidegate.units import Bits
from tidegate.wire.messages import Join, Params, Step, encode

LAST_BITS = 256
"""A stream that gets no more bits ends with so many left, which the frames on their way need."""


class InvalidJobError(TidegateError):
    """The job cannot be put on the link: something in it is out of range."""

    code = "invalid_job"


def make_join(job: Job, seed: bytes, reasoning: bytes | None, vocab_size: int) -> Join:
    """`job` as it goes inwards, with slot 0 for now.

    Raises:
        InvalidJobError: the inner half would refuse it.
    """
    owner = hashlib.blake2b(job.principal.encode(), digest_size=16, person=b"tidegate.owner")
    try:
        join = Join(
            slot=0,
            prompt=job.prompt_ids,
            seed=seed,
            params=Params.of(job.params),
            max_tokens=job.limits.max_tokens,
            stop=job.limits.stop,
            ignore_eos=job.limits.ignore_eos,
            candidates=job.candidates,
            owner=owner.digest(),
            reasoning=reasoning,
            recall=None if job.reasoning_ref is None else bytes.fromhex(job.reasoning_ref),
        )
        encode(Step(number=0, settled=0, joins=(join,)))
    except (ProtocolViolationError, ValueError, TypeError) as error:
        raise InvalidJobError("The job holds a value that is out of range.") from error
    biased = (token for token, _ in job.params.logit_bias)
    if max(*job.prompt_ids, *biased, 0) >= vocab_size:
        raise InvalidJobError("The job names a token outside the vocabulary.")
    return join


class Stream:
    """A job from admission to its last event. The link tells it; one reader listens."""

    def __init__(self, join: Join, account: Account) -> None:
        self.join = join
        self.account = account
        self.key: VoiceKey | None = None
        self.waiting = self._unready = join.candidates > 1 or join.reasoning is not None
        self.cancelled = False
        self.granted = 0
        """Steps granted at which it was known to say a token."""
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._untold: list[int] = []
        self._untold_since = 0
        self._candidate = 0
        self._tokens = 0
        self._over = False

    @property
    def over(self) -> bool:
        """Whether the last event has been told."""
        return self._over

    @property
    def spoken(self) -> bool:
        """Whether all the tokens it may say are in steps granted already."""
        return self.granted >= self.join.max_tokens

    def seat(self, step: int, slot: int) -> VoiceKey:
        """It joins at `step`; returns its key."""
        self.join = msgspec.structs.replace(self.join, slot=slot)
        self.key = VoiceKey(step, slot)
        return self.key

    def rewind(self) -> None:
        """Only what was told has been granted; the rest will be granted again."""
        self.granted = self._tokens
        self.waiting = self._unready

    def tell(self, said: Said, session: bytes, step: int) -> None:
        """A symbol of `step` was decoded and may be shown. An end is told by `finish` or `fail`."""
        if isinstance(said.symbol, Ready):
            self.waiting = self._unready = False
            self._candidate = said.symbol.choice
        token = said.token
        if token is not None:
            if not self._untold:
                self._untold_since = step
            self._tokens += 1
            self._untold.append(token)
        if self._untold and (said.text or said.ended):
            place = Place(session.hex(), said.key.slot, said.key.step, self._candidate)
            told = tuple(self._untold)
            self._events.put_nowait(Delta(told, said.text, place, self._untold_since))
            self._untold.clear()

    def renew(self, accounts: Accounts) -> None:
        """Reserve more where little is left; a stream that may not have more ends there."""
        try:
            accounts.renew(self.account)
        except NotLentError as error:
            # The ledger's database is slow. What is reserved lasts a while; this is tried again.
            if self.account.room < LAST_BITS:
                self._give_up(error)
        except BudgetExceededError as error:
            self._give_up(error)

    def _give_up(self, error: TidegateError) -> None:
        self.fail(error.code, error.message)
        self.cancelled = True

    def finish(self, said: Said, bits: Bits) -> None:
        """The symbol `said` ended the stream, which cost `bits`."""
        if said.symbol == ABORT or isinstance(said.symbol, Ready) or said.reason is None:
            self.fail("engine_error", "The model failed while it was generating.")
            return
        reference = None if self.join.reasoning is None else self.join.reasoning.hex()
        self._end(Finished(said.reason, bits, self._tokens, reference))

    def fail(self, code: str, message: str) -> None:
        """The stream was aborted; what was told so far stands."""
        self._end(Failed(code, message))

    async def events(self) -> AsyncIterator[Event]:
        """Everything told, to the end."""
        while True:
            event = await self._events.get()
            yield event
            if not isinstance(event, Delta):
                return

    def _end(self, event: Finished | Failed) -> None:
        if not self._over:
            self._over = True
            self._events.put_nowait(event)
