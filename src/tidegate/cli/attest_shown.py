"""An appraisal for people and for machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidegate.attest.appraisal import Appraisal
from tidegate.attest.outcome import CannotVerify, Fail, Outcome, Pass, word

_SHOWN: Final = {
    Pass: ("pass", "green"),
    Fail: ("FAIL", "bold red"),
    CannotVerify: ("cannot verify", "bold yellow"),
}
_LONGEST: Final = 160


def show(appraisal: Appraisal, console: Console) -> None:
    """A table of checks for each part, then the outcome, then what it does not cover."""
    for part in _all(appraisal):
        console.print(_table(part))
    shown, style = _SHOWN[type(appraisal.outcome)]
    console.print(
        Text.assemble((shown, style), f": {appraisal.kind}: {_plain(appraisal.outcome.text)}"),
        soft_wrap=True,
    )
    if isinstance(appraisal.outcome, CannotVerify):
        console.print("This is not a pass: what is missing has to be handed in.", style="yellow")
    if appraisal.device:
        console.print(Text(f"device: {_plain(appraisal.device)}"), soft_wrap=True)
    console.print(Text(f"bound: {appraisal.bound.hex() or 'nothing'}"), soft_wrap=True)
    for gap in appraisal.not_covered:
        console.print(Text(f"NOT covered: {gap}"), soft_wrap=True)


def _all(appraisal: Appraisal) -> Iterator[Appraisal]:
    """Its parts, where they made checks of their own, and then itself."""
    numbered = {(check.name, check.outcome) for check in appraisal.checks}
    for part in appraisal.parts:
        own = {(check.name, check.outcome) for check in part.checks}
        if len(own - numbered) > 1:
            yield from _all(part)
    yield appraisal


def _table(appraisal: Appraisal) -> Table:
    title = f"{appraisal.kind}, appraised as of {appraisal.at:%Y-%m-%d %H:%M}Z"
    table = Table(title=title, title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("check")
    table.add_column("outcome")
    table.add_column("detail", overflow="fold")
    for check in appraisal.checks:
        shown, style = _SHOWN[type(check.outcome)]
        table.add_row(
            str(check.number),
            Text(_plain(check.name)),
            Text(shown, style=style),
            _short(check.outcome),
        )
    return table


def _short(outcome: Outcome) -> Text:
    text = _plain(outcome.text)
    return Text(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def _plain(text: str) -> str:
    """Text that a host may have chosen, without what would move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def report(appraisal: Appraisal) -> bytes:
    """The appraisal as one JSON object; `outcome` is pass, fail or cannot_verify."""
    return msgspec.json.format(msgspec.json.encode(_body(appraisal)), indent=1)


def _body(appraisal: Appraisal) -> dict[str, Any]:
    return {
        "kind": appraisal.kind,
        "outcome": word(appraisal.outcome),
        "reason": appraisal.outcome.text,
        "at": appraisal.at.isoformat(),
        "until": appraisal.until.isoformat() if appraisal.until else None,
        "device": appraisal.device,
        "bound": appraisal.bound.hex(),
        "checks": [
            {
                "number": check.number,
                "name": check.name,
                "outcome": word(check.outcome),
                "detail": check.detail,
            }
            for check in appraisal.checks
        ],
        "claims": {claim.name: claim.value for claim in appraisal.claims},
        "not_covered": list(appraisal.not_covered),
        "parts": [_body(part) for part in appraisal.parts],
    }
