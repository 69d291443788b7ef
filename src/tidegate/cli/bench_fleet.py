"""What `tidegate bench fleet` measures, a part at a time; each part can run alone."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer

from tidegate.bench.figures import Figure, Result
from tidegate.bench.fleet import Options
from tidegate.cli.bench import AsJson, Only, chosen_of, finish
from tidegate.cli.progress import bars
from tidegate.models.cache import Progress

PARTS = ("vllm", "ray", "postgres", "lanes")


class Part(Protocol):
    """A module `tidegate.bench.fleet_NAME`."""

    def measure(self, progress: Progress, options: Options) -> dict[str, Figure]:
        """The part's figures by key. Raises TidegateError where it cannot run."""


def fleet(
    as_json: AsJson = False,
    only: Only = None,
    vllm_python: Annotated[
        Path | None,
        typer.Option(
            envvar="TIDEGATE_VLLM_PYTHON",
            help="The Python of an environment with vLLM and Tidegate; docs/howto/vllm.md.",
        ),
    ] = None,
) -> None:
    """With the engines and clusters people already run.

    Parts: vllm (the plug-in's sequences beside ours, its cost beside the stock sampler),
    ray (two workers over one; verdicts lost or doubled while workers and the head are killed),
    postgres (reservations a second of four outers; charges forgotten over failovers and kills),
    lanes (throughput of 1, 2 and 4 lanes, memory of a stream).
    """
    options = Options(vllm_python=vllm_python)
    figures: dict[str, Figure] = {}
    with bars() as progress:
        for name in chosen_of(only, PARTS):
            # Imported when it runs: each part needs packages that the others do not.
            part = cast(Part, import_module(f"tidegate.bench.fleet_{name}"))
            figures |= part.measure(progress, options)
    finish(Result("fleet", figures), as_json)
