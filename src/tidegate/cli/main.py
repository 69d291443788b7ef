"""`tidegate`: the program, and how errors end a command."""

from __future__ import annotations

import functools
import sys
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup
from typer.main import get_command_from_info, get_group_from_info
from typer.models import CommandInfo, TyperInfo

from tidegate import __version__
from tidegate.cli.groups import COMMANDS, GROUPS
from tidegate.errors import TidegateError


class _Lazy(TyperGroup):
    """Imports a command with all it needs when it is asked for; `--help` asks for all."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # Their names, for listing and for guessing what was meant.
        names: dict[str, Any] = dict.fromkeys((*COMMANDS, *GROUPS))
        self.commands = names | dict(self.commands)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override]
        return _loaded(cmd_name) or super().get_command(ctx, cmd_name)


@functools.cache  # a group is put together once
def _loaded(name: str) -> Any:
    if name in COMMANDS:
        return get_command_from_info(
            CommandInfo(name, callback=COMMANDS[name]()),
            pretty_exceptions_short=app.pretty_exceptions_short,
            rich_markup_mode=app.rich_markup_mode,
        )
    if name in GROUPS:
        return get_group_from_info(
            TyperInfo(GROUPS[name](), name=name),
            pretty_exceptions_short=app.pretty_exceptions_short,
            rich_markup_mode=app.rich_markup_mode,
            suggest_commands=app.suggest_commands,
        )
    return None


app = typer.Typer(
    cls=_Lazy,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Keeps a model's weights from leaving: users keep the OpenAI API, the machines that hold "
    "the weights send out a few bits a token, and a ledger charges every one.",
)


@app.callback()
def _a_group() -> None:
    """So that one command of its own does not make the program that command."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line; what the user can mend is one sentence and status 2."""
    try:
        app(prog_name="tidegate")
    except TidegateError as error:
        _fail(error.message)
    except OSError as error:
        # A folder that cannot be written, a full disk: named by the system, not by us.
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}")


def _fail(sentence: str) -> NoReturn:
    told = Text.assemble(("error: ", "red"), sentence)
    Console(stderr=True).print(told, soft_wrap=True)
    sys.exit(2)
