"""What a scan found, in the terminal and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Final

from jinja2 import Environment
from rich.console import Console
from rich.text import Text

from tidegate.scan.report import GRAVITY, Stream, picture
from tidegate.scan.sighting import Kind, Sighting

_STYLES: Final = {
    Kind.OWN_WEIGHTS: "bold red",
    Kind.MODEL_FILE: "magenta",
    Kind.WEIGHTS: "red",
    Kind.OPAQUE: "yellow",
    Kind.BOMB: "cyan",
}
_COLOURS: Final = {
    Kind.OWN_WEIGHTS: "#8b0000",
    Kind.MODEL_FILE: "#a23b9c",
    Kind.WEIGHTS: "#d1495b",
    Kind.OPAQUE: "#e0a800",
    Kind.BOMB: "#0b7285",
}
_LETTERS: Final = {
    Kind.OWN_WEIGHTS: "█",
    Kind.MODEL_FILE: "H",
    Kind.WEIGHTS: "▓",
    Kind.OPAQUE: "▒",
    Kind.BOMB: "!",
}
_MOST_SHOWN: Final = 12
_PAGE_CELLS: Final = 400


def show(streams: Sequence[Stream], console: Console) -> None:
    """Each stream's picture and sightings; streams without any are counted."""
    quiet = [stream for stream in streams if not stream.sightings]
    for stream in streams:
        if stream.sightings:
            _show_stream(stream, console)
    size = sum(stream.size for stream in streams)
    told = f"{len(streams)} stream{'s' if len(streams) != 1 else ''}, {size:,} bytes"
    if len(quiet) == len(streams):
        console.print(f"{told}: nothing looks like weights")
    else:
        console.print(f"{told}; {len(streams) - len(quiet)} with sightings")


def _show_stream(stream: Stream, console: Console) -> None:
    console.print(Text(f"{stream.name} ({stream.size:,} bytes)", style="bold"))
    line = Text()
    for kind in picture(stream, max(16, console.width - 2)):
        line.append(_LETTERS[kind] if kind else "·", style=_STYLES[kind] if kind else "dim")
    console.print(line)
    legend = Text("  ".join(f"{_LETTERS[k]} {k}" for k in _kinds(stream)), style="dim")
    console.print(legend)
    for sighting in stream.sightings[:_MOST_SHOWN]:
        console.print(
            Text.assemble(
                (f"{place(sighting)}  ", "bold"),
                (f"{sighting.kind}", _STYLES[sighting.kind]),
                f"  {sighting.explanation}",
            )
        )
    if len(stream.sightings) > _MOST_SHOWN:
        console.print(f"and {len(stream.sightings) - _MOST_SHOWN} more (--json lists all)")


def place(sighting: Sighting) -> str:
    """Where it is, and under which wrappings."""
    stop = sighting.offset + sighting.length
    wrapped = f" in {' in '.join(reversed(sighting.layers))}" if sighting.layers else ""
    return f"{sighting.offset:,}–{stop:,}{wrapped}"


def _kinds(stream: Stream) -> list[Kind]:
    seen = {sighting.kind for sighting in stream.sightings}
    return [kind for kind in GRAVITY if kind in seen]


def page(streams: Sequence[Stream], target: str) -> str:
    """A page that needs nothing from outside."""
    text = (resources.files("tidegate.cli") / "scan_report.html").read_text()
    template = Environment(autoescape=True).from_string(text)
    return template.render(
        target=target,
        streams=[
            {
                "name": stream.name,
                "size": f"{stream.size:,}",
                "damage": stream.damage,
                "cells": [
                    _COLOURS[kind] if kind else "#dfe5e8" for kind in picture(stream, _PAGE_CELLS)
                ],
                "sightings": [
                    {
                        "place": place(sighting),
                        "kind": sighting.kind,
                        "colour": _COLOURS[sighting.kind],
                        "detector": sighting.detector,
                        "says": sighting.explanation,
                    }
                    for sighting in stream.sightings
                ],
            }
            for stream in streams
            if stream.sightings or stream.damage or len(streams) == 1
        ],
        legend=[(kind, colour) for kind, colour in _COLOURS.items()],
        quiet=sum(1 for stream in streams if not stream.sightings),
    )
