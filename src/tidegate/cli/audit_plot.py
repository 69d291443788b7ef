"""Timelines as SVG: no script, nothing from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from tidegate.audit.findings import Finding

Scale = Callable[[float], float]

_WIDTH: Final = 940
_LEFT: Final = 64
_RIGHT: Final = 12
_HEIGHT: Final = 150
_LANE: Final = 22
_COLOURS: Final = {"error": "#b42318", "warning": "#c78500", "note": "#0b7285", "none": "#7b8794"}


def curve(times: Sequence[float], least: Sequence[float], most: Sequence[float]) -> str:
    """Shares of a model over time: a step line for at most, a filled one for at least."""
    first, last = times[0], max(times[-1], times[0] + 3600)
    top = max(max(most), 1e-9)

    def x(time: float) -> float:
        return _LEFT + (_WIDTH - _RIGHT - _LEFT) * (time - first) / (last - first)

    def y(share: float) -> float:
        return _HEIGHT - 24 - (_HEIGHT - 40) * share / top

    label = f"coverage over time, at most {100 * top:.3g} percent"
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">']
    parts += [_rule(y(share), share) for share in (0.0, top / 2, top)]
    for share in (0.0, 0.5, 1.0):
        time = first + share * (last - first)
        parts.append(_tick(x(time), time, _HEIGHT - 8))
    steps = _steps(times, least, x, y)
    base = f"{x(times[-1]):.1f},{y(0):.1f} {x(times[0]):.1f},{y(0):.1f}"
    parts.append(f'<polygon points="{steps} {base}" class="least"/>')
    parts.append(f'<polyline points="{_steps(times, most, x, y)}" class="most"/></svg>')
    return "".join(parts)


def _rule(y: float, share: float) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" class="y">{100 * share:.3g}%</text>'
    )


def _steps(times: Sequence[float], shares: Sequence[float], x: Scale, y: Scale) -> str:
    """Coverage stays where it is until something is read."""
    points, before = [], None
    for time, share in zip(times, shares, strict=True):
        if before is not None:
            points.append(f"{x(time):.1f},{y(before):.1f}")
        points.append(f"{x(time):.1f},{y(share):.1f}")
        before = share
    return " ".join(points)


def timeline(findings: Sequence[Finding], first: float | None, last: float | None) -> str:
    """One lane a kind, one mark a finding, where what is logged first sufficed to say it."""
    dated = [finding for finding in findings if finding.time and first is not None]
    if not dated or first is None or last is None:
        return ""
    kinds = list(dict.fromkeys(finding.kind for finding in dated))
    height = _LANE * len(kinds) + 30
    left = 190
    start, end = (
        min(first, *(f.time for f in dated)),
        max(last, *(f.time for f in dated), first + 3600),
    )
    span = end - start
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="findings over time">']
    for lane, kind in enumerate(kinds):
        y = _LANE * lane + 16
        parts.append(
            f'<line x1="{left}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" class="grid"/>'
            f'<text x="{left - 8}" y="{y + 4}" class="y">{escape(kind)}</text>'
        )
    for finding in dated:
        x = left + (_WIDTH - _RIGHT - left) * (finding.time - start) / span
        y = _LANE * kinds.index(finding.kind) + 16
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{_COLOURS[finding.gravity]}">'
            f"<title>{escape(finding.text)}</title></circle>"
        )
    for share in (0.0, 0.5, 1.0):
        x = left + (_WIDTH - _RIGHT - left) * share
        parts.append(_tick(x, start + span * share, height - 6))
    return "".join((*parts, "</svg>"))


def _tick(x: float, time: float, y: float) -> str:
    anchor = "end" if x > _WIDTH - 80 else "middle"
    try:
        told = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, OSError, ValueError):
        told = f"{time:.0f}"
    return f'<text x="{x:.1f}" y="{y:.1f}" class="x" text-anchor="{anchor}">{told}</text>'
