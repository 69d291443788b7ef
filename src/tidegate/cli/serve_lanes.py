"""`tidegate serve lanes|drain|undrain`: an outer half's lanes, for an operator on its host."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli.bench import AsJson
from tidegate.cli.serve import SettingsFile
from tidegate.config import load
from tidegate.errors import ConfigError
from tidegate.serve.outer.control import Reply, Request, ask

Name = Annotated[str, typer.Argument(metavar="LANE", help="Its name in `[lanes]`.")]

_STYLES = {"up": "green", "down": "bold red", "failing": "bold red"}


def lanes(settings: SettingsFile = None, as_json: AsJson = False) -> None:
    """Show the running outer half's lanes: state, streams, incidents, what crossed.

    Exits 0 where every lane is up, drains or is drained; 1 where one is down or failing.
    """
    reply = _ask(settings, Request("show"))
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(reply.lanes)) + b"\n")
    else:
        table = Table(title="lanes", title_justify="left")
        for column in ("lane", "state", "streams", "slots", "incidents", "bits", "tokens"):
            table.add_column(column, justify="left" if column in ("lane", "state") else "right")
        for lane in reply.lanes:
            counts = (lane.streams, lane.slots, lane.incidents, lane.bits, lane.tokens)
            style = _STYLES.get(lane.state, "")
            table.add_row(lane.name, lane.state, *(f"{count:,}" for count in counts), style=style)
        Console().print(table)
    if any(lane.state in _STYLES and lane.state != "up" for lane in reply.lanes):
        raise typer.Exit(1)


def drain(lane: Name, settings: SettingsFile = None) -> None:
    """Give a lane no more jobs, wait until it has none, and hang up; then restart its inner half.

    Where several outer halves use that inner half, drain its lane in each of them.
    """
    _ask(settings, Request("drain", lane))
    typer.echo(f"{lane} is drained")


def undrain(lane: Name, settings: SettingsFile = None) -> None:
    """Use a lane again, once its inner half is back."""
    _ask(settings, Request("undrain", lane))
    typer.echo(f"{lane} is used again")


def _ask(settings: SettingsFile, request: Request) -> Reply:
    address = load(settings).outer.control
    try:
        reply = asyncio.run(ask(address, request))
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"no outer half with lanes answers at {address}: {error}") from error
    if reply.error:
        raise ConfigError(reply.error)
    return reply
