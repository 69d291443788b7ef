"""`tidegate ledger`: what was spent, whether the log is whole, and allowing more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli import log_folder, parts
from tidegate.cli.ground import budgets_of
from tidegate.cli.ledger_shared import looked_at
from tidegate.cli.outer_log import record_signer
from tidegate.cli.serve import SettingsFile, settings_of
from tidegate.clock import SystemClock
from tidegate.config import Settings
from tidegate.errors import ConfigError, LedgerError
from tidegate.ledger import Broken, Budgets, CannotVerify, Ledger, Sound, SqliteStore, Store
from tidegate.ledger import verify as check
from tidegate.ledger.budgets import TOTAL, Scope, edge_scope, edges_along, principal_scope
from tidegate.ledger.state import State
from tidegate.ledger.verify import catch_up
from tidegate.transparency.bodies import log_upload
from tidegate.transparency.note import Checkpoint
from tidegate.units import Bits

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="The upload ledger of a half, also while it runs. Every command reads the same log the "
    "half writes; `top-up` adds to it. From `migrate` on they are for a ledger that several outer "
    "halves share in PostgreSQL (docs/howto/postgres.md).",
)

Half = Annotated[str, typer.Option(help="outer (per principal) or inner (its own hard cap).")]


def _open(settings: Settings, half: str) -> tuple[Store, Budgets]:
    shared = half == "outer" and bool(settings.ledger.urls)
    store: Store
    store = looked_at(settings.ledger) if shared else SqliteStore(_path(settings, half))
    return store, budgets_of(settings, parts.strong_parameters(settings.models))


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
    # Looked at, not opened as a half does: that would write to it.
    store, budgets = _open(chosen, half)
    state = catch_up(store, State(budgets))
    scopes = [TOTAL, *(edge_scope(edge) for edge in edges_along(chosen.budget.zones))]
    scopes += [principal_scope(name) for name in principal or ()]
    table = Table("account", "spent", "held", "left", title=f"{half} ledger, bits")
    for scope in scopes:
        balance = state.account(scope).balance(state.time)
        left = "no cap" if balance.left is None else f"{balance.left:,}"
        table.add_row(scope, f"{balance.spent:,}", f"{balance.reserved:,}", left)
    Console().print(table)


@app.command()
def verify(settings: SettingsFile = None, half: Half = "outer") -> None:
    """Recompute the whole log: exit 0 if it is sound, 1 if it is not, 3 if nobody can tell."""
    try:
        verdict = check(*_open(settings_of(settings, None), half))
    except LedgerError as error:
        verdict = CannotVerify(error.message)
    match verdict:
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


@app.command()
def checkpoint(
    key: Annotated[
        Path, typer.Option(help="The ledger's private key, made if need be; KEY.pub beside it.")
    ] = Path("ledger.key"),
    origin: Annotated[
        str, typer.Option(help="The ledger's name for ever: a URL without its scheme.")
    ] = "example.com/ledger",
    into: Annotated[
        Path | None, typer.Option(exists=True, help="Also put it into this transparency log.")
    ] = None,
    settings: SettingsFile = None,
    half: Half = "outer",
) -> None:
    """Print the ledger's signed checkpoint: kept elsewhere, it shows whether the log was rewritten.

    With `--into` it becomes an upload entry of a transparency log (`tidegate log`).
    """
    store, budgets = _open(settings_of(settings, None), half)
    state = catch_up(store, State(budgets))
    signer = record_signer(key, origin)
    note = signer.sign(Checkpoint(origin, state.tip.size, state.root))
    if into is not None:
        spent = state.account(TOTAL).balance(state.time).spent
        with log_folder.opened(into) as opened:
            log_upload(opened.log, note, signer.verifier, spent=spent)
    typer.echo(note, nl=False)


@app.command("top-up")
def top_up(
    account: Annotated[str, typer.Argument(help="total, edge:A→B or principal:NAME.")],
    bits: Annotated[int, typer.Argument(min=1, max=2**62, help="Bits to allow on top.")],
    reason: Annotated[str, typer.Option(help="Goes into the log.", prompt=True)],
    settings: SettingsFile = None,
    half: Half = "outer",
) -> None:
    """Allow more; a running half takes it up with its next reservation."""
    ledger = Ledger(*_open(settings_of(settings, None), half), SystemClock())
    ledger.top_up(Scope(account), Bits(bits), reason)
    typer.echo(f"{account}: {ledger.balance(Scope(account)).left} bits left")
