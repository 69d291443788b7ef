"""Who pays for what crossed: reservations, shares of frames, incidents.

A job's first slice is reserved before it joins, and another whenever little is left, up to its
worst case: reserving that at once would refuse many requests for bits that hardly any of them uses.
Slices are committed together, when the stream ends: until then the ledger counts all of them, so a
crash never undercounts. No I/O of its own; the purse does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from tidegate.coding.upload import MAX_TOKEN_BITS
from tidegate.ledger.entries import CLOSE_BITS, OWN_PRINCIPAL
from tidegate.ledger.split import apportion
from tidegate.serve.jobs import Job
from tidegate.units import Bits, MicroBits

PADDING_BITS: Final = 32
"""Padding a token may have to pay for, at most: the smallest frame that one stream fills, twice."""

WAIT_BITS: Final = 8
"""What a step of waiting may cost: a flag, and its part of the frames that carry the flags."""

SLICE: Final = 4096
"""Bits reserved at a time: an answer of a thousand tokens at four bits each."""


class Purse(Protocol):
    """What the link needs of the ledger, for the edge it crosses. Every call is durable on return.

    A reservation is named by a number.
    """

    def reserve(self, principal: str, bits: Bits) -> int:
        """Hold `bits`. Raises BudgetExceededError."""
        ...

    def extend(self, reservation: int, bits: Bits) -> None:
        """Hold `bits` more. Raises BudgetExceededError."""
        ...

    def commit(self, reservation: int, bits: Bits) -> None:
        """Of what was held, `bits` crossed; the rest is free again."""
        ...

    def release(self, reservation: int) -> None:
        """Nothing crossed."""
        ...

    def charge(self, principal: str, bits: Bits, reason: str) -> None:
        """`bits` crossed that were not held, whatever the budgets say."""
        ...


def worst_case(job: Job, max_reasoning: int) -> Bits:
    """More than `job` can cost, padding and one close of the link included."""
    waits = max_reasoning if job.reasoning else 0
    waits += job.limits.max_tokens if job.candidates > 1 else 0
    tokens = job.limits.max_tokens * (MAX_TOKEN_BITS + PADDING_BITS)
    return Bits(tokens + waits * WAIT_BITS + CLOSE_BITS)


def shares(bits: int, weights: Sequence[int], rooms: Sequence[int]) -> tuple[int, ...]:
    """Split `bits` by `weights`, no share above its room; what fits nowhere is left out.

    What one stream has no room for goes to the others by the room they have.
    """
    first = apportion(bits, weights)
    capped = [min(share, room) for share, room in zip(first, rooms, strict=True)]
    free = [room - share for share, room in zip(capped, rooms, strict=True)]
    rest = min(bits - sum(capped), sum(free))
    if rest:
        capped = [a + b for a, b in zip(capped, apportion(rest, free), strict=True)]
    return tuple(capped)


class Account:
    """One stream's reservation and what it was charged so far."""

    def __init__(self, principal: str, reservation: int, reserved: Bits, most: Bits) -> None:
        self.most = most
        self.principal = principal
        self.reservation = reservation
        self.reserved: int = reserved
        self.charged = 0

    @property
    def room(self) -> int:
        """Bits still reserved."""
        return self.reserved - self.charged


class Accounts:
    """The accounts of one link. Pulled bits are covered before they cross and shared after."""

    def __init__(self, purse: Purse) -> None:
        self._purse = purse
        self._open: set[Account] = set()
        self._own: Account | None = None
        self._pulled = 0
        self._prepaid = 0
        self._arrived = 0
        self._costs: dict[Account, int] = {}

    def open(self, principal: str, most: Bits) -> Account:
        """Reserve a first slice for a stream of `most` bits. Raises BudgetExceededError."""
        bits = Bits(min(SLICE, most))
        account = Account(principal, self._purse.reserve(principal, bits), bits, most)
        self._open.add(account)
        return account

    def renew(self, account: Account) -> None:
        """Reserve another slice where little is left. Raises BudgetExceededError."""
        more = min(SLICE, account.most - account.reserved)
        if account in self._open and account.room < SLICE // 4 and more > 0:
            self._purse.extend(account.reservation, Bits(more))
            account.reserved += more

    def cover(self, bits: Bits, payers: Sequence[Account]) -> None:
        """Make sure that `bits` more can be charged, and remember that they will cross.

        Without payers (a dummy) the link itself pays.

        Raises:
            BudgetExceededError: there is no room and none to be had; nothing may be pulled.
        """
        pulled = self._pulled + bits
        if not payers and self._own is None:
            self._own = self.open(OWN_PRINCIPAL, Bits(pulled))
        accounts = [*payers, self._own] if self._own is not None else payers
        short = pulled - sum(account.room for account in accounts)
        if short > 0:
            self._purse.extend(accounts[0].reservation, Bits(short))
            accounts[0].reserved += short
        self._pulled = pulled

    def arrive(self, bits: Bits) -> None:
        """`bits` of what was covered have crossed; `share` charges them."""
        self._arrived += bits

    def cost(self, account: Account, cost: MicroBits) -> None:
        """A symbol of `account` had this ideal length."""
        self._costs[account] = self._costs.get(account, 0) + cost

    def share(self, payers: Sequence[Account]) -> None:
        """Charge what has arrived by what symbols cost; without symbols, evenly to `payers`."""
        if not self._arrived:
            return
        weights = self._costs or dict.fromkeys(payers, 1)
        prepaid = min(self._prepaid, self._arrived)
        owed = self._arrived - prepaid
        rest = owed - self._charge(owed, weights)
        self._prepaid -= prepaid
        self._pulled -= owed
        self._arrived = 0
        self._costs = {}
        if self._own is not None:
            rest -= self._charge(rest, {self._own: 1})
            if not self._pulled:
                self.close(self._own)
                self._own = None
        if rest:
            self._purse.charge(OWN_PRINCIPAL, Bits(rest), "upload")

    def lose(self, payers: Sequence[Account]) -> None:
        """The connection is gone: whatever was pulled may have crossed, so it is charged."""
        self._arrived = self._pulled + self._prepaid
        self.share(payers)

    def incident(self, bits: Bits, payers: Sequence[Account], reason: str) -> None:
        """Charge what an incident told an attacker."""
        rest = bits - self._charge(bits, dict.fromkeys(payers, 1))
        if rest:
            self._purse.charge(OWN_PRINCIPAL, Bits(rest), reason)

    def close(self, account: Account) -> Bits:
        """Commit what was charged, free the rest; returns the charge.

        Frames that are still on their way stay covered: what the other accounts have no room for,
        the one that leaves pays now.
        """
        if account in self._open:
            self._open.discard(account)
            short = self._pulled - sum(other.room for other in self._open)
            pays = min(max(0, short), account.room)
            account.charged += pays
            self._prepaid += pays
            self._pulled -= pays
            if account.charged:
                self._purse.commit(account.reservation, Bits(account.charged))
            else:
                self._purse.release(account.reservation)
        return Bits(account.charged)

    def _charge(self, bits: int, weights: Mapping[Account, int]) -> int:
        """Split `bits` among the open ones of `weights` as far as they have room; returns it."""
        accounts = [account for account in weights if account in self._open]
        if not accounts or not bits:
            return 0
        split = shares(
            bits, [weights[account] for account in accounts], [one.room for one in accounts]
        )
        for account, share in zip(accounts, split, strict=True):
            account.charged += share
        return sum(split)
