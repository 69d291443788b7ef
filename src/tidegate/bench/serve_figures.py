"""From passes and cells to figures and plots."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tidegate.bench.figures import Figure, at_least, at_most, report
from tidegate.bench.serve import Cell, Pass

FRAMING = "all bits pulled over the ideal length of the symbols, less one: padding, frames, flushes"


def figures(
    passes: Mapping[int, Sequence[tuple[Pass, Pass]]], cells: Sequence[Cell]
) -> dict[str, Figure]:
    """`passes` maps streams to (direct, link) pairs run one after the other."""
    result = {}
    for streams, pairs in sorted(passes.items(), reverse=True):
        key = "" if streams == max(passes) else f".{streams}"
        n = sum(link.tokens for _, link in pairs)
        speeds = [b.tokens_per_second / a.tokens_per_second for a, b in pairs]
        firsts = [a.first_token_seconds / b.first_token_seconds for a, b in pairs]
        how = (
            f"{streams} streams over HTTP, median of {len(pairs)} alternating pairs; "
            "chunks leave as they come, wide budgets"
        )
        result[f"throughput_over_direct{key}"] = at_least(
            statistics.median(speeds), 0.8, unit="ratio", n=n, how=f"tokens/s: {how}{_span(speeds)}"
        )
        result[f"ttft_over_direct{key}"] = at_least(
            statistics.median(firsts),
            0.8,
            unit="ratio",
            n=n,
            how=f"direct's time to first token over ours: {how}{_span(firsts)}",
        )
    return result | _growth(cells) if cells else result


def _growth(cells: Sequence[Cell]) -> dict[str, Figure]:
    result = {}
    many, one = _framing(cells, 32), _framing(cells, 1)
    result["framing_overhead_32"] = at_most(
        many, 0.03, unit="ratio", n=sum(c.tokens for c in cells if c.streams == 32), how=FRAMING
    )
    result["framing_overhead_1"] = report(
        one, unit="ratio", n=sum(c.tokens for c in cells if c.streams == 1), how=FRAMING
    )
    tokens = sum(cell.tokens for cell in cells)
    result["bits_per_token"] = report(
        sum(cell.bits for cell in cells) / tokens,
        unit="bits/token",
        n=tokens,
        how="everything that crossed, T = 0.7, over the growth table",
    )
    for cell in cells:
        key = f"grow.{cell.streams}x{cell.tokens_each}"
        how = f"{cell.streams} streams of {cell.tokens_each} tokens"
        n = cell.tokens
        result |= {
            f"{key}.bits": report(cell.bits / n, unit="bits/token", n=n, how=how),
            f"{key}.seconds": report(cell.seconds, unit="s", n=n, how=how),
            f"{key}.inner_mb": report(cell.inner_memory / 1e6, unit="MB", n=n, how=how),
            f"{key}.outer_mb": report(cell.outer_memory / 1e6, unit="MB", n=n, how=how),
        }
    return result


def _span(ratios: Sequence[float]) -> str:
    return f"; {min(ratios):.2f} to {max(ratios):.2f}"


def _framing(cells: Sequence[Cell], streams: int) -> float:
    chosen = [cell for cell in cells if cell.streams == streams]
    return sum(cell.bits for cell in chosen) / sum(cell.ideal for cell in chosen) - 1


def plot(path: Path, cells: Sequence[Cell]) -> None:
    """Bits a token, seconds and memory against answer length, one line a level of concurrency."""
    titles = ("bits/token", "seconds", "inner memory, MB", "outer memory, MB")
    figure = make_subplots(rows=2, cols=2, subplot_titles=titles)
    colours = {1: "#c98b2b", 8: "#7b8794", 32: "#0b7285"}
    for streams in sorted({cell.streams for cell in cells}):
        line = [cell for cell in cells if cell.streams == streams]
        columns = (
            [cell.bits / cell.tokens for cell in line],
            [cell.seconds for cell in line],
            [cell.inner_memory / 1e6 for cell in line],
            [cell.outer_memory / 1e6 for cell in line],
        )
        for place, values in enumerate(columns):
            figure.add_trace(
                go.Scatter(
                    name=f"{streams} streams",
                    x=[cell.tokens_each for cell in line],
                    y=values,
                    mode="lines+markers",
                    line_color=colours.get(streams),
                    showlegend=place == 0,
                ),
                row=place // 2 + 1,
                col=place % 2 + 1,
            )
    figure.update_xaxes(
        type="log", title="tokens a stream", tickvals=sorted({c.tokens_each for c in cells})
    )
    figure.update_layout(title="Cost as the work grows", template="simple_white", height=760)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.write_html(path, include_plotlyjs=True)
