"""`tidegate vault parts`: which shards each of several hosts needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli.half_sealed import part_of
from tidegate.cli.vault_seal import (
    AsJson,
    Folder,
    OfModel,
    Owner,
    Pinned,
    opened_folder,
    refusals,
)
from tidegate.models.exact.stage import layers_among, span_of
from tidegate.vault.open_part import shards_of


class Part(msgspec.Struct, frozen=True):
    """One rank's part; layers from `first_layer` to `last_layer`, `shards` as `request` takes."""

    rank: int
    first_layer: int
    last_layer: int
    shards: str
    bytes: int


def parts(
    sealed: Folder,
    owner: Owner,
    ranks: Annotated[int, typer.Option(min=1, help="Hosts that run the model together.")],
    model_id: OfModel = None,
    manifest: Pinned = None,
    as_json: AsJson = False,
) -> None:
    """Which shards each of several hosts needs: what to request in its grant. No key is needed.

    For converted models, which `[ranks]` runs; docs/howto/lanes.md.
    """
    with refusals():
        opened = opened_folder(sealed, owner, model_id, manifest).manifest
    layers = layers_among([tensor.name for tensor in opened.tensors])
    found = []
    for rank in range(ranks):
        span = span_of(layers, rank, ranks)
        numbers = shards_of(opened, part_of(rank, ranks))
        size = sum(opened.shard(number).size for number in numbers)
        found.append(Part(rank, span.start, span.end - 1, ranges(numbers), size))
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
        return
    table = Table(title=f"{opened.model} on {ranks} hosts", title_justify="left")
    for column in ("rank", "layers", "shards", "bytes"):
        table.add_column(column, justify="left" if column == "shards" else "right")
    for part in found:
        span_text = f"{part.first_layer}-{part.last_layer}"
        table.add_row(str(part.rank), span_text, part.shards, f"{part.bytes:,}")
    Console().print(table)


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as `0-3,7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
