"""`tidegate console`: the live page, and who may see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvicorn
from rich.console import Console as Terminal
from rich.table import Table

from tidegate.cli.console_settings import (
    ConsoleSettings,
    broker_of,
    feeds_of,
    hosts_of,
    records_of,
    settings_of,
    sources_of,
)
from tidegate.cli.ground import log_stream
from tidegate.cli.log_folder import opened
from tidegate.clock import SystemClock
from tidegate.console.actions import Actions, Sink
from tidegate.console.app import Console, Parts
from tidegate.console.errors import ConsoleError
from tidegate.console.event import Event
from tidegate.console.events import Events
from tidegate.console.hub import Hub
from tidegate.console.people import LEAST_PASSWORD, People, Role
from tidegate.console.watch import Watch
from tidegate.errors import ConfigError
from tidegate.serve.outer.http_server import bound, server_config
from tidegate.serve.telemetry import make_logger
from tidegate.transparency.entry import Kind
from tidegate.transparency.errors import EntryError, LogError
from tidegate.transparency.log import Log

PEOPLE, EVENTS = "people.json", "events.sqlite"

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="The live page: what may still leave, how long a thief would need, what is wrong now. "
    "`tidegate console person add NAME --settings console.toml`, then `tidegate console serve "
    "console.toml`. How to set it up, and what it does not show, is in docs/howto/console.md.",
)
person = typer.Typer(no_args_is_help=True, help="Who may log in, and as what.")
app.add_typer(person, name="person")

SettingsFile = Annotated[
    Path, typer.Option("--settings", exists=True, dir_okay=False, help="The console's settings.")
]


@app.command()
def serve(
    settings: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="The console's settings, TOML.")
    ],
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the port here once the page answers.")
    ] = None,
) -> None:
    """Serve the page until Ctrl-C."""
    chosen = settings_of(settings)

    def ready(port: int) -> None:
        scheme = "http" if chosen.tls is None else "https"
        Terminal(stderr=True).print(f"console: {scheme}://{chosen.host}:{port}/")
        if ready_file is not None:
            ready_file.write_text(str(port))

    asyncio.run(run_console(chosen, ready))


@person.command()
def add(
    name: Annotated[str, typer.Argument(help="In small letters; the broker's name for approvers.")],
    settings: SettingsFile,
    role: Annotated[Role, typer.Option(help="What that person may do beside looking.")] = (
        Role.VIEWER
    ),
    reads_prompts: Annotated[
        bool, typer.Option("--reads-prompts", help="May see what users wrote; each look is logged.")
    ] = False,
    password: Annotated[
        str,
        typer.Option(
            prompt=True,
            confirmation_prompt=True,
            hide_input=True,
            envvar="TIDEGATE_CONSOLE_PASSWORD",
            help=f"At least {LEAST_PASSWORD} characters; asked for if not given.",
        ),
    ] = "",
) -> None:
    """Let somebody log in, or change his role and password. Open sessions of his end."""
    people_of(settings_of(settings)).put(name, role, password, reads_prompts=reads_prompts)
    Terminal().print(f"{name} may log in as {role}.")


@person.command()
def remove(
    name: Annotated[str, typer.Argument(help="As it was added.")], settings: SettingsFile
) -> None:
    """Let somebody log in no more; his sessions end with his next request."""
    if not people_of(settings_of(settings)).remove(name):
        raise ConfigError(f"nobody of the name {name} may log in")
    Terminal().print(f"{name} may not log in any more.")


@person.command("list")
def list_people(
    settings: SettingsFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, no table.")] = False,
) -> None:
    """Who may log in."""
    people = people_of(settings_of(settings)).all()
    if as_json:
        rows = [{"name": p.name, "role": p.role, "reads_prompts": p.reads_prompts} for p in people]
        typer.echo(msgspec.json.encode(rows).decode())
        return
    table = Table("name", "role", "reads prompts")
    for one in people:
        table.add_row(one.name, one.role, "yes" if one.reads_prompts else "no")
    Terminal().print(table)


def people_of(settings: ConsoleSettings) -> People:
    """The file of those who may log in."""
    return People(settings.folder / PEOPLE)


def _logged(log: Log) -> Sink:
    """Actions go into a transparency log."""

    def append(event: Event) -> None:
        body = {"who": event.subject, **event.body}
        try:
            log.append(Kind.ACTION, body, once=event.uid)
        except (LogError, EntryError) as error:
            raise ConsoleError(f"the action could not be logged: {error.message}") from error

    return append


async def run_console(settings: ConsoleSettings, ready: Callable[[int], None]) -> None:
    """Serve until the process is told to stop; `ready` is called with the port.

    Raises TidegateError.
    """
    with ExitStack() as stack:
        sink = None
        if settings.log is not None:
            sink = _logged(stack.enter_context(opened(settings.log)).log)
        await _run(settings, ready, sink)


async def _run(settings: ConsoleSettings, ready: Callable[[int], None], sink: Sink | None) -> None:
    clock, hub = SystemClock(), Hub()
    events = Events(settings.folder / EVENTS)
    log = make_logger(log_stream(), clock)
    listener = bound(settings.host, settings.port)
    port = listener.getsockname()[1]
    console = Console(
        Parts(
            people=people_of(settings),
            events=events,
            hub=hub,
            actions=Actions(events, hub, clock, sink),
            clock=clock,
            records=records_of(settings),
            broker=broker_of(settings),
            secure=settings.tls is not None,
        ),
        hosts_of(settings, port),
    )
    watch = Watch(
        settings.name, sources_of(settings, clock), feeds_of(settings), events, hub, clock, log
    )
    config = server_config(console.app, host=settings.host, port=port, log_stream=log_stream())
    if settings.tls is not None:
        config.ssl_certfile, config.ssl_keyfile = settings.tls.certificate, str(settings.tls.key)
    server = uvicorn.Server(config)
    watching = asyncio.create_task(watch.run())
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.02)
    if server.started:
        ready(port)
    while not (server.should_exit or serving.done() or watching.done()):
        await asyncio.sleep(0.1)
    # Viewers' streams never end by themselves: without this a stop would wait for them.
    hub.close()
    server.should_exit = True
    await serving
    failed = watching.done()
    watching.cancel()
    events.close()
    if failed:
        watching.result()
