"""The commands of a shared ledger, against a real server."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from postgres_server import Server, server
from typer.testing import CliRunner

from tidegate.cli import main
from tidegate.cli.ledger_shared import looked_at, shared_purse, urls_of
from tidegate.clock import SystemClock
from tidegate.config import Budget, Settings, SharedLedger
from tidegate.errors import ConfigError
from tidegate.ledger import Ledger, SqliteStore, profile
from tidegate.ledger.backup import follow
from tidegate.units import Bits

EDGE = "inner→outside"
BUDGETS = profile("testing-only", parameters=1)
_TABLES = count()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with server() as running:
        yield running


class Site:
    """A settings file, and `tidegate ledger` with it."""

    def __init__(self, postgres: Server, folder: Path) -> None:
        self.folder = folder
        self.chosen = SharedLedger(
            urls=(postgres.url,),
            holder="outer-1",
            table=f"cli_{next(_TABLES)}",
            replicated=False,
            copy_file=folder / "copy.sqlite",
        )
        self.settings = Settings(ledger=self.chosen, budget=Budget(profile="testing-only"))
        self.file = folder / "settings.toml"
        self.file.write_text(
            f'[budget]\nprofile = "testing-only"\n[models]\nparameters = 1\n[ledger]\n'
            f'urls = ["{postgres.url}"]\nholder = "outer-1"\ntable = "{self.chosen.table}"\n'
            f'replicated = false\ncopy_file = "{self.chosen.copy_file}"\n'
        )

    def run(self, *arguments: str | Path, code: int = 0) -> str:
        command = ["ledger", *map(str, arguments), "--settings", str(self.file)]
        done = CliRunner().invoke(main.app, command)
        assert done.exit_code == code, (done.output, done.exception)
        return done.stdout

    def failing(self, *arguments: str | Path) -> BaseException:
        command = ["ledger", *map(str, arguments), "--settings", str(self.file)]
        done = CliRunner().invoke(main.app, command)
        assert done.exception is not None
        return done.exception

    def serve(self, bits: int = 50) -> None:
        """An outer half starts, an answer crosses, it ends."""
        with shared_purse(self.settings, BUDGETS, lambda _: None) as (desk, view):
            desk.wait("alice", Bits(bits)).result(10)
            desk.commit(desk.reserve("alice", Bits(bits)), Bits(bits))
            assert view.balance("total").reserved > 0


@pytest.fixture
def site(postgres: Server, tmp_path: Path) -> Site:
    return Site(postgres, tmp_path)


def test_an_outer_half_shows_among_the_holders_and_in_the_balance(site: Site) -> None:
    site.serve()
    (row,) = json.loads(site.run("holders", "--json"))
    assert (row["holder"], row["token"], row["held"]) == ("outer-1", 1, 0)
    assert "outer-1" in site.run("holders")
    assert "50" in site.run("show", "--principal", "alice")
    assert "sound" in site.run("verify")
    site.run("top-up", "total", "5", "--reason", "a test")


def test_a_backup_is_brought_up_to_date_and_restored_with_proof(site: Site) -> None:
    site.serve()
    kept = site.folder / "backup.sqlite"
    first = json.loads(site.run("backup", kept, "--json"))
    site.serve()
    old = site.folder / "old.sqlite"
    old.write_bytes(kept.read_bytes())
    second = json.loads(site.run("backup", kept, "--json"))
    assert second["new"] == second["entries"] - first["entries"] > 0
    note = site.folder / "note"
    note.write_text(site.run("checkpoint", "--key", site.folder / "key", "--origin", "a/l"))
    key = site.folder / "key.pub"
    into = copy.copy(site)
    into.file = site.folder / "empty.toml"
    into.file.write_text(site.file.read_text().replace(site.chosen.table, "cli_restored"))
    by_copy = ("restore", old, "--copy", site.chosen.copy_file)
    by_note = ("restore", old, "--checkpoint", note, "--key", key)
    for arguments in (by_copy, by_note):
        assert "forgotten" in str(into.failing(*arguments))
    assert "Nothing shows" in str(into.failing("restore", old))
    told = json.loads(
        into.run(
            *("restore", kept, "--copy", site.chosen.copy_file, "--json"),
            *("--checkpoint", note, "--key", key),
        )
    )
    assert told["entries"] == second["entries"]
    assert "--key" in str(into.failing("restore", kept, "--checkpoint", note))


def test_a_drill_passes_and_leaves_nothing_behind(site: Site) -> None:
    site.serve()
    before = tables(site)
    assert "as it should" in site.run("drill")
    assert json.loads(site.run("drill", "--json"))["same"] is True
    assert tables(site) == before


def tables(site: Site) -> list[tuple[str]]:
    store = looked_at(site.chosen)
    found = store.primary.run("SELECT tablename::text FROM pg_tables ORDER BY tablename")
    store.close()
    return found


def test_what_only_a_copy_has_is_charged_and_the_copy_set_aside(site: Site) -> None:
    site.serve(50)
    kept = SqliteStore(site.chosen.copy_file)
    Ledger(kept, BUDGETS, SystemClock()).charge("alice", EDGE, Bits(30), "closed")
    kept.close()
    told = json.loads(site.run("reconcile", site.chosen.copy_file, "--json"))
    assert (told["branches"], told["bits"]) == (1, 30)
    assert not site.chosen.copy_file.exists()
    assert Path(told["set_aside"][0]).exists()
    assert "80" in site.run("show", "--principal", "alice")
    site.serve(20)
    assert "100" in site.run("show", "--principal", "alice")
    assert json.loads(site.run("reconcile", site.chosen.copy_file, "--json"))["branches"] == 0


def test_a_half_whose_copy_the_log_does_not_extend_does_not_start(site: Site) -> None:
    site.serve()
    kept = SqliteStore(site.chosen.copy_file)
    Ledger(kept, BUDGETS, SystemClock()).charge("alice", EDGE, Bits(30), "closed")
    kept.close()
    with pytest.raises(Exception, match="acknowledged"):
        site.serve()


def test_a_private_ledger_is_taken_over(site: Site) -> None:
    own = SqliteStore(site.folder / "own.sqlite")
    Ledger(own, BUDGETS, SystemClock()).charge("alice", EDGE, Bits(30), "closed")
    own.close()
    site.run("restore", site.folder / "own.sqlite", "--copy", site.folder / "own.sqlite")
    site.serve(5)
    assert "35" in site.run("show", "--principal", "alice")
    again = SqliteStore(site.folder / "again.sqlite")
    assert follow(looked_at(site.chosen), again) > 2


def test_tables_are_migrated_by_the_command_alone(site: Site) -> None:
    site.serve()
    store = looked_at(site.chosen)
    for part in ("holders", "leases", "schema"):
        store.primary.together([f"DROP TABLE {site.chosen.table}_{part}"])
    store.close()
    assert "ledger migrate" in str(site.failing("holders"))
    assert json.loads(site.run("migrate", "--json")) == {"before": 1, "after": 2}
    site.serve()


def test_a_half_without_a_name_and_two_on_one_copy_are_refused(site: Site) -> None:
    nameless = site.settings.model_copy(
        update={"ledger": site.chosen.model_copy(update={"holder": None})}
    )
    with pytest.raises(ConfigError, match="holder"), shared_purse(nameless, BUDGETS, str):
        pass
    with (
        shared_purse(site.settings, BUDGETS, lambda _: None),
        pytest.raises(ConfigError, match="another half"),
        shared_purse(site.settings, BUDGETS, lambda _: None),
    ):
        pass


def test_a_password_comes_from_a_file_and_is_quoted(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p@ss/word\n")
    chosen = SharedLedger(urls=("postgresql://user@db.example/ledger",), password_file=file)
    assert urls_of(chosen) == ("postgresql://user:p%40ss%2Fword@db.example/ledger",)
    with pytest.raises(ConfigError, match="user@host"):
        urls_of(chosen.model_copy(update={"urls": ("postgresql://u:p@h/d",)}))
    with pytest.raises(ConfigError, match="cannot read"):
        urls_of(chosen.model_copy(update={"password_file": tmp_path / "none"}))
    with pytest.raises(ConfigError, match="names no PostgreSQL server"):
        urls_of(SharedLedger())
