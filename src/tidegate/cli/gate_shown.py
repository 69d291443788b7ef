"""What `tidegate gate` shows: a plan as a diff, a status as a table or JSON."""

from __future__ import annotations

import difflib

import msgspec
import typer
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from tidegate.gate import host, nft, nft_render, tc_render
from tidegate.gate.accounts import State, Step, opened
from tidegate.gate.nft import Kernel
from tidegate.gate.nft_render import DROPPED, passed
from tidegate.gate.policy import LIFETIME, Policy


def difference(before: Policy | None, after: Policy, state: State | None) -> Syntax | str:
    """What changes between two policies' rules, as a unified diff."""
    old = rendered(before, state) if before is not None else []
    lines = list(
        difflib.unified_diff(old, rendered(after, state), "applied", "planned", n=2, lineterm="")
    )
    if not lines:
        return "Nothing would change."
    return Syntax(
        "\n".join(lines), "diff", theme="ansi_dark", background_color="default", word_wrap=True
    )


def rendered(policy: Policy, state: State | None) -> list[str]:
    """Lines of everything that applying a policy tells the kernel."""
    step = _opened(policy, state)
    rules = nft_render.ruleset(policy, step.state, step.fresh).splitlines()
    behind = (*tc_render.guarding(policy), *tc_render.shaping(policy))
    return rules + [f"tc {line}" for line in behind]


def ask_kernel(policy: Policy, state: State | None) -> None:
    """Raises GateError where the kernel would not accept the policy's rules."""
    host.indices(policy)
    step = _opened(policy, state)
    text = nft_render.ruleset(policy, step.state, step.fresh)
    nft.check(nft_render.removed() + text)


def _opened(policy: Policy, state: State | None) -> Step:
    return opened(policy, state, "", ())


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One class, or the lifetime, in bytes; `passed` is None for the lifetime.

    `used` and `passed` are nftables' counts; of super-packets `granted` alone has every header.
    """

    name: str
    used: int
    granted: int
    quota: int
    rate: int | None = None
    passed: int | None = None
    packets: int | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A gate as it is now. `controller` is a process id."""

    open: bool
    reason: str
    controller: int | None
    rows: tuple[Row, ...]
    dropped: dict[str, int]

    @classmethod
    def of(
        cls, policy: Policy, state: State | None, kernel: Kernel | None, controller: int | None
    ) -> Status:
        """From the policy, the disk and the kernel."""
        counters = (
            {name: (packets, size) for name, packets, size in kernel.passed} if kernel else {}
        )
        used = {quota.object: quota.used for quota in kernel.quotas} if kernel else {}
        rows = []
        for name in policy.accounts():
            account = state.of(name) if state else None
            chosen = policy.classes[name] if name != LIFETIME else None
            packets, size = counters.get(passed(name), (None, None))
            granted = account.granted if account else 0
            rows.append(
                Row(
                    name=name,
                    used=used.get(account.object, granted) if account else 0,
                    granted=granted,
                    quota=policy.quota_of(name),
                    rate=chosen.rate if chosen else None,
                    passed=size,
                    packets=packets,
                )
            )
        dropped = {why: counters[name][0] for name, why in DROPPED.items() if name in counters}
        return cls(
            open=kernel is not None and kernel.complete and kernel.alive,
            reason=_reason(state, kernel, controller),
            controller=controller,
            rows=tuple(rows),
            dropped=dropped,
        )


def _reason(state: State | None, kernel: Kernel | None, controller: int | None) -> str:
    if kernel is None:
        return "no rules are installed" if state else "it was never applied"
    if not kernel.complete:
        return "a part of its rules is gone: apply them again"
    if controller is None:
        return "no controller holds it"
    return "" if kernel.alive else "its controller sends no heartbeat: latched, or shutting down"


def show(told: Status, *, as_json: bool) -> None:
    """Print a status."""
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(told), indent=1))
        return
    table = Table(title="bytes on the wire", title_justify="left")
    for column in ("class", "used", "granted", "quota", "a second", "passed", "packets"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for row in told.rows:
        numbers = (row.used, row.granted, row.quota, row.rate, row.passed, row.packets)
        table.add_row(row.name, *("" if n is None else f"{n:,}" for n in numbers))
    console = Console()
    console.print(table)
    console.print("[dim]used, passed: as nftables counts; headers in super-packets are in granted")
    for why, packets in told.dropped.items():
        if packets:
            console.print(f"dropped, {why}: {packets:,} packets")
    console.print("[green]open" if told.open else f"[red]closed[/]: {told.reason}")
