"""What `tidegate bench console` measures."""

from __future__ import annotations

from typing import Annotated

import typer

from tidegate.bench.figures import Result
from tidegate.cli.bench import AsJson, finish
from tidegate.cli.progress import bars


def console(
    as_json: AsJson = False,
    events: Annotated[int, typer.Option(min=1000, help="Events in the store.")] = 10_000_000,
    viewers: Annotated[int, typer.Option(min=1, max=400, help="Who watch meanwhile.")] = 200,
) -> None:
    """The live page: how soon it answers over ten million events, and how many may watch.

    Takes some 6 GB of disk for the events and about ten minutes. What a browser asks for is looked
    at where Chromium and playwright are installed.
    """
    from tidegate.bench import console as bench

    with bars() as progress:
        figures = bench.measure(progress, events=events, viewers=viewers)
    finish(Result("console", figures), as_json)
