"""`tidegate gate`: what the kernel lets out of the host, planned, applied, held and shown."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from tidegate.cli import gate_reset, gate_shown, gate_status
from tidegate.clock import SystemClock
from tidegate.errors import ConfigError, GateError, TidegateError
from tidegate.gate import needs, nft, published
from tidegate.gate.controller import Beat, Gate, Permit
from tidegate.gate.heartbeat import hold
from tidegate.gate.host import boot_id
from tidegate.gate.latch import FILE, Diary
from tidegate.gate.meter_hold import watching
from tidegate.gate.policy import Policy, load
from tidegate.gate.published import Metered
from tidegate.gate.state import Store
from tidegate.ledger import SqliteStore

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="The host's side of the cap: default-deny egress, quotas and rates that the kernel keeps. "
    "`plan` shows what a policy would change, `apply --hold` keeps it in force; see "
    "docs/howto/gate.md.",
)

PolicyFile = Annotated[Path, typer.Argument(help="The policy, a TOML file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, no table.")]

_PUBLISHED_S = 1.0
_TAKEN_S = 5.0
"""How long a running controller has to take up a changed policy."""


@app.command()
def plan(policy: PolicyFile) -> None:
    """Show what applying the policy would change, as a diff. Changes nothing.

    Where it runs as root, the kernel is asked whether it would accept the rules.
    """
    chosen = load(policy)
    store = Store(chosen.state)
    console = Console()
    console.print(gate_shown.difference(store.applied(), chosen, store.read()))
    if lacking := needs.missing():
        console.print(f"The kernel was not asked: {'; '.join(lacking)}.")
    else:
        gate_shown.ask_kernel(chosen, store.read())
        console.print("The kernel would accept these rules.")


@app.command()
def apply(
    policy: PolicyFile,
    hold_it: Annotated[
        bool, typer.Option("--hold", help="Stay, and keep the gate open by heartbeats.")
    ] = False,
    begin: Annotated[
        bool,
        typer.Option("--begin", help="A gate's very first start: there is no state yet."),
    ] = False,
) -> None:
    """Install the policy in one transaction. Without a controller that holds it, it stays closed.

    Where a controller runs (`--hold`, or the systemd unit), it is told to read its policy again.
    """
    needs.require()
    chosen = load(policy)
    store = Store(chosen.state)
    if not hold_it and (holder := store.holder()) is not None:
        _take_up(chosen, store, holder)
        return
    clock = SystemClock()
    with store.sole(), closing(_entries(store, begin=begin)) as entries:
        diary = Diary(entries, clock, boot_id())
        asked: list[Permit] = [_latched(diary)]
        gate = Gate(chosen, store, clock, lambda: asked[-1]())
        gate.apply(begin=begin)
        if not hold_it:
            typer.echo("applied; closed until a controller holds it (--hold, or the systemd unit)")
            return
        if chosen.meters is None:
            _hold(gate, policy, clock, _Publisher(gate, store, clock))
            return
        with watching(chosen, chosen.meters, diary, clock, boot_id()) as watch:
            asked.append(watch.permit)
            publisher = _Publisher(gate, store, clock, watch.seen)
            _hold(gate, policy, clock, publisher, watch.changing)


@app.command()
def status(policy: PolicyFile, as_json: AsJson = False) -> None:
    """Show whether the gate is open, what each class has used, been granted and may use, and what
    each meter counted.

    Exits 1 where the gate is closed.
    """
    needs.require()
    chosen = load(policy)
    store = Store(chosen.state)
    kernel = nft.look()
    told = gate_status.Status.of(
        chosen,
        store.read(),
        kernel,
        store.holder(),
        published.read(store.folder, boot_id()),
        int(1e9 * SystemClock().monotonic()),
    )
    gate_status.show(told, as_json=as_json)
    raise typer.Exit(0 if told.open else 1)


@app.command()
def remove(policy: PolicyFile) -> None:
    """Take every rule away, and stop the host from forwarding: without rules it would be open.

    What was used stays on the disk, and counts when the policy is applied again.
    """
    needs.require()
    chosen = load(policy)
    store = Store(chosen.state)
    with store.sole():
        Gate(chosen, store, SystemClock()).remove()
    typer.echo("removed; the host no longer forwards")


for hand in (gate_reset.diary, gate_reset.latch, gate_reset.reset):
    app.command()(hand)


def _entries(store: Store, *, begin: bool) -> SqliteStore:
    """The diary's; a new one only on a gate's first start. Raises GateError."""
    path = store.folder / FILE
    if not begin and not path.is_file() and store.read() is not None:
        # An empty diary knows of no latch.
        raise GateError(
            f"{store.folder} holds a state and no diary, so whether the gate was latched is not "
            "known: put it back, or say with --begin that a new one is to start; what was used "
            "stays used",
            path=str(path),
        )
    return SqliteStore(path)


def _latched(diary: Diary) -> Permit:
    def permit() -> str | None:
        reason = diary.latched()
        return None if reason is None else f"latched: {reason}"

    return permit


def _hold(
    gate: Gate,
    policy: Path,
    clock: SystemClock,
    beaten: Callable[[Beat], None],
    changing: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    stop, again = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGHUP, lambda *_: again.set())
    console = Console(stderr=True)

    def changed() -> Policy | None:
        if not again.is_set():
            return None
        again.clear()
        try:
            return load(policy)
        except ConfigError as error:
            refused(error)
            return None

    def refused(error: ConfigError | GateError) -> None:
        console.print(Text(f"the changed policy is refused: {error.message}"), soft_wrap=True)

    def told(beat: Beat) -> None:
        console.print(Text("open" if beat.open else f"closed: {beat.reason}"), soft_wrap=True)
        _notify("READY=1" if beat.open else f"STATUS=closed: {beat.reason}")

    hold(
        gate,
        clock,
        stop,
        changed=changed,
        changing=changing,
        refused=refused,
        told=told,
        beaten=beaten,
    )
    console.print("closed: the controller was stopped; what it was granted and did not use is back")


class _Publisher:
    """Writes down for `status` what the controller knows, once a second and at each change."""

    def __init__(
        self,
        gate: Gate,
        store: Store,
        clock: SystemClock,
        seen: Callable[[], Metered | None] = lambda: None,
    ) -> None:
        self._gate, self._store, self._clock, self._seen = gate, store, clock, seen
        self._boot, self._last, self._beat = boot_id(), 0.0, Beat(open=False)

    def __call__(self, beat: Beat) -> None:
        now = self._clock.monotonic()
        if beat == self._beat and now - self._last < _PUBLISHED_S:
            return
        self._last, self._beat = now, beat
        # What cannot be shown closes nothing: a status then says how old its figures are.
        with suppress(OSError, TidegateError):
            published.write(
                self._store.folder,
                published.Published(
                    boot=self._boot,
                    monotonic_ns=int(1e9 * now),
                    open=beat.open,
                    reason=beat.reason,
                    accounts=self._gate.charged(),
                    metered=self._seen(),
                ),
            )


def _take_up(chosen: Policy, store: Store, holder: int) -> None:
    clock = SystemClock()
    if holder <= 0:
        raise GateError("a controller is just starting: try again")
    os.kill(holder, signal.SIGHUP)
    until = clock.monotonic() + _TAKEN_S
    while clock.monotonic() < until:
        state = store.read()
        if state is not None and state.policy == chosen.digest():
            typer.echo(f"taken up by the controller, process {holder}")
            return
        threading.Event().wait(0.05)
    raise GateError(
        f"the controller, process {holder}, did not take the policy up; it reads the file that it "
        "was started with, and says in its log why it refuses one"
    )


def _notify(told: str) -> None:
    """Tell systemd, where it asked to be told (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(told.encode(), address.replace("@", "\0", 1))
