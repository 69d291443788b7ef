"""Installs a policy and keeps it alive: a shell round `accounts` and `nft_render`.

Each beat reads what the kernel counted, decides, writes the disk, and only then tells the kernel.
The kernel lets traffic out for one lease after a beat, whatever becomes of this process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from tidegate.clock import Clock
from tidegate.errors import GateError, TidegateError
from tidegate.gate import host, nft, nft_render, wall, wire_quota
from tidegate.gate.accounts import Account, Change, State, Step, Used, opened, settled, tick
from tidegate.gate.meter_port import MeterError
from tidegate.gate.policy import LIFETIME, Policy
from tidegate.gate.published import Charged
from tidegate.gate.state import Store
from tidegate.units import Seconds

_IN_FLIGHT = Seconds(0.02)
"""After closing, for a packet that was past the heartbeat's rule to be counted."""

_INSPECTION = Seconds(1.0)
"""How often the whole ruleset is compared with what was installed."""

Permit = Callable[[], str | None]
"""Why the gate has to stay closed, asked before each beat; None where nothing speaks against it."""


def always() -> str | None:
    """Permits every beat."""
    return None


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat's outcome: open for one lease, or closed, and why."""

    open: bool
    reason: str = ""


class Gate:
    """One host's gate. Whoever uses it holds the store's lock.

    Every method runs in the network namespace of the calling thread.
    """

    def __init__(self, policy: Policy, store: Store, clock: Clock, permit: Permit = always) -> None:
        self.policy = policy
        self._store = store
        self._clock = clock
        self._permit = permit
        self._state: State | None = None
        self._wire: wire_quota.WireQuota | None = None
        self._shape: tuple[str, ...] = ()
        self._indices: tuple[tuple[str, int], ...] = ()
        self._beaten = self._inspected = Seconds(0.0)

    def apply(self, *, begin: bool = False) -> None:
        """Install the policy in one transaction, over an earlier one or anew; closed until a beat.

        `begin` allows a folder without a state: the first start, with full quotas. Raises
        GateError where something is missing or contradicts the disk; then nothing was changed, or
        the gate is closed.
        """
        before, kernel = self._store.read(), nft.look()
        if before is None and not begin:
            raise GateError(
                f"{self._store.folder} holds no state: put it back, or, on a gate's very first "
                "start, say so with --begin"
            )
        if before is None and kernel is not None:
            raise GateError(
                f"the kernel has a gate's tables, but {self._store.folder} has no state: put it "
                "back, or remove the gate first"
            )
        # A damaged table is not believed; nor is nftables alone, where headers may hide from it.
        believed = kernel is not None and kernel.complete and self.policy.super_packets == "drop"
        if kernel is not None and kernel.complete:
            # A controller that was killed may have left it open for the rest of a lease.
            nft.load(nft_render.shut())
        self._install(before, kernel if believed else None)
        host.shape(self.policy)
        host.forward(allowed=True)

    def reload(self, policy: Policy) -> None:
        """Change to another policy: closed for a moment, nothing lost and nothing counted twice.

        Raises GateError as `check` does, with nothing changed, or later, and closed.
        """
        self.check(policy)
        reshaped = self.reshapes(policy)
        self._close_and_wait()
        kernel = self._looked()
        usage = self._usage(kernel.quotas)
        managed = set(self.policy.interfaces.management) - set(policy.interfaces.management)
        self.policy = policy
        self._install(self._known(), replace(kernel, quotas=usage))
        if self._wire is not None:
            # One that is gone has no wall, either.
            with suppress(MeterError):
                wall.remove(managed)
        if reshaped:
            host.shape(policy)

    def reshapes(self, policy: Policy) -> bool:
        """Whether changing to this policy makes the outside interface's queue anew."""
        return _shaping(self.policy) != _shaping(policy)

    def check(self, policy: Policy) -> None:
        """Whether the gate could change to this policy. Raises GateError; changes nothing."""
        host.indices(policy)
        for name in ("outside", "inside"):
            if getattr(policy.interfaces, name) != getattr(self.policy.interfaces, name):
                raise GateError(f"another {name} interface is another gate: remove this one first")
        if (policy.super_packets, policy.state) != (self.policy.super_packets, self.policy.state):
            raise GateError("super_packets and state take effect with a new start of the gate")
        step = opened(policy, self._known(), host.boot_id(), ())
        nft.check(nft_render.ruleset(policy, step.state, step.fresh))

    def beat(self) -> Beat:
        """Let traffic out for one more lease, or close, with the reason.

        Raises GateError where the rules are not those that were installed, or the disk cannot be
        written; the gate is closed then.
        """
        try:
            return self._beat()
        except TidegateError:
            self.shut()
            raise

    def charged(self) -> tuple[Charged, ...]:
        """What each account has used in its period, by each count. Raises GateError."""
        state, listed = self._known(), {used.object: used.used for used in nft.quotas()}
        on_wire = self._wire.used() if self._wire is not None else None
        return tuple(
            Charged(
                account.name,
                listed.get(account.object, 0),
                on_wire[number] if on_wire is not None else None,
                account.elapsed_ms,
            )
            for number, account in _numbered(self.policy, state)
        )

    def shut(self) -> None:
        """Close at once, also where the rules were damaged. Raises GateError."""
        kernel = nft.look()
        if kernel is not None and kernel.complete and kernel.shape == self._shape:
            nft.load(nft_render.shut())
        else:
            nft.load(nft_render.closed(self.policy))

    def settle(self) -> None:
        """Close, and give back on the disk what was granted and not used. Raises GateError."""
        self._close_and_wait()
        kernel = nft.look()
        if kernel is not None and self._state is not None:
            self._state = settled(self._state, self._usage(kernel.quotas))
            self._store.write(self._state)

    def remove(self) -> None:
        """Stop forwarding, then take every rule away: without rules a host must not route.

        A controller that ended well has settled before; after one that was killed, what it was
        granted stays spent. Raises GateError.
        """
        host.forward(allowed=False)
        nft.load(nft_render.removed())
        host.unshape(self.policy)
        host.unguard(self.policy)
        if self.policy.super_packets == "charge":
            # With an interface that is gone its program went, too.
            with suppress(MeterError):
                wall.remove(self.policy.interfaces.management)
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        elif self.policy.super_packets == "charge":
            with suppress(MeterError):
                wire_quota.detach(self.policy.interfaces.outside)

    def _install(self, before: State | None, kernel: nft.Kernel | None) -> None:
        indices = host.indices(self.policy)
        step = opened(self.policy, before, host.boot_id(), kernel.quotas if kernel else ())
        first = nft_render.shut() if kernel else nft_render.removed()
        text = first + self._rules(step, kernel)
        nft.check(text)
        self._store.write(step.state)
        if self.policy.super_packets == "charge":
            self._wire = self._wire or _on_the_wire(self.policy.interfaces.outside)
            used = {seen.object: seen.used for seen in kernel.quotas} if kernel else {}
            used |= dict(step.fresh)
            self._wire.set_used(
                (number, used[account.object])
                for number, account in _numbered(self.policy, step.state)
            )
            self._limit(step.state)
            wall.build(self.policy.interfaces.management)
        host.guard(self.policy)
        nft.load(text)
        self._state, self._indices = step.state, indices
        self._shape = self._looked().shape
        self._beaten = self._inspected = self._clock.monotonic()
        self._store.keep_policy(self.policy)

    def _beat(self) -> Beat:
        now = self._clock.monotonic()
        if now - self._inspected >= _INSPECTION:
            self._inspect()
            self._inspected = now
        if (reason := self._permit()) is not None:
            self.shut()
            return Beat(open=False, reason=reason)
        passed_ms = int((now - self._beaten) * 1000)
        step = tick(self.policy, self._known(), self._usage(nft.quotas()), passed_ms)
        self._beaten = Seconds(self._beaten + passed_ms / 1000)
        text = ""
        if step.change is not None:
            self._store.write(step.state)
            self._limit(step.state, anew=step.fresh)
            text = nft_render.raised(self.policy, step.state)
        if step.change is Change.SWAP:
            text = self._rules(step, self._looked())
        nft.load(text + nft_render.heartbeat(self.policy))
        self._state = step.state
        if step.change is Change.SWAP:
            self._shape = self._looked().shape
        return Beat(open=True)

    def _inspect(self) -> None:
        """Raises GateError where the gate is no longer what was installed."""
        if self._looked().shape != self._shape:
            raise GateError("somebody changed the gate's rules; it is closed: apply them again")
        if host.indices(self.policy) != self._indices:
            raise GateError("an interface was made anew; the gate is closed: apply its rules again")
        if self._wire is not None and not self._wire.attached():
            raise GateError("the quota's program was taken off; the gate is closed: apply again")
        if self._wire is not None:
            for name in self.policy.interfaces.management:
                if not wall.stands(name):
                    raise GateError(f"what kept {name} from being forwarded to was taken off it")
        if not host.guarded(self.policy):
            raise GateError("the guard behind nftables was taken off; the gate is closed: apply it")

    def _limit(self, state: State, anew: tuple[tuple[str, int], ...] = ()) -> None:
        if self._wire is None:
            return
        begun = {name for name, used in anew if used == 0}
        numbered = _numbered(self.policy, state)
        limits = {n: min(a.granted, self.policy.quota_of(a.name)) for n, a in numbered}
        # First: whoever is killed in between leaves too little open, never an old limit unused.
        self._wire.set_limits(limits)
        self._wire.set_used((n, 0) for n, account in numbered if account.object in begun)

    def _usage(self, quotas: tuple[Used, ...]) -> tuple[Used, ...]:
        """The larger of what nftables and the wire's program have charged."""
        if self._wire is None:
            return quotas
        on_wire = self._wire.used()
        charged = {a.object: on_wire[n] for n, a in _numbered(self.policy, self._known())}
        return tuple(
            replace(used, used=max(used.used, charged.get(used.object, 0))) for used in quotas
        )

    def _rules(self, step: Step, kernel: nft.Kernel | None) -> str:
        text = nft_render.ruleset(self.policy, step.state, step.fresh)
        return text + nft_render.stale(self.policy, step.state, kernel.objects if kernel else ())

    def _close_and_wait(self) -> None:
        self.shut()
        threading.Event().wait(_IN_FLIGHT)

    def _looked(self) -> nft.Kernel:
        kernel = nft.look()
        if kernel is None:
            raise GateError("the gate's tables are gone: somebody flushed them; apply them again")
        return kernel

    def _known(self) -> State:
        if self._state is None:
            raise GateError("the gate was not applied by this process")
        return self._state


def _on_the_wire(interface: str) -> wire_quota.WireQuota:
    try:
        return wire_quota.WireQuota(interface)
    except MeterError as error:
        raise GateError(
            f'{error.message}. Without BPF, set super_packets = "drop"', interface=interface
        ) from error


def _numbered(policy: Policy, state: State) -> tuple[tuple[int, Account], ...]:
    """The policy's accounts, each with its row in the wire's quota: 0 is the lifetime."""
    return tuple(
        (0 if account.name == LIFETIME else policy.number(account.name), account)
        for account in state.accounts
        if account.name in policy.accounts()
    )


def _shaping(policy: Policy) -> object:
    return policy.super_packets, tuple(chosen.rate for chosen in policy.classes.values())
