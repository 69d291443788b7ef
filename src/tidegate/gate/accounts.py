"""Quotas that no crash undercounts: the kernel gets bytes only after the disk holds them. Pure.

Each account (a class, or the lifetime total) has a quota object in the kernel whose limit is a
*grant*, raised step by step as it is used. What is on disk is never below what the kernel allows,
so whoever finds the kernel's count gone takes the whole grant for spent.

An nft quota counts packets it drops, and stops for good once it has: where a grant ran dry, a
fresh object (the next `generation`) takes over with the old limit as its `used`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from tidegate.gate.policy import LIFETIME, Policy


@dataclass(frozen=True, slots=True)
class Account:
    """One account as it stands on disk."""

    name: str
    granted: int
    """Bytes that may have left in this period, at most; the kernel object's limit."""
    generation: int = 0
    elapsed_ms: int = 0
    """Of the period: the gate's own running time."""

    @property
    def object(self) -> str:
        """The kernel object's name."""
        return f"quota_{self.name}.{self.generation}"


@dataclass(frozen=True, slots=True)
class State:
    """Everything that outlives the kernel."""

    policy: str
    """Digest of the policy in force."""
    boot: str
    """The kernel's boot id when this was written."""
    accounts: tuple[Account, ...]

    def of(self, name: str) -> Account | None:
        """The account of that name, if there is one."""
        return next((account for account in self.accounts if account.name == name), None)


@dataclass(frozen=True, slots=True)
class Used:
    """What the kernel says of one quota object: bytes, at most the limit it has."""

    object: str
    used: int
    limit: int


class Change(StrEnum):
    """What has to happen to the kernel's objects."""

    RAISE = "raise"
    """Only limits rose: the objects stay."""
    SWAP = "swap"
    """An object is new: the rules must name it."""


@dataclass(frozen=True, slots=True)
class Step:
    """The next state; `change` is None where the disk and the kernel need nothing."""

    state: State
    change: Change | None
    fresh: tuple[tuple[str, int], ...] = ()
    """Objects to make, each with the `used` it begins with."""


def opened(policy: Policy, before: State | None, boot: str, kernel: tuple[Used, ...]) -> Step:
    """The state a controller begins with, its first grants included.

    What the kernel still counts (same boot) goes on; what it does not, counts as spent in full.
    Where the kernel counted more than the disk granted, as after a state was put back from a
    backup, the kernel is believed.
    Accounts are kept by name when the policy changes; those that it no longer has are kept, too, so
    that taking a class out and putting it back is no refill.
    """
    seen = {used.object: used for used in kernel}
    alive = before is not None and before.boot == boot
    accounts, fresh = [], []
    for name in policy.accounts():
        account = (before.of(name) if before else None) or Account(name, 0)
        if alive and (known := seen.get(account.object)):
            accounts.append(replace(account, granted=max(account.granted, known.used)))
            continue
        granted = max(account.granted, _ahead(policy, name, account.granted))
        later = replace(account, generation=account.generation + 1, granted=granted)
        fresh.append((later.object, account.granted))
        accounts.append(later)
    named = set(policy.accounts())
    gone = [account for account in (before.accounts if before else ()) if account.name not in named]
    state = State(policy.digest(), boot, (*accounts, *gone))
    return Step(state, Change.SWAP, tuple(fresh))


def tick(policy: Policy, state: State, kernel: tuple[Used, ...], passed_ms: int) -> Step:
    """One heartbeat: grants raised where they are used up by half, periods begun anew.

    `passed_ms` is monotonic time since the last tick. An object that the kernel does not list is
    not granted anything.
    """
    seen = {used.object: used for used in kernel}
    changed, fresh = [], []
    for account in state.accounts:
        if account.name not in policy.accounts():
            changed.append(account)
            continue
        later = _period(policy, account, passed_ms)
        if later.generation != account.generation:
            later = replace(later, granted=_ahead(policy, account.name, 0))
            fresh.append((later.object, 0))
        elif used := seen.get(account.object):
            later = _granted(policy, later, used)
            if later.generation != account.generation:
                fresh.append((later.object, account.granted))
        changed.append(later)
    after = replace(state, accounts=tuple(changed))
    rose = any(new.granted != old.granted for new, old in zip(changed, state.accounts, strict=True))
    change = Change.SWAP if fresh else Change.RAISE if rose else None
    return Step(after, change, tuple(fresh))


def settled(state: State, kernel: tuple[Used, ...]) -> State:
    """The state once nothing can pass any more: what was granted and not used is given back."""
    seen = {used.object: used.used for used in kernel}
    accounts = tuple(
        replace(account, granted=min(account.granted, seen.get(account.object, account.granted)))
        for account in state.accounts
    )
    return replace(state, accounts=accounts)


def _granted(policy: Policy, account: Account, used: Used) -> Account:
    cap = policy.quota_of(account.name)
    dry = used.used >= used.limit
    step = policy.grant_of(account.name)
    if not dry and account.granted - used.used > step // 2:
        return account
    limit = min(cap, _ahead(policy, account.name, account.granted if dry else used.used))
    if limit <= account.granted:
        return account
    generation = account.generation + int(dry)
    return replace(account, granted=limit, generation=generation)


def _ahead(policy: Policy, name: str, used: int) -> int:
    return min(policy.quota_of(name), used + policy.grant_of(name))


def _period(policy: Policy, account: Account, passed_ms: int) -> Account:
    period = policy.classes[account.name].period_s if account.name != LIFETIME else None
    if period is None:
        return account
    elapsed = account.elapsed_ms + max(0, passed_ms)
    if elapsed < period * 1000:
        return replace(account, elapsed_ms=elapsed)
    # What a late tick is late by is not credited to the next period.
    return replace(account, elapsed_ms=0, generation=account.generation + 1)
