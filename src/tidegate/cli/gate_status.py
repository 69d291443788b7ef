"""What `tidegate gate status` shows: every count beside the others, as tables or JSON."""

from __future__ import annotations

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidegate.gate.accounts import State
from tidegate.gate.nft import Kernel
from tidegate.gate.nft_render import DROPPED, passed
from tidegate.gate.policy import LIFETIME, Policy
from tidegate.gate.published import Counts, Published

_FRESH_S = 3.0
"""A controller says what it knows once a second."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One class, or the lifetime, in bytes of its period.

    `charged`: what counts against the quota, the larger of `nft` (super-packets with one header)
    and `wire` (all headers; None without the program, or where no controller says). `left`: of the
    quota. `refill_s`: seconds of the gate's running time until the period ends; None without a
    period. `passed`, `packets`: ever, as nftables counts; None for the lifetime.
    """

    name: str
    charged: int
    nft: int
    wire: int | None
    granted: int
    quota: int
    left: int
    refill_s: int | None = None
    rate: int | None = None
    passed: int | None = None
    packets: int | None = None


class Meters(msgspec.Struct, frozen=True, kw_only=True):
    """What the meters said last, and what rests on it. `lease_s`: how long the gate may stay open
    on that. `ledger_spent`, `ledger_reserved`: bytes of the lifetime in the ledger."""

    verdict: str
    agree: bool
    settled: bool
    in_flight: int | None
    counts: tuple[Counts, ...]
    lease_s: float
    closed: str
    latched: str | None
    ledger_spent: int
    ledger_reserved: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A gate as it is now. `controller` is a process id; `told_s` is how long ago it said what is
    not read from the kernel, None where it never did since the machine was started."""

    open: bool
    reason: str
    controller: int | None
    told_s: float | None
    rows: tuple[Row, ...]
    meters: Meters | None
    dropped: dict[str, int]

    @classmethod
    def of(
        cls,
        policy: Policy,
        state: State | None,
        kernel: Kernel | None,
        controller: int | None,
        published: Published | None = None,
        now_ns: int = 0,
    ) -> Status:
        """From the policy, the disk, the kernel and what the controller published."""
        counters = (
            {name: (packets, size) for name, packets, size in kernel.passed} if kernel else {}
        )
        age_s = None if published is None else max(0.0, (now_ns - published.monotonic_ns) / 1e9)
        return cls(
            open=kernel is not None and kernel.complete and kernel.alive,
            reason=_reason(state, kernel, controller, published),
            controller=controller,
            told_s=age_s,
            rows=tuple(
                _row(policy, name, state, kernel, published, counters.get(passed(name)))
                for name in policy.accounts()
            ),
            meters=_meters(published, now_ns),
            dropped={why: counters[name][0] for name, why in DROPPED.items() if name in counters},
        )


def _row(
    policy: Policy,
    name: str,
    state: State | None,
    kernel: Kernel | None,
    published: Published | None,
    counter: tuple[int, int] | None,
) -> Row:
    account = state.of(name) if state else None
    chosen = policy.classes[name] if name != LIFETIME else None
    granted, quota = account.granted if account else 0, policy.quota_of(name)
    used = {quota.object: quota.used for quota in kernel.quotas} if kernel else {}
    # Without the kernel's count all that was granted is taken for used.
    nft = used.get(account.object, granted) if account else 0
    said = (
        next((one for one in published.accounts if one.name == name), None) if published else None
    )
    elapsed_ms = max(account.elapsed_ms if account else 0, said.elapsed_ms if said else 0)
    period_s = chosen.period_s if chosen else None
    charged = max(nft, said.charged if said else 0)
    return Row(
        name=name,
        charged=charged,
        nft=nft,
        wire=said.wire if said else None,
        granted=granted,
        quota=quota,
        left=max(0, quota - charged),
        refill_s=None if period_s is None else max(0, period_s - elapsed_ms // 1000),
        rate=chosen.rate if chosen else None,
        passed=counter[1] if counter else None,
        packets=counter[0] if counter else None,
    )


def _meters(published: Published | None, now_ns: int) -> Meters | None:
    if published is None or (said := published.metered) is None:
        return None
    return Meters(
        verdict=said.verdict,
        agree=said.agree,
        settled=said.settled,
        in_flight=said.in_flight,
        counts=said.meters,
        lease_s=max(0.0, (said.lease_until_ns - now_ns) / 1e9),
        closed=said.closed,
        latched=said.latched,
        ledger_spent=said.ledger_spent,
        ledger_reserved=said.ledger_reserved,
    )


def _reason(
    state: State | None,
    kernel: Kernel | None,
    controller: int | None,
    published: Published | None,
) -> str:
    if kernel is None:
        return "no rules are installed" if state else "it was never applied"
    if not kernel.complete:
        return "a part of its rules is gone: apply them again"
    if controller is None:
        return "no controller holds it"
    if kernel.alive:
        return ""
    said = published.reason if published else ""
    return said or "its controller sends no heartbeat: latched, or shutting down"


def show(told: Status, *, as_json: bool) -> None:
    """Print a status."""
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(told), indent=1))
        return
    console = Console()
    columns = ("class", "charged", "by nft", "on the wire", "granted", "quota", "left", "refill in")
    table = _table("bytes of each period", (*columns, "a second"))
    for row in told.rows:
        numbers = (row.charged, row.nft, row.wire, row.granted, row.quota, row.left)
        refill = "" if row.refill_s is None else _lasting(row.refill_s)
        table.add_row(row.name, *map(_number, numbers), refill, _number(row.rate))
    console.print(table)
    if told.meters is not None:
        _show_meters(told.meters, console)
    if told.controller is not None and (told.told_s is None or told.told_s > _FRESH_S):
        ago = "nothing yet" if told.told_s is None else f"nothing for {told.told_s:.0f} s"
        console.print(Text(f"the controller says {ago}: figures but nft's are old", "bold red"))
    for why, packets in told.dropped.items():
        if packets:
            console.print(f"dropped, {why}: {packets:,} packets")
    console.print(
        Text("open", "green") if told.open else Text(f"closed: {told.reason}", "bold red")
    )


def _show_meters(told: Meters, console: Console) -> None:
    table = _table("since the meters began", ("meter", "frames", "IP bytes", "bytes on the wire"))
    for one in told.counts:
        table.add_row(one.meter, *map(_number, (one.frames, one.ip_bytes, one.wire_bytes)))
    console.print(table)
    style = "green" if told.settled else "yellow" if told.agree else "bold red"
    console.print(Text(told.verdict, style), soft_wrap=True)
    if told.latched is not None:
        console.print(Text(f"LATCHED: {told.latched}", "bold red"), soft_wrap=True)
    lease = f"{told.lease_s:.1f} s left" if told.lease_s else f"none: {told.closed or 'it ran out'}"
    console.print(Text(f"lease: {lease}"), soft_wrap=True)
    spent, reserved = _number(told.ledger_spent), _number(told.ledger_reserved)
    console.print(f"ledger, of the lifetime: {spent} bytes spent, {reserved} reserved")


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _lasting(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
