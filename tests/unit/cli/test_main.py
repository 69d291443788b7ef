"""The command line as a user meets it: help for everything, one sentence for every mistake."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
import tiny_pair
import typer
from typer.main import get_command

from tidegate.cli import main as cli
from tidegate.cli.ground import budgets_of, open_ledger
from tidegate.cli.servers import Servers
from tidegate.cli.toml import to_toml
from tidegate.config import Settings
from tidegate.errors import ConfigError
from tidegate.serve.inner.reasoning import credential_digest
from tidegate.serve.outer.keys import Keyring
from tidegate.units import Bits

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A half logs its own way, for its whole process."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command in this process, in an empty folder: status, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tidegate", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return command


def commands(group: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name in getattr(group, "commands", ()):
        found += commands(group.get_command(None, name), (*path, name))  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("path", commands(get_command(cli.app)), ids=" ".join)
def test_every_command_has_help_for_itself_and_for_each_option(run: Run, path: tuple[str, ...]):
    status, out, _ = run(*path, "--help")
    assert status == 0
    assert "Usage: tidegate" in out
    command = get_command(cli.app)
    for name in path:
        command = command.get_command(None, name)  # type: ignore[attr-defined]
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", "help"), f"{path}: {parameter.name}"


def test_the_version_is_printed(run: Run):
    assert run("version")[:2] == (0, "0.1.0\n")


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings that work, without a key or a model that is loaded."""
    folder = tmp_path_factory.mktemp("pair")
    strong = tiny_pair.write_llama(folder / "strong", seed=1)
    weak = tiny_pair.write_ngram(folder / "weak", strong)
    return tiny_pair.settings(folder, strong, weak, outer={"demo_key": False})


def write(settings: Settings, **changes: dict[str, object]) -> str:
    changed = settings.model_copy(
        update={name: getattr(settings, name).model_copy(update=c) for name, c in changes.items()}
    )
    path = settings.outer.ledger.parent / "settings.toml"
    path.write_text(to_toml(changed), encoding="utf-8")
    return str(path)


def refused(outcome: tuple[int, str, str]) -> str:
    """The one sentence, if that is what it is."""
    status, _, told = outcome
    assert status == 2
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert "Traceback" not in told
    return told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("serve", "--settings", "nowhere.toml"), "no settings file nowhere.toml"),
        (("serve", "--pair", "nothing"), "no pair 'nothing'"),
        (("serve", "--pair", "smollm2"), "holds no key"),
        (("serve", "--demo-key", "inner"), "after `serve inner`"),
        (("serve", "key", "a name with spaces"), "Not a key's entry"),
        (("serve", "key", "link"), "who pays"),
        (("demo", "--pair", "nothing"), "no pair 'nothing'"),
        (("models", "fetch", "nothing"), "no pair 'nothing'"),
        (("bench", "serve", "--pair", "nothing"), "no pair 'nothing'"),
        (("bench", "coding", "--prompts", "nowhere.jsonl"), "cannot read prompts"),
        (("ledger", "show"), "no ledger"),
        (("ledger", "verify", "--half", "middle"), "no half 'middle'"),
        (("review", "read", "00", "--credential-file", "nowhere"), "cannot read a credential"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_sentence_and_status_2(run: Run, arguments: tuple[str, ...], told: str):
    assert told in refused(run(*arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "--port", "65536"),
        ("demo", "--concurrency", "33"),
        ("ledger", "top-up", "total", "0", "--reason", "x"),
        ("nothing",),
    ],
)
def test_what_the_parser_refuses_has_status_2_too(run: Run, arguments: tuple[str, ...]):
    status, _, told = run(*arguments)
    assert status == 2
    assert "Usage" in told


def test_a_message_with_brackets_is_shown_as_it_is(run: Run, monkeypatch: pytest.MonkeyPatch):
    failing = typer.Typer()

    @failing.command()
    def fail() -> None:
        raise ConfigError("set [models] parameters; " + 30 * "a long sentence ")

    monkeypatch.setattr(cli, "app", failing)
    assert "[models]" in refused(run())


def test_what_the_system_refuses_is_a_sentence_that_names_the_file(run: Run, pair: Settings):
    blocked = pair.outer.ledger.parent / "blocked"
    blocked.write_text("a file where a folder is wanted")
    told = refused(
        run("serve", "key", "alice", "--settings", write(pair, outer={"key_file": blocked / "k"}))
    )
    assert "blocked" in told
    assert "blocked" in refused(run("demo", "--folder", str(blocked / "demo")))
    for half in ("inner", "outer"):
        sections: dict[str, dict[str, object]] = {half: {"ledger": blocked / "ledger.sqlite"}}
        sections.setdefault("outer", {})["demo_key"] = True
        settings = write(pair, **sections)
        assert "blocked" in refused(run("serve", half, "--settings", settings))


def test_a_demo_never_empties_a_folder_it_did_not_make(run: Run, tmp_path: Path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    assert "choose another" in refused(run("demo", "--folder", str(mine)))
    (tmp_path / "settings.toml").write_text("")
    assert "choose another" in refused(run("demo", "--folder", "."))
    assert (mine / "thesis.txt").exists()


def test_halves_that_cannot_start_say_why(run: Run, pair: Settings):
    assert "holds no key" in refused(run("serve", "outer", "--settings", write(pair)))
    keyed: dict[str, object] = {"demo_key": True}
    missing = write(pair, outer=keyed, models={"strong": "/nowhere/model"})
    for half in ("inner", "outer"):
        assert "/nowhere/model" in refused(run("serve", half, "--settings", missing))
    nameless = write(pair, outer=keyed, models={"parameters": None})
    assert "[models] parameters" in refused(run("serve", "outer", "--settings", nameless))
    homeless = write(pair, outer=keyed, budget={"homes": {"bob": "nowhere"}})
    assert "nowhere" in refused(run("serve", "outer", "--settings", homeless))
    unbounded = write(pair, outer=keyed, budget={"profile": "none"})
    assert "no budget profile" in refused(run("serve", "outer", "--settings", unbounded))
    for inner, told in (
        ({"reasoning_start": "<"}, "both delimiters"),
        ({"reviewers": ("not hex",)}, "64 hexadecimal"),
        ({"reviewers": ("ab",)}, "64 hexadecimal"),
    ):
        assert told in refused(run("serve", "inner", "--settings", write(pair, inner=inner)))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        busy = write(pair, outer=keyed | {"port": port})
        assert f"127.0.0.1:{port}" in refused(run("serve", "outer", "--settings", busy))


def test_an_inner_half_removes_no_file_where_it_listens(run: Run, pair: Settings):
    notes = pair.outer.ledger.parent / "notes.txt"
    notes.write_text("mine")
    told = refused(run("serve", "inner", "--settings", write(pair, link={"address": str(notes)})))
    assert "cannot listen" in told
    assert notes.read_text() == "mine"


def test_a_key_is_printed_once_and_kept_as_a_digest(run: Run, pair: Settings):
    settings = write(pair)
    status, first, _ = run("serve", "key", "alice", "--settings", settings)
    _, second, _ = run("serve", "key", "bob", "--metrics", "--settings", settings)
    ring = Keyring.read(pair.outer.key_file)
    assert status == 0
    assert first.strip() not in pair.outer.key_file.read_text()
    alice, bob = (ring.principal(key.strip(), None) for key in (first, second))
    assert alice is not None
    assert bob is not None
    assert (alice.name, alice.scopes, bob.scopes) == (
        "alice",
        frozenset({"infer"}),
        frozenset({"infer", "metrics"}),
    )


def test_secrets_are_made_and_named_but_not_shown(run: Run, pair: Settings):
    status, out, _ = run("serve", "secrets", "--settings", write(pair))
    paths = [Path(line) for line in out.splitlines()]
    assert status == 0
    assert paths == [pair.link.secret_file, pair.outer.seed_key_file]
    assert all(len(path.read_bytes()) == 32 for path in paths)


def ledger_of(settings: Settings) -> Path:
    with open_ledger(settings.outer.ledger, budgets_of(settings, 9_000_000_000)) as ledger:
        ledger.commit(ledger.reserve("alice", "inner→outside", Bits(5000)), Bits(4321))
    return settings.outer.ledger


def test_looking_at_a_ledger_does_not_change_it(run: Run, pair: Settings):
    path, settings = ledger_of(pair), write(pair)
    before = path.read_bytes()
    status, out, _ = run("ledger", "show", "--principal", "alice", "--settings", settings)
    assert (status, out.count("4,321")) == (0, 3)
    assert run("ledger", "verify", "--settings", settings)[0] == 0
    assert path.read_bytes() == before


def test_a_top_up_is_written_and_an_unknown_account_is_not(run: Run, pair: Settings):
    ledger_of(pair)
    settings = write(pair, budget={"profile": "strict"})
    for account in ("principal:alice", "total", "edge:inner→outside"):
        status, out, _ = run(
            "ledger", "top-up", account, "1000", "--reason", "a\nlong day", "--settings", settings
        )
        assert status == 0
        assert account in out
    arguments = ("1000", "--reason", "x", "--settings", settings)
    assert "no account" in refused(run("ledger", "top-up", "alice", *arguments))


def test_a_ledger_somebody_wrote_in_is_found_broken(run: Run, pair: Settings):
    path, settings = ledger_of(pair), write(pair)
    with sqlite3.connect(path) as database:
        database.execute("DROP TRIGGER entries_are_final")
        database.execute(
            "UPDATE entries SET entry = CAST(replace(CAST(entry AS TEXT), '4321', '1234') AS BLOB)"
        )
    database.close()
    status, out, _ = run("ledger", "verify", "--settings", settings)
    assert status == 1
    assert "broken at entry" in out
    refused(run("ledger", "show", "--settings", settings))
    path.write_bytes(b"no ledger at all" * 100)
    assert run("ledger", "verify", "--settings", settings)[0] == 3


def test_a_reviewer_gets_a_credential_and_the_digest_for_the_settings(run: Run):
    status, out, _ = run("review", "new")
    credential, digest = (line.split(": ", 1)[1] for line in out.splitlines())
    assert status == 0
    assert credential_digest(credential).hex() == digest


def test_servers_pass_on_what_was_chosen_even_where_the_environment_says_else(
    pair: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # The half ends at once, and its error tells which key file it looked for.
    monkeypatch.setenv("TIDEGATE_OUTER__KEY_FILE", str(tmp_path / "of-the-environment"))
    with Servers(pair, tmp_path, ("outer",)) as servers, pytest.raises(ConfigError) as caught:
        servers.wait_ready()
    assert str(pair.outer.key_file) in caught.value.message
    assert os.environ["TIDEGATE_OUTER__KEY_FILE"]


def test_told_to_stop_servers_end_their_halves(pair: Settings, tmp_path: Path):
    keyed = pair.model_copy(update={"outer": pair.outer.model_copy(update={"demo_key": True})})
    before = signal.getsignal(signal.SIGTERM)
    servers = Servers(keyed, tmp_path, ("outer",))
    with pytest.raises(KeyboardInterrupt), servers:
        os.kill(os.getpid(), signal.SIGTERM)
    pid = servers.pid("outer")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert signal.getsignal(signal.SIGTERM) is before
