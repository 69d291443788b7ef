"""The demo's result as one HTML file that opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from tidegate.cli.demo_rows import COMPRESSION, Account, Exfiltration, Model, Row, total
from tidegate.cli.demo_table import worse_sentence

COLOURS = {
    "raw ids": "#9aa5b1",
    "zstd": "#7b8794",
    "plain coding": "#c98b2b",
    "link": "#0b7285",
    "KL floor": "#b6d7dc",
}


def write(
    path: Path, model: Model, rows: Sequence[Row], account: Account, leak: Exfiltration
) -> None:
    """Write the report to `path`. Raises OSError."""
    template = (files("tidegate.cli") / "demo_report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    temperatures = sorted({row.temperature for row in rows})
    page = environment.from_string(template).render(
        plotly=get_plotlyjs(),
        figures=[
            figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
            for figure in (_ways(model, rows), _requests(rows), _days(leak))
        ],
        model=model,
        rows=sorted(rows, key=lambda row: (row.temperature, row.prompt_id)),
        sums=[
            (f"T = {t:g}", total([r for r in rows if r.temperature == t], model.vocab_size))
            for t in temperatures
        ]
        + [("in all", total(rows, model.vocab_size))],
        account=account,
        leak=leak,
        compression=COMPRESSION,
        worse=worse_sentence(rows),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _ways(model: Model, rows: Sequence[Row]) -> go.Figure:
    temperatures = sorted({row.temperature for row in rows})
    sums = {
        t: total([row for row in rows if row.temperature == t], model.vocab_size)
        for t in temperatures
    }
    bars = [
        go.Bar(
            name=way,
            x=[f"T = {t:g}" for t in temperatures],
            y=[sums[t].per_token[way] for t in temperatures],
            text=[f"{sums[t].per_token[way]:.2f}" for t in temperatures],
            marker_color=colour,
        )
        for way, colour in COLOURS.items()
    ]
    return _styled(go.Figure(bars), "Bits a token, by way of sending it", "bits/token")


def _requests(rows: Sequence[Row]) -> go.Figure:
    dots = [
        go.Scatter(
            name=f"T = {t:g}",
            mode="markers",
            x=[row.tokens for row in rows if row.temperature == t],
            y=[row.link for row in rows if row.temperature == t],
            text=[row.prompt_id for row in rows if row.temperature == t],
        )
        for t in sorted({row.temperature for row in rows})
    ]
    figure = _styled(go.Figure(dots), "Each answer: bits that crossed the link", "bits")
    return figure.update_xaxes(title="tokens")


def _days(leak: Exfiltration) -> go.Figure:
    bars = go.Bar(
        x=[leak.without_link, leak.with_link],
        y=["without the link", "through the link"],
        orientation="h",
        marker_color=["#c98b2b", "#0b7285"],
        text=[f"{leak.without_link:,.1f} days", f"{leak.with_link:,.1f} days"],
    )
    return _styled(go.Figure(bars), "Days until the weights are gone, at this rate", "")


def _styled(figure: go.Figure, title: str, y_title: str) -> go.Figure:
    return figure.update_layout(
        title=title,
        yaxis_title=y_title,
        template="simple_white",
        barmode="group",
        height=380,
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 14},
    )
