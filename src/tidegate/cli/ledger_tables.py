"""`tidegate ledger` for one that several outer halves share: its tables, backups, lost charges."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli import parts
from tidegate.cli.ground import budgets_of, sole_user
from tidegate.cli.ledger_shared import looked_at
from tidegate.cli.progress import bars
from tidegate.cli.serve import SettingsFile, settings_of
from tidegate.clock import SystemClock
from tidegate.config import SharedLedger
from tidegate.errors import ConfigError
from tidegate.ledger import Ledger, SqliteStore
from tidegate.ledger.backup import UNCAPPED, Evidence, follow
from tidegate.ledger.backup import restore as bring_back
from tidegate.ledger.backup_drill import drill as run_drill
from tidegate.ledger.backup_reconcile import charge_branch, lost_branches
from tidegate.ledger.state import State
from tidegate.ledger.store import Store
from tidegate.ledger.verify import catch_up
from tidegate.transparency.note import Checkpoint, Verifier

if TYPE_CHECKING:
    from tidegate.ledger.store_postgres import PostgresStore

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object for machines.")]


def migrate(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Bring the tables of the shared ledger up to this version, or make them. Entries stay.

    Run it as the tables' owner, while no outer half runs: an older one refuses newer tables.
    """
    from tidegate.ledger.migrations import migrate as move

    chosen = settings_of(settings, None).ledger
    with closing(looked_at(chosen)) as store:
        before, after = move(store.primary, chosen.table)
    _told(as_json, {"before": before, "after": after}, f"version {before} → {after}")


def holders(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Which outer halves draw on the shared ledger, and how much each holds, in bits."""
    from tidegate.ledger.store_postgres_shared import claims_in, holders_in, require_newest

    with closing(_seen(settings_of(settings, None).ledger)) as store:
        require_newest(store)
        seen, claims = holders_in(store), claims_in(store)
        state = catch_up(store, State(UNCAPPED))
    rows = []
    for one in seen:
        mine = [claim for claim in claims if claim.holder == one.name]
        held = sum(state.held[claim.n].bits for claim in mine if claim.n in state.held)
        stale = sum(claim.fence != one.fence for claim in mine)
        rows.append(
            {"holder": one.name, "token": one.fence, "beats": one.beats, "leases": len(mine)}
            | {"held": held, "stale": stale, "hungry": one.hungry}
        )
    if as_json:
        typer.echo(msgspec.json.encode(rows))
        return
    table = Table("holder", "token", "beats", "leases", "bits held", "to be charged")
    for row in rows:
        told = (row["holder"], row["token"], row["beats"], row["leases"], row["held"], row["stale"])
        table.add_row(*(str(cell) for cell in told))
    Console().print(table)


def backup(
    file: Annotated[Path, typer.Argument(help="An SQLite ledger; brought up to date if there.")],
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Copy the shared ledger into a file, checked entry by entry; also while it is in use.

    Run again, it takes what came since. A log that lacks what the file has is refused.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(_seen(settings_of(settings, None).ledger)) as log, _file(file, new=True) as to:
        came = follow(log, to)
        tip = to.tip()
    told = {"entries": tip.size, "new": came, "head": tip.head.hex()}
    _told(as_json, told, f"{tip.size} entries, {came} of them new, head {tip.head.hex()}")


def restore(
    file: Annotated[Path, typer.Argument(exists=True, help="A backup, or a half's copy.")],
    copy: Annotated[
        list[Path] | None, typer.Option(exists=True, help="A half's copy: all it has must be in.")
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(exists=True, help="A signed checkpoint; needs --key.")
    ] = None,
    key: Annotated[Path | None, typer.Option(exists=True, help="Its signer's .pub file.")] = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a backup into an empty table; refuse one that forgot a charge (exit 1).

    Give every outer half's copy, and the newest checkpoints that witnesses have: without any of
    them nothing shows how old the backup is. Whatever was held is charged in full by the first
    half that starts. A half's own SQLite ledger is taken over the same way.
    """
    with ExitStack() as stack:
        copies = tuple(stack.enter_context(_file(path)) for path in copy or ())
        evidence = Evidence(copies, tuple(_checkpoints(checkpoint or (), key)))
        source = stack.enter_context(_file(file))
        log = stack.enter_context(closing(looked_at(settings_of(settings, None).ledger)))
        state = bring_back(source, log, evidence)
    told = {"entries": state.tip.size, "root": state.root.hex(), "held": len(state.held)}
    _told(as_json, told, f"restored {state.tip.size} entries, root {state.root.hex()}")


def reconcile(
    copies: Annotated[list[Path], typer.Argument(exists=True, help="Every half's copy file.")],
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Charge what a failover or a split brain made the shared ledger forget.

    What the copies have and the log lacks is charged anew, once; such a copy is then set aside as
    FILE.lost, and its half starts another. Run it while the halves whose copies they are are down.
    """
    chosen = settings_of(settings, None)
    budgets = budgets_of(chosen, parts.strong_parameters(chosen.models))
    with ExitStack() as stack:
        for path in copies:
            stack.enter_context(sole_user(path))
        files = {path: stack.enter_context(_file(path)) for path in copies}
        log = stack.enter_context(closing(looked_at(chosen.ledger)))
        branches = lost_branches(log, tuple(files.values()))
        charged = 0
        if branches:
            ledger = Ledger(log, budgets, SystemClock())
            for branch in branches:
                if charge_branch(ledger, log, branch):
                    charged += sum(bits for *_, bits in branch.bits)
        lost = [path for path, one in files.items() if lost_branches(log, (one,))]
    aside = [str(path.rename(path.with_name(path.name + ".lost"))) for path in lost]
    told = {"branches": len(branches), "bits": charged, "set_aside": aside}
    _told(as_json, told, f"{len(branches)} lost branches, {charged} bits charged")


def drill(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Back the shared ledger up, restore it beside itself, and try a backup that is too old.

    Exit 0 if the restored log is the same and the old one was refused. Nothing in use is touched;
    the scratch table is removed.
    """
    chosen = settings_of(settings, None).ledger
    with tempfile.TemporaryDirectory() as folder, bars() as progress:
        progress("drill", 0, 1)
        with (
            closing(_seen(chosen)) as log,
            _file(Path(folder) / "backup.sqlite", new=True) as to,
            _scratch(chosen) as scratch,
        ):
            came = run_drill(log, to, scratch)
        progress("drill", 1, 1)
    told = {"entries": came.entries, "root": came.root.hex(), "same": came.same}
    told |= {"old_refused_by_copy": came.old_refused_by_copy}
    told |= {"old_refused_by_checkpoint": came.old_refused_by_checkpoint}
    word = "as it should" if came.passed else "WRONG"
    _told(as_json, told, f"drill: {came.entries} entries, root {came.root.hex()}: {word}")
    if not came.passed:
        raise typer.Exit(1)


def _seen(chosen: SharedLedger) -> PostgresStore:
    """For looking: also at a server that waits for no standby."""
    return looked_at(chosen, replicated=False)


@contextmanager
def _scratch(chosen: SharedLedger) -> Iterator[Store]:
    name = f"{chosen.table[:24]}_drill_{secrets.token_hex(4)}"
    with closing(_seen(chosen.model_copy(update={"table": name}))) as scratch:
        try:
            yield scratch
        finally:
            for part in ("", "_holders", "_leases", "_schema"):
                scratch.primary.together([f"DROP TABLE IF EXISTS {name}{part}"])
            scratch.primary.together([f"DROP FUNCTION IF EXISTS {name}_is_final"])


@contextmanager
def _file(path: Path, *, new: bool = False) -> Iterator[SqliteStore]:
    if not new and not path.is_file():
        raise ConfigError(f"there is no ledger {path}")
    with closing(SqliteStore(path)) as store:
        yield store


def _checkpoints(notes: list[Path] | tuple[()], key: Path | None) -> Iterator[Checkpoint]:
    if notes and key is None:
        raise ConfigError("--checkpoint needs --key, its signer's .pub file")
    for note in notes:
        if key is not None:
            verifier = Verifier.parse(key.read_text(encoding="utf-8").strip())
            yield verifier.open(note.read_text(encoding="utf-8"))


def _told(as_json: bool, told: object, sentence: str) -> None:
    typer.echo(msgspec.json.encode(told) if as_json else sentence)
