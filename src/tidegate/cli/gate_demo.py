"""`tidegate gate demo`: a gate between two namespaces, shown at what it promises."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidegate.bench import gate_trials
from tidegate.bench.gate_rig import (
    API,
    DNS,
    FORBIDDEN,
    closed_world,
    controller,
    crossed,
    flood,
    policy,
    until_open,
)
from tidegate.cli.progress import bars
from tidegate.errors import GateError
from tidegate.gate import needs, nft
from tidegate.gate.state import Store
from tidegate.gate.worlds import GATE, OUTSIDE, World


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One promise: what was tried, what came of it, and whether it held."""

    promise: str
    tried: str
    came: str
    holds: bool


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, no table.")]


def demo(as_json: AsJson = False) -> None:
    """Build inner, gate and outside in namespaces of this host, try to get out, and show it.

    Nothing outside the namespaces is touched, and they are removed in the end. Needs root. Exits 1
    where a promise does not hold.
    """
    needs.require()
    with bars() as progress:
        shown = []
        for done, one in enumerate(_PROMISES):
            progress("promises of the gate", done, len(_PROMISES))
            shown.append(one())
        progress("promises of the gate", len(_PROMISES), len(_PROMISES))
    if as_json:
        body = msgspec.json.encode({"promises": shown})
        sys.stdout.buffer.write(msgspec.json.format(body, indent=1) + b"\n")
    else:
        _print(shown)
    raise typer.Exit(0 if all(one.holds for one in shown) else 1)


def _print(shown: list[Shown]) -> None:
    table = Table(title="inner – gate – outside", title_justify="left", show_lines=True)
    for column in ("promise", "tried", "what came of it", ""):
        table.add_column(column)
    for one in shown:
        mark = "[green]holds" if one.holds else "[bold red]BROKEN"
        table.add_row(one.promise, one.tried, one.came, mark)
    Console().print(table)


@contextmanager
def _gate(*, dns: int = 2**40) -> Iterator[tuple[World, Store]]:
    with tempfile.TemporaryDirectory() as folder, closed_world(offload=False) as made:
        chosen = policy(Path(folder), dns=dns)
        with controller(made, chosen, begin=True):
            until_open(made)
            yield made, Store(chosen.state)


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def _allowed() -> Shown:
    with _gate() as (made, _), made.enter(OUTSIDE, gate_trials.listening) as server:
        threading.Thread(target=gate_trials.swallow, args=(server,), daemon=True).start()
        with flood(made, API, size=1 << 16, stream=True):
            _wait(1.0)
        packets, size = crossed(made)
    return Shown(
        promise="what a class allows gets out",
        tried=f"a connection to port {API}, for a second",
        came=f"{size:,} bytes in {packets:,} frames outside",
        holds=size > 10_000,
    )


def _forbidden() -> Shown:
    with _gate() as (made, _), flood(made, FORBIDDEN):
        _wait(1.0)
        dropped = _counter(made, "drop_denied")
        _, size = crossed(made)
    return Shown(
        promise="nothing else does",
        tried=f"{dropped:,} datagrams to port {FORBIDDEN}",
        came=f"{size:,} bytes outside",
        holds=size == 0 and dropped > 0,
    )


def _capped() -> Shown:
    cap = 500_000
    with _gate(dns=cap) as (made, store), flood(made, DNS):
        _wait(2.5)
        dropped, (_, size) = _counter(made, "drop_quota"), crossed(made)
        state = store.read()
    account = state.of("dns") if state else None
    charged = account.granted if account else 0
    return Shown(
        promise="a quota stops at the packet",
        tried=f"{dropped:,} datagrams more than a quota of {cap:,} bytes takes",
        came=f"{size:,} bytes outside; the disk had promised at most {charged:,}",
        holds=0 < size <= cap and size <= charged and dropped > 0,
    )


def _small() -> Shown:
    spent = gate_trials.overshoot_with_offload(cap=1_000_000)
    return Shown(
        promise="offload hides no header",
        tried=f"segments of 100 bytes in super-packets, a cap of {spent.cap:,} bytes",
        came=f"{spent.left:,} bytes in {spent.packets:,} frames at the tap",
        holds=0 < spent.left <= spent.cap,
    )


def _reloaded() -> Shown:
    leaked, tried = gate_trials.leak_through_reloads(10)
    return Shown(
        promise="a change of policy opens no gap",
        tried=f"10 changes under {tried:,} forbidden datagrams",
        came=f"{leaked:,} bytes outside",
        holds=leaked == 0 and tried > 0,
    )


def _killed() -> Shown:
    seconds = gate_trials.stop_after_kill()
    return Shown(
        promise="without its controller it closes",
        tried="SIGKILL under traffic",
        came=f"the last datagram came {seconds:.2f} s later",
        holds=seconds <= 1.0,
    )


def _counted() -> Shown:
    killed = gate_trials.kill_and_count(3)
    return Shown(
        promise="no kill makes it forget",
        tried=f"{killed.rounds} kills under traffic, {killed.crossed:,} bytes outside",
        came=f"{killed.charged:,} on the disk, {killed.undercounted:,} missing",
        holds=killed.undercounted == 0 and killed.crossed > 0,
    )


def _counter(made: World, name: str) -> int:
    kernel = made.enter(GATE, nft.look)
    if kernel is None:
        raise GateError("the demo's gate has lost its rules")
    return next(packets for counter, packets, _ in kernel.passed if counter == name)


_PROMISES: tuple[Callable[[], Shown], ...] = (
    _allowed,
    _forbidden,
    _capped,
    _small,
    _reloaded,
    _killed,
    _counted,
)
