"""The broker: carries out what the rules decide, in the order in which it must happen.

A release is durable in journal and log before the key service is asked. Whatever fails after that,
a kill included, loses the keys on their way rather than sending them twice.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal, Protocol

from tidegate.attest.appraisal import Appraisal, Check
from tidegate.attest.errors import EvidenceError
from tidegate.attest.outcome import CannotVerify, Fail
from tidegate.vault import grant_commands as commands
from tidegate.vault.broker_clock import BrokerClock
from tidegate.vault.grant_commands import Command, Evidence
from tidegate.vault.grant_decide import Effect, HandOver, Notify, Refuse
from tidegate.vault.grant_entries import Assertion, Request, Verdict, binding_of
from tidegate.vault.grant_errors import GrantError, RefusedError
from tidegate.vault.grant_journal import Journal
from tidegate.vault.grant_policy import Host, Policy
from tidegate.vault.grant_state import Grant, State, Status
from tidegate.vault.notify import Notifier
from tidegate.vault.release_seal import hash_of, sealed

NONCE_BYTES = 32


class Appraiser(Protocol):
    """Holds a host's evidence against its reference values."""

    def appraise(self, host: Host, evidence: bytes, bound: bytes, now: datetime) -> Evidence:
        """What came of it; `bound` (32 bytes) is what the evidence has to bind.

        Raises:
            EvidenceError: these bytes are no evidence of that kind.
            ConfigError: there are no reference values for that host.
        """
        ...


class KeySource(Protocol):
    """Where shards' data keys come from: sealed folders and the key service that wrapped them."""

    def check(self, manifest: str, shards: Sequence[int]) -> None:
        """Raise VaultError unless the keys of these shards could be asked for."""
        ...

    def unwrap(self, manifest: str, shards: Sequence[int]) -> tuple[tuple[int, bytes], ...]:
        """Each shard's data key (32 bytes). Raises VaultError."""
        ...


class Broker:
    """Grants for one vault; the caller has authenticated who asks (`by`).

    Every call raises RefusedError where a rule says no, ClockMovedError where the clock was set,
    and LedgerError or LogError where journal or log cannot be written: then nothing was released.
    """

    def __init__(
        self,
        journal: Journal,
        clock: BrokerClock,
        appraiser: Appraiser,
        keys: KeySource,
        notifier: Notifier,
        draw: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._appraiser = appraiser
        self._keys = keys
        self._notifier = notifier
        self._draw = draw

    def adopt(self, policy: Policy) -> None:
        """Go by `policy` from now on; it goes into the journal if it is another."""
        self._do(commands.AdoptPolicy(policy.checked()))

    def set_current(self, by: str, model: str, manifest: str, shards: int) -> None:
        """Say which sealing of a model is the current one; older ones are not released."""
        self._do(commands.SetCurrent(by, model, manifest, shards))

    def ask(
        self,
        by: str,
        why: str,
        model: str,
        shards: Sequence[int],
        host: str,
        seconds: int,
        break_glass: bool = False,
        manifest: str | None = None,
    ) -> Request:
        """Ask for `shards` of the current manifest of `model`, or of the one that is named."""
        name = self._draw(16).hex()
        current = self._journal.state().manifests.get(model)
        asked = manifest or (current[0] if current else "")
        self._do(
            commands.Ask(by, name, why, model, asked, tuple(shards), host, seconds, break_glass)
        )
        return self.grant(name).request

    def judge(
        self,
        by: str,
        grant: str,
        verdict: Verdict,
        team: str,
        assertion: Assertion,
        reason: str = "",
    ) -> Grant:
        """Take an approval or a denial; the grant as it then stands."""
        self._do(commands.Judge(by, grant, verdict, team, assertion, reason))
        return self.grant(grant)

    def challenge(self, by: str, grant: str) -> str:
        """The nonce, hex, that the next evidence for this grant has to bind."""
        nonce = self._draw(NONCE_BYTES).hex()
        self._do(commands.Challenge(by, grant, nonce))
        return nonce

    def release(self, by: str, grant: str, evidence: bytes, public: bytes) -> bytes:
        """The shards' keys, once, sealed to `public` (32 bytes), which the evidence has to bind.

        Raises also VaultError where the key service fails *after* the release was written down:
        then the keys count as released, and a new request is needed.
        """
        key = hash_of(public)
        found = self._journal.state().grants.get(grant)
        seen = self._seen(found, evidence, "release", key)
        if found is not None and found.status is Status.APPROVED:
            self._keys.check(found.request.manifest, found.request.shards)
        for effect in self._do(commands.Release(by, grant, seen, key)):
            if isinstance(effect, HandOver):
                return self._hand_over(effect.grant, public)
        raise GrantError("The release was neither refused nor made.")

    def renew(self, by: str, grant: str, evidence: bytes) -> int:
        """Milliseconds for which the keys may be kept on, given fresh evidence."""
        found = self._journal.state().grants.get(grant)
        seen = self._seen(found, evidence, "renew", (found.key if found else None) or "")
        self._do(commands.Renew(by, grant, seen))
        return self.left(grant)

    def wipe(self, by: str, grant: str) -> None:
        """Take the host's word that its keys are gone; the grant ends."""
        self._do(commands.Wipe(by, grant))

    def revoke(self, by: str, grant: str, reason: str) -> None:
        """End the grant: no release, no renewal. The host learns it when it next asks."""
        self._do(commands.Revoke(by, grant, reason))

    def sweep(self) -> None:
        """End what has run out, and say so."""
        self._do(commands.Tick())

    def state(self) -> State:
        """Everything so far."""
        return self._journal.state()

    def grant(self, name: str) -> Grant:
        """One grant. Raises RefusedError: there is none."""
        found = self._journal.state().grants.get(name)
        if found is None:
            raise RefusedError("status", 1, "the grant exists", "there is no such grant")
        return found

    def pending(self) -> tuple[Grant, ...]:
        """What waits for approvals, oldest first."""
        self.sweep()
        grants = self._journal.state().grants.values()
        waiting = [grant for grant in grants if grant.status is Status.PENDING]
        return tuple(sorted(waiting, key=lambda grant: grant.request.time))

    def left(self, name: str) -> int:
        """Milliseconds that a lease has left; 0 for a grant without one."""
        grant, state = self.grant(name), self._journal.state()
        if grant.status is not Status.LEASED or grant.until is None:
            return 0
        return max(0, grant.until - self._clock.now(state.time))

    def _seen(
        self, found: Grant | None, evidence: bytes, what: Literal["release", "renew"], key: str
    ) -> Evidence:
        """The evidence appraised, against whatever the grant gives to hold it against."""
        policy = self._journal.state().policy
        host = policy.host(found.request.host) if policy and found else None
        now = datetime.fromtimestamp(self._clock.now(0) / 1000, UTC)
        if found is None or host is None or found.nonce is None:
            return _unread(evidence, now, CannotVerify("nothing was asked of this host"))
        bound = binding_of(what, found.nonce.value, found.digest, key)
        try:
            return self._appraiser.appraise(host, evidence, bound, now)
        except EvidenceError as error:
            return _unread(evidence, now, Fail(error.message))

    def _do(self, command: Command) -> tuple[Effect, ...]:
        effects = self._journal.carry_out(command)
        for effect in effects:
            if isinstance(effect, Notify):
                self._notifier.tell(effect)
        for effect in effects:
            if isinstance(effect, Refuse):
                raise RefusedError(effect.what, effect.check, effect.rule, effect.reason)
        return effects

    def _hand_over(self, grant: Grant, public: bytes) -> bytes:
        request = grant.request
        keys = self._keys.unwrap(request.manifest, request.shards)
        lease = self.left(request.id)
        return sealed(public, grant.digest, lease, keys)


def _unread(evidence: bytes, now: datetime, why: CannotVerify | Fail) -> Evidence:
    appraisal = Appraisal(
        kind="none",
        checks=(Check(1, "the evidence can be read", why),),
        claims=(),
        bound=b"",
        device="",
        at=now,
    )
    return Evidence(appraisal, "", hashlib.sha256(evidence).hexdigest())
