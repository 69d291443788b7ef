"""`tidegate serve`: both halves as two processes, or one of them, until interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tidegate.cli import parts
from tidegate.cli.ground import log_as_json, log_stream, secret_bytes
from tidegate.cli.progress import bars
from tidegate.cli.servers import Servers
from tidegate.cli.stopping import Stopping
from tidegate.config import Settings, load
from tidegate.errors import ConfigError
from tidegate.ledger.entries import OWN_PRINCIPAL

app = typer.Typer(
    rich_markup_mode="markdown",
    help="Keep serving. Without a command: both halves, as two processes of this host.",
    invoke_without_command=True,
)

FOLDER = Path("run")
"""Where both halves' logs and settings go; by default their sockets, secrets and ledgers too."""

SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", help="A TOML file; without it, the defaults."),
]
Pair = Annotated[str | None, typer.Option(help="smollm2 or qwen; sets all that concerns models.")]


def settings_of(path: Path | None, pair: str | None) -> Settings:
    """Settings from file and environment, with a pair's models. Raises ConfigError."""
    settings = load(path)
    if pair is not None:
        settings = settings.model_copy(update={"models": parts.pair(pair)})
    return settings


@app.callback()
def serve(
    context: typer.Context,
    settings: SettingsFile = None,
    pair: Pair = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the API; 0 picks a free one.")
    ] = None,
    demo_key: Annotated[
        bool, typer.Option(help="Accept the public key `tidegate-demo` from this host.")
    ] = False,
) -> None:
    """Run the inner and the outer half until interrupted."""
    if context.invoked_subcommand is not None:
        if settings or pair or port is not None or demo_key:
            raise ConfigError(f"give options after `serve {context.invoked_subcommand}`")
        return
    chosen = settings_of(settings, pair)
    update: dict[str, object] = {"demo_key": demo_key or chosen.outer.demo_key}
    if port is not None:
        update["port"] = port
    chosen = chosen.model_copy(update={"outer": chosen.outer.model_copy(update=update)})
    # Before models are fetched, which takes long, and for nothing if nobody holds a key.
    from tidegate.cli.half_outer import keyring

    keyring(chosen)
    console = Console(stderr=True)
    with bars() as progress:
        parts.fetch_all(chosen.models, progress)
    with Servers(chosen, FOLDER) as servers:
        console.print("starting both halves (the first start loads the models) …")
        url = servers.wait_ready()
        console.print(f"serving [bold]{url}[/bold] as model {chosen.outer.model_name!r}")
        console.print(f"stop with Ctrl-C; logs are in {FOLDER}/inner.log and {FOLDER}/outer.log")
        servers.wait_ended()


@app.command()
def inner(
    settings: SettingsFile = None,
    pair: Pair = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Is there while outer halves may connect; for probes.")
    ] = None,
) -> None:
    """Run the half beside the weights.

    Told to stop (SIGTERM), it takes no more connections and lets streams end, up to `[inner]
    drain_s`; told twice, it stops at once.
    """
    from tidegate.cli.half_inner import run_inner

    chosen = settings_of(settings, pair)
    _clear(ready_file)
    _until_stopped(lambda stop: run_inner(chosen, stop, ready_file=ready_file))


@app.command()
def rank(
    number: Annotated[int, typer.Argument(min=1, help="Its place in `[ranks] addresses`.")],
    settings: SettingsFile = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Is there while the inner half may connect; for probes.")
    ] = None,
) -> None:
    """Run a part of the strong model's layers for an inner half; see docs/howto/lanes.md."""
    from tidegate.cli.half_rank import run_rank

    chosen = load(settings)
    _clear(ready_file)
    _until_stopped(lambda stop: run_rank(chosen, number, stop, ready_file))


@app.command()
def outer(
    settings: SettingsFile = None,
    pair: Pair = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the port here once requests are answered.")
    ] = None,
) -> None:
    """Run the half that faces users.

    Told to stop (SIGTERM), it takes no more requests, `/ready` says so, and answers may end, up to
    `[outer] drain_s`; told twice, it stops at once.
    """
    from tidegate.cli.half_outer import run_outer

    chosen = settings_of(settings, pair)
    _clear(ready_file)
    _until_stopped(lambda stop: run_outer(chosen, stop, _announce(ready_file)))


@app.command(hidden=True)
def direct(
    settings: SettingsFile = None,
    pair: Pair = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the port here once requests are answered.")
    ] = None,
) -> None:
    """Serve the strong model without a link: a baseline for `tidegate bench serve`, no more."""
    from tidegate.cli.half_direct import run_direct

    chosen = settings_of(settings, pair)
    _until_stopped(lambda stop: run_direct(chosen, stop, _announce(ready_file)))


@app.command(hidden=True)
def rigged(
    attack: Annotated[Path, typer.Option(help="The lies begin when this file is there.")],
    settings: SettingsFile = None,
    pair: Pair = None,
) -> None:
    """Run an inner half that begins to lie: the attacker of `tidegate up`, no more."""
    from tidegate.cli.half_inner import run_inner
    from tidegate.models.port import Model
    from tidegate.redteam.rigged import RiggedModel, bits

    chosen = settings_of(settings, pair)
    stolen = bits(b"what would be the weights' bytes, of which a thief has gigabytes")

    def rig(model: Model) -> Model:
        return RiggedModel(model, attack.exists, stolen)

    _until_stopped(lambda stop: run_inner(chosen, stop, rig))


@app.command()
def key(
    principal: Annotated[str, typer.Argument(help="Who will use it; budgets go by this name.")],
    settings: SettingsFile = None,
    metrics: Annotated[bool, typer.Option(help="Let the key read /metrics too.")] = False,
) -> None:
    """Make a key for somebody and print it, this once; restart the outer half to accept it."""
    from tidegate.serve.outer.keys import Keyring, mint_key

    if principal == OWN_PRINCIPAL:
        raise ConfigError(f"{principal!r} is who pays for what no user can be charged with")
    path = load(settings).outer.key_file
    path.parent.mkdir(parents=True, exist_ok=True)
    ring = Keyring.read(path) if path.exists() else Keyring.empty()
    fresh = mint_key()
    ring = ring.with_key(fresh, principal, scopes=("infer", "metrics") if metrics else ("infer",))
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(ring.encode())
    temporary.replace(path)
    typer.echo(fresh)


@app.command()
def secrets(settings: SettingsFile = None) -> None:
    """Make the link's and the seeds' secret files where missing, and print where they are."""
    chosen = load(settings)
    lanes = [lane.secret_file for lane in chosen.lanes.values()]
    for path in (*(lanes or [chosen.link.secret_file]), chosen.outer.seed_key_file):
        secret_bytes(path)
        typer.echo(str(path))


def _clear(ready_file: Path | None) -> None:
    """Take away what a half that was killed has left: this one has yet to load its models."""
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)


def _announce(ready_file: Path | None) -> Callable[[int], None]:
    def ready(port: int) -> None:
        if ready_file is not None:
            ready_file.write_text(str(port))

    return ready


def _until_stopped(run: Callable[[Stopping], Awaitable[None]]) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    log_as_json(log_stream())

    async def body() -> None:
        stop = Stopping()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.ask)
        await run(stop)

    asyncio.run(body())
