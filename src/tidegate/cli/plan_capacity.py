"""`tidegate plan capacity`: what a day of so many tokens needs."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from tidegate.errors import ConfigError

if TYPE_CHECKING:
    from tidegate.plan.capacity import Capacity
    from tidegate.plan.capacity_profile import Profile


def capacity(
    profile: Annotated[
        str, typer.Argument(help="A TOML file, or the name of a packaged profile.")
    ] = "frontier",
    tokens: Annotated[
        list[float] | None,
        typer.Option(help="Tokens answered a day, such as 1e12; may be repeated."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="A value replaced, NAME=NUMBER; may be repeated."),
    ] = None,
    measured: Annotated[
        list[Path] | None,
        typer.Option(help="What `tidegate bench capacity --json` printed on your machine."),
    ] = None,
    values: Annotated[bool, typer.Option(help="Also print every value and its source.")] = False,
    template: Annotated[bool, typer.Option(help="Print the profile's file, and no more.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page.")] = None,
) -> None:
    """What a day of tokens needs: accelerators, cores, bytes, database writes.

    Every cost is measured, cited or assumed, and says so. `frontier` is a large model with a real
    weak model, `small` what the demo runs; `--template` prints one to start from.
    """
    from tidegate.plan import capacity as reckoned
    from tidegate.plan import capacity_profile as profiles

    text = text_of(profile)
    if template:
        typer.echo(text, nl=False)
        return
    chosen = profiles.read(text, profile)
    for path in measured or ():
        chosen = chosen.having(profiles.measured(path.read_bytes(), str(path)))
    chosen = chosen.having(profiles.changed(change or []))
    volumes = tuple(tokens or reckoned.VOLUMES)
    for volume in volumes:
        if not 0 < volume < float("inf"):
            raise ConfigError(f"--tokens {volume:g}: a number of tokens above 0 is wanted")
    told = reckoned.capacity(chosen, volumes)
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(page(told), encoding="utf-8")
        Console(stderr=True).print(f"wrote {html}", style="dim", highlight=False)
    if as_json:
        sys.stdout.buffer.write(told.json() + b"\n")
    else:
        show(Console(), told, values=values)


def names() -> tuple[str, ...]:
    """The packaged profiles."""
    found = (entry.name for entry in (files("tidegate.data") / "capacity").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def text_of(name: str) -> str:
    """The text of a profile, by path or packaged name. Raises ConfigError where there is none."""
    if name in names():
        return (files("tidegate.data") / "capacity" / f"{name}.toml").read_text(encoding="utf-8")
    path = Path(name)
    if not path.is_file():
        known = ", ".join(names())
        raise ConfigError(f"there is no profile {name}: neither a file nor one of {known}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not text in UTF-8", file=name) from error


def show(console: Console, told: Capacity, *, values: bool) -> None:
    """Print what each volume needs; with `values`, every value that went in."""
    from tidegate.plan.capacity import FIGURES

    console.print(told.profile.title, style="bold", highlight=False)
    if told.profile.about:
        console.print(" ".join(told.profile.about.split()), style="dim", highlight=False)
    heads = [f"{need.tokens_a_day:.0e}".replace("e+", "e") for need in told.needs]
    table = Table("tokens a day", *heads, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    group = ""
    for name, figure in FIGURES.items():
        if figure.group != group:
            group = figure.group
            table.add_row(group, style="bold")
        cells = [short(need.figures[name], figure.unit) for need in told.needs]
        table.add_row(f"  {figure.means}", *cells)
    console.print(table)
    if values:
        console.print(_values(told.profile))
    counted = ", ".join(f"{count} {kind}" for kind, count in told.profile.sources().items())
    more = "" if values else "; --values prints each with its source"
    console.print(f"{counted}{more}", style="dim", highlight=False, soft_wrap=True)


def _values(profile: Profile) -> Table:
    from tidegate.plan.capacity_profile import VALUES

    table = Table("value", "", "unit", "means", "source", box=None, pad_edge=False)
    for name, given in profile.values.items():
        table.add_row(name, f"{given.value:g}", given.unit, VALUES[name].means, given.source)
    return table


_STEPS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def short(value: float, unit: str) -> str:
    """Three digits, with a prefix where the unit takes one."""
    if unit == "share":
        return f"{value:.2%}"
    if unit in ("bytes", "bit/s"):
        for size, prefix in _STEPS:
            if value >= size:
                return f"{value / size:.3g} {prefix}{'B' if unit == 'bytes' else 'bit/s'}"
        return f"{value:.3g} {'B' if unit == 'bytes' else unit}"
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def page(told: Capacity) -> str:
    """One HTML file that needs no network."""
    import jinja2

    from tidegate.plan.capacity import FIGURES
    from tidegate.plan.capacity_profile import VALUES

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["short"] = short
    source = (files("tidegate.cli") / "plan_capacity.html").read_text(encoding="utf-8")
    return environment.from_string(source).render(told=told, figures=FIGURES, values=VALUES)
