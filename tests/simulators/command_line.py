"""Whether a command line is one that `tidegate` takes, without running it."""

from __future__ import annotations

import click
import typer

from tidegate.cli.main import app


def unknown(arguments: list[str]) -> set[str]:
    """Options among `arguments` that their command does not have; a word that is no command."""
    command: click.Command | None = typer.main.get_command(app)
    rest = list(arguments)
    while command is not None and hasattr(command, "get_command"):
        context = command.make_context("tidegate", [], resilient_parsing=True)
        word = rest.pop(0)
        command = command.get_command(context, word)
        if command is None:
            return {word}
    assert command is not None
    known = {option for parameter in command.params for option in parameter.opts}
    return {word.partition("=")[0] for word in rest if word.startswith("--")} - known
