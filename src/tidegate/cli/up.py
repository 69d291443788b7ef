"""`tidegate up`: everything at once, with traffic and a thief, to watch in a browser."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console

from tidegate.bench.prompts import Prompt
from tidegate.bench.prompts import load as load_prompts
from tidegate.cli import parts
from tidegate.cli.console import PEOPLE
from tidegate.cli.demo_ask import ask_all
from tidegate.cli.progress import bars
from tidegate.cli.servers import Servers, end
from tidegate.config import Inner, Link, Models, Outer, Record, Settings
from tidegate.console.people import People, Role
from tidegate.errors import ConfigError, TidegateError
from tidegate.verify.report import Report

MODEL: Final = "exact:smollm2"
"""Integer arithmetic: the verifier demands the very same tokens."""
MARK: Final = "tidegate-up"
"""A file in the demo's folder, which is made anew each time: nothing else is ever removed."""
TEMPERATURES: Final = (0.0, 0.7)
_PATIENCE_S: Final = 300.0
_SETTINGS: Final = """\
name = "demo"
port = {port}
folder = "console"
outer = "settings.toml"
verify = "verify.json"
"""


@dataclass(slots=True)
class _Story:
    """What happened so far, told as it happens."""

    terminal: Console
    begun: float

    def tell(self, says: str) -> None:
        self.terminal.print(f"[dim]{time.monotonic() - self.begun:6.1f} s[/dim]  {says}")


def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0: a free one.")] = 8700,
    attack_after: Annotated[
        float, typer.Option(min=0, help="Seconds of honest traffic before the thief begins.")
    ] = 60.0,
    once: Annotated[
        bool, typer.Option("--once", help="End once the thief is caught, or was not in time.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="For everything; made anew.")] = Path("out/up"),
) -> None:
    """Start the demo system with its console, traffic and a thief, and watch him being caught.

    An inner half with the weights, an outer half without, a verifier that re-executes every
    answer, and the console, as four processes of this machine. After a while the inner half begins
    to hide bytes in its choice of tokens. Exits 0: it was caught (with --once); 1: it was not.
    """
    terminal = Console()
    story = _Story(terminal, time.monotonic())
    _made_anew(folder)
    settings = _settings(folder)
    with ExitStack() as stack:
        progress = stack.enter_context(bars())
        parts.fetch_all(settings.models, progress)
        prompts = load_prompts(None, 64, longest=400)
        passwords = _people(folder)
        attack = folder / "attack"
        servers = Servers(
            settings, folder, ("rigged", "outer"), {"rigged": ("--attack", str(attack))}
        )
        stack.enter_context(servers)
        progress("starting both halves", 0, 1)
        url = servers.wait_ready()
        progress("starting both halves", 1, 1)
        _fix_port(folder, settings, url)
        stack.enter_context(_verifier(folder))
        page = stack.enter_context(_page(folder, port))
        terminal.print(f"\n[bold]Open {page}[/bold]")
        for name, (password, role) in passwords.items():
            terminal.print(f"  log in as [bold]{name}[/bold] ({role}), password {password}")
        terminal.print("Ctrl-C ends everything.\n")
        with suppress(KeyboardInterrupt):
            caught = _play(story, servers, url, settings, prompts, folder, attack_after, once)
            raise typer.Exit(0 if caught else 1)


def _play(
    story: _Story,
    servers: Servers,
    url: str,
    settings: Settings,
    prompts: list[Prompt],
    folder: Path,
    attack_after: float,
    once: bool,
) -> bool:
    """Traffic, then the thief, until he is caught (`once`) or the user interrupts."""
    asked = cycle(prompts)
    start, stolen_from = time.monotonic(), None
    caught = False
    story.tell("honest traffic begins")
    while not (once and caught):
        servers.check()
        some = [(next(asked), TEMPERATURES[i % 2]) for i in range(4)]
        asyncio.run(
            ask_all(
                url,
                settings.outer.model_name,
                some,
                max_tokens=48,
                concurrency=4,
                progress=lambda _: None,
            )
        )
        now = time.monotonic()
        if stolen_from is None and now - start >= attack_after:
            (folder / "attack").touch()
            stolen_from = now
            story.tell("[red]the inner half begins to hide bytes in its answers[/red]")
        report = _report(folder / "verify.json")
        if stolen_from is not None and not caught and report and report.outcome.outcome == "fail":
            caught = True
            story.tell(
                f"[green]caught[/green] {now - stolen_from:.1f} s after it began: "
                f"{report.outcome.reason}"
            )
        if once and stolen_from is not None and now - stolen_from > _PATIENCE_S:
            story.tell("[red]not caught in time[/red]")
            return False
    return True


def _made_anew(folder: Path) -> None:
    """Raises ConfigError for a folder that holds something else than an earlier run."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists() or folder.samefile(Path()):
            raise ConfigError(f"{folder} holds something else than an earlier run; choose another")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def _settings(folder: Path) -> Settings:
    base = folder.resolve()
    return Settings(
        models=Models(strong=MODEL, weak="ngram"),
        link=Link(address=str(base / "link.sock"), secret_file=base / "link.secret"),
        outer=Outer(
            port=0,
            demo_key=True,
            open_metrics=True,
            key_file=base / "keys.json",
            seed_key_file=base / "seed.key",
            ledger=base / "outer-ledger.sqlite",
        ),
        record=Record(folder=base / "record", key_file=base / "record.key", sign_ms=1000),
        inner=Inner(ledger=base / "inner-ledger.sqlite"),
    )


def _people(folder: Path) -> dict[str, tuple[str, Role]]:
    people = People(folder / "console" / PEOPLE)
    made: dict[str, tuple[str, Role]] = {}
    for name, role in (("olga", Role.OPERATOR), ("vik", Role.VIEWER)):
        password = secrets.token_urlsafe(12)
        people.put(name, role, password, reads_prompts=role is Role.OPERATOR)
        made[name] = (password, role)
    (folder / "passwords.json").write_bytes(
        msgspec.json.encode({name: password for name, (password, _) in made.items()})
    )
    return made


def _fix_port(folder: Path, settings: Settings, url: str) -> None:
    """The console asks the outer half where it really listens."""
    from tidegate.cli.toml import to_toml

    port = int(url.removesuffix("/v1").rpartition(":")[2])
    outer = settings.outer.model_copy(update={"port": port})
    text = to_toml(settings.model_copy(update={"outer": outer}))
    (folder / "settings.toml").write_text(text, encoding="utf-8")


@contextmanager
def _process(folder: Path, name: str, arguments: list[str]) -> Iterator[None]:
    with (folder / f"{name}.log").open("ab") as log:
        child = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "tidegate", *arguments],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        )
        try:
            yield
        finally:
            end(child)


@contextmanager
def _verifier(folder: Path) -> Iterator[None]:
    arguments = ["verify", str(folder / "record"), "--key", str(folder / "record.key.pub")]
    arguments += ["--model", MODEL, "--follow", "--live", str(folder / "verify.json")]
    with _process(folder, "verifier", arguments):
        yield


@contextmanager
def _page(folder: Path, port: int) -> Iterator[str]:
    """The console's address, once it answers. Raises ConfigError if it does not."""
    file = folder / "console.toml"
    file.write_text(_SETTINGS.format(port=port), encoding="utf-8")
    ready = folder / "console.ready"
    with _process(folder, "console", ["console", "serve", str(file), "--ready-file", str(ready)]):
        deadline = time.monotonic() + _PATIENCE_S
        while not (ready.exists() and ready.read_text()):
            if time.monotonic() > deadline:
                raise ConfigError(f"the console did not start; see {folder / 'console.log'}")
            time.sleep(0.1)
        yield f"http://localhost:{ready.read_text()}/"


def _report(path: Path) -> Report | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise TidegateError("the verifier's report cannot be read") from error
