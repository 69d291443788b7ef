"""`tidegate ledger`: what was spent, whether the log is whole, and allowing more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli import parts
from tidegate.cli.serve import SettingsFile, settings_of
from tidegate.clock import SystemClock
from tidegate.config import Settings
from tidegate.errors import ConfigError
from tidegate.ledger import Broken, CannotVerify, Ledger, Sound, SqliteStore, profile
from tidegate.ledger.budgets import TOTAL, Scope, edge_scope, edges_along, principal_scope
from tidegate.units import Bits

app = typer.Typer(
    no_args_is_help=True,
    help="The upload ledger of a half, also while it runs. Every command reads the same log the "
    "half writes; `top-up` adds to it.",
)

Half = Annotated[str, typer.Option(help="outer (per principal) or inner (its own hard cap).")]


def _open(settings: Settings, half: str) -> Ledger:
    path = _path(settings, half)
    budgets = profile(
        settings.budget.profile,
        parameters=parts.strong_parameters(settings.models),
        zones=settings.budget.zones,
    )
    return Ledger(SqliteStore(path), budgets, SystemClock())


def _path(settings: Settings, half: str) -> Path:
    paths = {"outer": settings.outer.ledger, "inner": settings.inner.ledger}
    if half not in paths:
        raise ConfigError(f"there is no half {half!r}; choose outer or inner")
    if not paths[half].exists():
        raise ConfigError(f"there is no ledger {paths[half]}; has the {half} half ever run?")
    return paths[half]


@app.command()
def show(
    settings: SettingsFile = None,
    half: Half = "outer",
    principal: Annotated[list[str] | None, typer.Option(help="Also this principal.")] = None,
) -> None:
    """Print what is spent, held and left, in bits."""
    chosen = settings_of(settings, None)
    ledger = _open(chosen, half)
    scopes = [TOTAL, *(edge_scope(edge) for edge in edges_along(chosen.budget.zones))]
    scopes += [principal_scope(name) for name in principal or ()]
    table = Table("account", "spent", "held", "left", title=f"{half} ledger, bits")
    for scope in scopes:
        balance = ledger.balance(scope)
        left = "no cap" if balance.left is None else f"{balance.left:,}"
        table.add_row(scope, f"{balance.spent:,}", f"{balance.reserved:,}", left)
    Console().print(table)


@app.command()
def verify(settings: SettingsFile = None, half: Half = "outer") -> None:
    """Recompute the whole log: exit 0 if it is sound, 1 if it is not, 3 if nobody can tell."""
    match _open(settings_of(settings, None), half).verify():
        case Sound(state, None):
            typer.echo(f"sound: {state.tip.size} entries, root {state.root.hex()}")
        case Sound(state, over):
            typer.echo(f"sound, but entry {over} exceeds today's budgets, root {state.root.hex()}")
        case Broken(entry, reason):
            typer.echo(f"broken at entry {entry}: {reason}")
            raise typer.Exit(1)
        case CannotVerify(reason):
            typer.echo(f"cannot verify: {reason}")
            raise typer.Exit(3)


@app.command("top-up")
def top_up(
    account: Annotated[str, typer.Argument(help="total, edge:A→B or principal:NAME.")],
    bits: Annotated[int, typer.Argument(min=1, help="Bits to allow on top.")],
    reason: Annotated[str, typer.Option(help="Goes into the log.", prompt=True)],
    settings: SettingsFile = None,
    half: Half = "outer",
) -> None:
    """Allow more; a running half takes it up with its next reservation."""
    ledger = _open(settings_of(settings, None), half)
    ledger.top_up(Scope(account), Bits(bits), reason)
    typer.echo(f"{account}: {ledger.balance(Scope(account)).left} bits left")
