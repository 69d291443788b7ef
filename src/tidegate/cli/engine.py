"""`tidegate engine`: serving engines of others, checked from outside, and what works with them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from structlog.testing import capture_logs

from tidegate.models.engine_port import EngineRefusedError

if TYPE_CHECKING:
    from tidegate.models.engine_replicas import Dialect, ReplicaState

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="vLLM and SGLang as the strong model's engine: check replicas before an inner half asks "
    "them, and see which of their features can be used. docs/howto/engines.md has the rest.",
)

_COLOURS = {"supported": "green", "refused": "red", "unknown": "yellow"}


@app.command()
def check(
    engine: Annotated[Literal["vllm", "sglang"], typer.Argument(help="Which kind of server.")],
    urls: Annotated[list[str], typer.Argument(help="Each replica by itself: http://host:port.")],
    vocabulary: Annotated[int, typer.Option(min=20, help="Words the model has, such as 49152.")],
    model: Annotated[
        str | None, typer.Option(help="The served name, where a server has several.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="A version beyond the tested ones, which you measured.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(exists=True, help="Holds the servers' API key.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Ask every replica what an inner half would: version, model, plug-in, noise, weights.

    The probe draws a few tokens from a seed, and the replica's own log-probabilities say which they
    have to be. Exits 0 if all pass, 1 if one does not.
    """
    from tidegate.cli.half_engine import dialect, key_of
    from tidegate.config import Engine

    asked = Engine(urls=tuple(urls), model=model, key_file=key_file, version=version)
    spoken, key = dialect(engine, asked), key_of(asked)
    # What would be logged is what is shown below.
    with capture_logs():
        states = _asked(spoken, list(dict.fromkeys(urls)), vocabulary, key)
    _show(states, as_json)
    raise typer.Exit(0 if all(state.up for state in states) else 1)


@app.command()
def matrix(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Engine × version × feature: supported, refused, or unknown, as tests found them."""
    from tidegate.models.engine_matrix import load

    found = load()
    if as_json:
        typer.echo(
            json.dumps(
                {
                    feature: {engine: cell.status for engine, cell in cells.items()}
                    for feature, cells in found.features.items()
                },
                indent=1,
            )
        )
        return
    table = Table("feature", *found.engines)
    for feature, cells in found.features.items():
        shown = [f"[{_COLOURS[c.status]}]{c.status}[/]" for c in cells.values()]
        table.add_row(feature, *shown)
    Console(file=sys.stdout).print(table)


@app.command()
def fingerprint(
    model: Annotated[str, typer.Argument(help="Its folder, packaged name or hub id.")],
    dtype: Annotated[
        Literal["bfloat16", "float32"], typer.Option(help="The type in which it is served.")
    ] = "bfloat16",
) -> None:
    """Print what names a model's weights, served in a type: the record's `model` in settings.

    Every file is hashed. An outer half without weights cannot work it out; a verifier with the same
    folder comes to the same.
    """
    from tidegate.models.prepared import content_hash, manifest_of, prepare

    folder = prepare(model, dtype=dtype)
    typer.echo(content_hash(manifest_of(folder), dtype))


def _asked(
    spoken: Dialect, urls: list[str], vocabulary: int, key: str | None
) -> list[ReplicaState]:
    """Each replica alone, and then those that passed side by side."""
    from tidegate.models.engine_replicas import Replicas, ReplicaState

    states: dict[str, ReplicaState] = {}
    for url in urls:
        try:
            opened = Replicas(spoken, [url], vocab_size=vocabulary, key=key)
        except EngineRefusedError as error:
            states[url] = ReplicaState(url, False, "", error.message)
        else:
            states[url] = opened.replicas()[0]
            opened.close()
    passed = [url for url, state in states.items() if state.up]
    if len(passed) > 1:
        # Whether they have one model's weights shows only side by side.
        both = Replicas(spoken, passed, vocab_size=vocabulary, key=key)
        states |= dict(zip(passed, both.replicas(), strict=True))
        both.close()
    return list(states.values())


def _show(states: list[ReplicaState], as_json: bool) -> None:
    if as_json:
        rows = [
            {"url": s.url, "passed": s.up, "version": s.version, "reason": s.reason} for s in states
        ]
        typer.echo(json.dumps({"replicas": rows}, indent=1))
        return
    console = Console(file=sys.stdout)
    for state in states:
        mark = (
            f"[green]passed[/] {state.version}" if state.up else f"[red]refused[/] {state.reason}"
        )
        console.print(state.url, mark, soft_wrap=True)
