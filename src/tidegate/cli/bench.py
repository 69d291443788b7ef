"""`tidegate bench`: the figures the README quotes, printed by the command that makes them."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tidegate.bench import coding_figures
from tidegate.bench.figures import Result
from tidegate.cli import parts
from tidegate.cli.progress import bars
from tidegate.config import Models
from tidegate.errors import ConfigError
from tidegate.models.cache import Progress
from tidegate.models.port import Model

if TYPE_CHECKING:
    from tidegate.bench.coding import Tally
    from tidegate.bench.prompts import Prompt

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Measure, beside a peer or baseline in the same run. Exits 0 where every target holds, "
    "1 where one falls short, 2 where it could not run.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, no table.")]
Prompts = Annotated[
    Path | None,
    typer.Option(help="A JSON-lines file of prompts; by default the packaged sample."),
]

Only = Annotated[list[str] | None, typer.Option(help="Run this part alone; may be repeated.")]


def chosen_of(only: Sequence[str] | None, parts: Iterable[str]) -> Sequence[str]:
    """The parts asked for, or all. Raises ConfigError for one that there is not."""
    known = list(parts)
    for name in only or ():
        if name not in known:
            raise ConfigError(f"there is no part {name!r}; choose of {', '.join(known)}")
    return only or known


@app.command()
def coding(
    as_json: AsJson = False,
    pair: Annotated[str, typer.Option(help="smollm2 or qwen (the real pair).")] = "qwen",
    prompts: Prompts = None,
    count: Annotated[int, typer.Option(min=1, help="How many prompts.")] = 500,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 52,
    temperature: Annotated[
        list[float] | None, typer.Option(help="Sampling temperatures; default 0, 0.7 and 1.")
    ] = None,
    others: Annotated[
        int, typer.Option(min=0, help="Prompts for the weaker weak models and SmolLM2; 0: none.")
    ] = 64,
) -> None:
    """Bits a token on the link, beside plain arithmetic coding with the same weak model.

    Besides the pair, two worse weak models stand in for its own, and SmolLM2 with its n-gram shows
    another vocabulary (V = 49,152).
    """
    with bars() as progress:
        chosen = prompts_of(prompts, count)
        degrees = tuple(temperature or (0.0, 0.7, 1.0))
        main, vocab_size = _tallies(parts.pair(pair), chosen, degrees, max_tokens, progress)
        more: dict[tuple[str, float], Tally] = {}
        if others and pair != "smollm2":
            few = chosen[:others]
            more |= _tallies(parts.pair(pair), few, degrees, max_tokens, progress, weaker=True)[0]
            more |= _tallies(parts.pair("smollm2"), few, degrees, max_tokens, progress)[0]
    finish(Result("coding", coding_figures.figures(main, more, vocab_size)), as_json)


def prompts_of(path: Path | None, count: int) -> list[Prompt]:
    """Prompts from `path`, or the larger file beside the checkout, or the packaged sample."""
    from tidegate.bench.prompts import beside_or_packaged, load

    return load(path or beside_or_packaged(), count, longest=1200)


def _tallies(
    models: Models,
    chosen: Sequence[Prompt],
    temperatures: Sequence[float],
    max_tokens: int,
    progress: Progress,
    *,
    weaker: bool = False,
) -> tuple[dict[tuple[str, float], Tally], int]:
    """Tallies of one pair (or of worse versions of its weak model), and its vocabulary's size."""
    # Imported here: torch takes seconds to load, and --help must not.
    from tidegate.bench import coding as bench

    tokenizer = parts.load_tokenizer(models, progress)
    strong = parts.strong_model(models, progress)
    weak: dict[str, Model] = {}
    if weaker:
        from tidegate.bench.weaken import weaker as worse

        weak |= worse(models, progress)
    else:
        weak[models.weak] = parts.weak_model(models, progress)
    tallies = bench.run(
        strong,
        weak,
        tokenizer,
        chosen,
        temperatures=temperatures,
        max_tokens=max_tokens,
        key=secrets.token_bytes(32),
        progress=lambda stage, done, total: progress(f"{', '.join(weak)}: {stage}", done, total),
    )
    return tallies, strong.vocab_size


class ServePart(StrEnum):
    """What `bench serve` can measure by itself."""

    SPEED = "speed"
    GROWTH = "growth"


@app.command()
def serve(
    as_json: AsJson = False,
    pair: Annotated[str, typer.Option(help="smollm2 or qwen.")] = "smollm2",
    prompts: Prompts = None,
    count: Annotated[int, typer.Option(min=1, help="Prompts a pass.")] = 64,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer of a pass.")] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Alternating pairs of passes.")] = 3,
    longest: Annotated[
        int, typer.Option(min=64, help="Longest answer of the growth table.")
    ] = 2048,
    plot: Annotated[Path, typer.Option(help="Where the plots go.")] = Path("out/bench-serve.html"),
    only: Annotated[
        ServePart | None, typer.Option(help="Speed beside direct serving, or cost as work grows.")
    ] = None,
) -> None:
    """Speed through the link beside the same engine served directly, and what framing costs."""
    from tidegate.bench.prompts import load
    from tidegate.bench.serve_figures import figures
    from tidegate.bench.serve_figures import plot as write_plot
    from tidegate.cli.bench_serve import measure_growth, measure_speed

    models = parts.pair(pair).model_copy(update={"max_context": 4096})
    chosen = load(prompts, count, longest=600)
    with bars() as progress:
        parts.fetch_all(models, progress)
        passes = (
            measure_speed(models, chosen, max_tokens, repeats, progress)
            if only is not ServePart.GROWTH
            else {}
        )
        cells = (
            measure_growth(models, chosen, longest, progress) if only is not ServePart.SPEED else []
        )
    if cells:
        write_plot(plot, cells)
    finish(Result("serve", figures(passes, cells)), as_json)


def finish(result: Result, as_json: bool) -> None:
    """Print the result and exit with what it says."""
    if as_json:
        sys.stdout.buffer.write(result.to_json() + b"\n")
    else:
        result.print(Console())
    raise typer.Exit(0 if result.holds() else 1)
