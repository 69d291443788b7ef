"""`tidegate exact`: models whose logits are the same bits on every machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli.progress import bars
from tidegate.errors import ModelError

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="The integer-exact engine: convert models for it, and check that this machine computes "
    "the bits that every other one does.",
)


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="A packaged name (see `tidegate models list`), a GGUF file, a model folder, or a "
            "hub id."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The folder to make; it must not exist.")],
    max_context: Annotated[
        int, typer.Option(min=1, help="Longest sequence, in tokens; rotations are stored for it.")
    ] = 8192,
    alpha: Annotated[
        list[float] | None,
        typer.Option(
            help="How much of each channel's size moves from activations to weights: a multiple of "
            "1/8 from 0 (none) to 1. Repeated, the best for each product is chosen; by default of "
            "all."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Make integers of a Llama- or Qwen2-type model: int8 weights, one scale a row.

    Packaged prompts run through it meanwhile, to choose how inputs are scaled. The same source
    gives the same root hash on every machine.
    """
    from tidegate.models.exact.convert import Recipe
    from tidegate.models.exact.convert import convert as run
    from tidegate.models.exact.format import is_converted
    from tidegate.models.prepared import prepare

    recipe = Recipe(max_context=max_context)
    if alpha:
        recipe = Recipe(max_context=max_context, eighths=_eighths(alpha))
    with bars() as progress:
        folder = prepare(source, progress=progress)
        if is_converted(folder):
            raise ModelError(f"{source} is a converted folder already", file=str(folder))
        manifest = run(folder, out, recipe, progress)
    size = sum(path.stat().st_size for path in out.iterdir())
    summary: dict[str, str | int] = {
        "folder": str(out),
        "name": manifest.name,
        "root": manifest.root,
        "parameters": manifest.parameters,
        "bytes": size,
        "licence": manifest.licence,
        "provenance": manifest.provenance,
        "source_sha256": manifest.source_sha256,
        "made_with": manifest.made_with,
    }
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(summary), indent=1) + b"\n")
        return
    table = Table(title=f"converted {manifest.name}", title_justify="left", show_header=False)
    for key, value in summary.items():
        table.add_row(key, f"{value:,}" if isinstance(value, int) else value)
    Console().print(table)


@app.command()
def selftest(
    device: Annotated[str, typer.Option(help="cpu or cuda: where the back ends run.")] = "cpu",
    backend: Annotated[
        str | None, typer.Option(help="Only this one; without it, all that this machine has.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; by default all processors.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="How often every operation is fed with random rows.")
    ] = 6,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Does this machine compute the specified bits? Every back end is put to the same test.

    The largest products, every operation on rows of all magnitudes against its definition, and the
    known logits of small models, token by token and all at once. Serving runs the same test at
    every start and uses no back end that differs. Exits with 1 if one does.
    """
    from tidegate.models.exact.backends import default_threads, names
    from tidegate.models.exact.selftest import Finding, examine

    wanted = [backend] if backend else names(device)
    findings: list[Finding] = []
    with bars() as progress:
        for number, name in enumerate(wanted):
            progress("testing back ends", number, len(wanted))
            findings.append(examine(name, threads=threads or default_threads(), rounds=rounds))
        progress("testing back ends", len(wanted), len(wanted))
    if as_json:
        sys.stdout.buffer.write(
            msgspec.json.format(msgspec.json.encode(findings), indent=1) + b"\n"
        )
    else:
        table = Table("back end", "bits", "seconds", title="self-test", title_justify="left")
        for found in findings:
            told = f"[red]differs in {found.differs}[/red]" if found.differs else "as specified"
            table.add_row(found.backend, told, f"{found.seconds:.1f}")
        Console().print(table)
    if any(found.differs for found in findings):
        raise typer.Exit(1)


def _eighths(alphas: list[float]) -> tuple[int, ...]:
    chosen = sorted({alpha * 8 for alpha in alphas})
    if not all(eighth.is_integer() and 0 <= eighth <= 8 for eighth in chosen):
        raise typer.BadParameter("a multiple of 0.125 from 0 to 1", param_hint="--alpha")
    return tuple(int(eighth) for eighth in chosen)
