"""`tidegate gate flow`: what left, by Suricata's or Zeek's logs, against what was billed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidegate import __version__
from tidegate.cli.gate_watch import ResponseFile, State, networks, responding, tell
from tidegate.cli.progress import bars
from tidegate.clock import SystemClock
from tidegate.errors import ConfigError
from tidegate.scan import alerts
from tidegate.scan.flow import UNITS, Bin, fit
from tidegate.scan.flow_change import Shift, Watch, observe, tuned
from tidegate.scan.flow_views import (
    Beacon,
    BeaconLimits,
    Connection,
    Drip,
    DripLimits,
    beacons,
    drips,
    peers,
)
from tidegate.scan.ingest import (
    MAX_LINE,
    Bill,
    LogLineError,
    Networks,
    Reader,
    billed,
    bins,
    leaving,
)
from tidegate.units import Timestamp

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Hold the bytes that left, as Suricata (EVE) or Zeek (conn, dns) logged them, against the "
    "tokens that were billed; see who is called regularly, and who is sent much slowly.",
)

FIT_SHARE = 2 / 3
"""Of the calibration bins; the rest tunes the detectors, on which nothing was fitted."""
_CORRELATED = 0.2
_REFUSALS_SHOWN = 3
_PEERS_SHOWN = 10

Logs = Annotated[list[Path], typer.Argument(help="EVE or Zeek logs, also .gz.")]
Inside = Annotated[list[str], typer.Option(help="A network behind the gate; may be repeated.")]
Billed = Annotated[Path, typer.Option("--billed", help="The outer half's log: JSON lines.")]
Port = Annotated[
    int | None, typer.Option(min=1, max=65535, help="The API's port inside; only its bytes count.")
]


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `learn` writes: the fitted watch, and seconds of a bin."""

    bin_s: float
    watch: Watch


@app.command()
def learn(
    logs: Logs,
    inside: Inside,
    bill: Billed,
    out: Annotated[Path, typer.Option(help="Where the profile is written.")],
    port: Port = None,
    bin_s: Annotated[float, typer.Option("--bin", min=1.0, help="Seconds of a bin.")] = 60.0,
    share: Annotated[
        float, typer.Option(min=0.001, max=1.0, help="The shift to be quickest at: 0.02 is 2%.")
    ] = 0.02,
    false_alarm_every: Annotated[
        float, typer.Option(min=2.0, help="Bins between false alarms, on average.")
    ] = 10_000.0,
) -> None:
    """Learn from logs that are known to be honest how many bytes the bill explains."""
    found = _bins(_connections(logs, networks(inside)), _bills(bill), bin_s, port)
    cut = int(len(found) * FIT_SHARE)
    predictor = fit(found[:cut])
    tuning = tuned(predictor, found[cut:], share=share, false_alarm_every=false_alarm_every)
    out.write_bytes(msgspec.json.encode(Profile(bin_s, Watch(predictor, tuning))))
    console = Console()
    for name, rate in zip(UNITS, predictor.rates, strict=True):
        console.print(f"{rate:12,.1f} bytes for each of {name}")
    console.print(f"{predictor.idle:12,.1f} bytes in a bin in which nothing is billed")
    console.print(
        f"{share:.0%} more is {tuning.shift:.2f} standard deviations of a bin: found after about "
        f"{tuning.delay(tuning.shift):.0f} bins, at one false alarm in {false_alarm_every:,.0f}"
    )
    if abs(predictor.correlation) > _CORRELATED:
        console.print(
            f"Neighbouring bins resemble each other ({predictor.correlation:.2f}), so the CUSUM "
            "will give more false alarms than stated: take longer bins, or go by the e-detector.",
            style="yellow",
        )


@app.command()
def check(
    logs: Logs,
    inside: Inside,
    profile: Annotated[
        Path | None, typer.Option(help="From `learn`; without it only the views are shown.")
    ] = None,
    bill: Annotated[
        Path | None, typer.Option("--billed", help="The outer half's log; with --profile.")
    ] = None,
    port: Port = None,
    drip_total: Annotated[
        int, typer.Option(min=1, help="Bytes that one peer may be sent over all that is logged.")
    ] = DripLimits().total,
    drip_hour: Annotated[
        int, typer.Option(min=1, help="Bytes an hour above which it is bulk, not a drip.")
    ] = DripLimits().hour,
    payload: Annotated[
        int, typer.Option(min=0, help="Bytes of the weights, to say when they would be out.")
    ] = 0,
    allow: Annotated[
        list[str] | None, typer.Option(help="An address or domain that may be called regularly.")
    ] = None,
    eve: Annotated[Path | None, typer.Option(help="Write alerts as Suricata EVE lines.")] = None,
    ocsf: Annotated[Path | None, typer.Option(help="Write alerts as OCSF 1.4 findings.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Make incidents of alerts, as `gate watch` does, here.")
    ] = None,
    state: State = None,
    response: ResponseFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print alerts as JSON lines.")] = False,
) -> None:
    """Look for shifts, beacons and drips. Exits 1 where there is any.

    With `--folder` each is an incident with evidence, with `--state` also throttled or latched as
    the response says.
    """
    if folder is None and (state is not None or response is not None):
        raise ConfigError("--state and --response are for incidents: give them a --folder")
    if (profile is None) != (bill is None):
        raise ConfigError("--profile and --billed go together: one says what the other explains")
    found = _connections(logs, networks(inside))
    limits = DripLimits(total=drip_total, hour=drip_hour, payload=payload)
    allowed = frozenset(allow or ())
    seen = _Seen(
        shifts=() if profile is None or bill is None else _shifts(profile, bill, found, port),
        beacons=beacons((one for one in found if one.destination not in allowed), BeaconLimits()),
        drips=drips((one for one in found if one.destination not in allowed), limits),
    )
    clock = SystemClock()
    raised = seen.alerts(clock.now(), _busiest(found, port))
    if folder is not None:
        with responding(folder, state, response, clock) as responder:
            for one in raised:
                began = Timestamp(one.facts.get("began", one.time))
                for incident in responder.handle(one, began, lambda: ()):
                    if not as_json:
                        tell(incident)
    if eve is not None:
        eve.write_bytes(b"".join(msgspec.json.encode(alerts.eve(one)) + b"\n" for one in raised))
    if ocsf is not None:
        events = [alerts.ocsf(one, __version__) for one in raised]
        ocsf.write_bytes(msgspec.json.format(msgspec.json.encode(events), indent=1))
    if as_json:
        for one in raised:
            typer.echo(msgspec.json.encode(one).decode())
    else:
        _show(raised, found)
    raise typer.Exit(1 if raised else 0)


@dataclass(frozen=True, slots=True)
class _Seen:
    shifts: tuple[Shift, ...]
    beacons: tuple[Beacon, ...]
    drips: tuple[Drip, ...]

    def alerts(self, now: Timestamp, busiest: Connection | None) -> list[alerts.Alert]:
        return [
            *(alerts.of_shift(one, busiest) for one in self.shifts),
            *(alerts.of_beacon(one, now) for one in self.beacons),
            *(alerts.of_drip(one, now) for one in self.drips),
        ]


def _shifts(
    path: Path, bill: Path, connections: list[Connection], port: int | None
) -> tuple[Shift, ...]:
    try:
        profile = msgspec.json.decode(path.read_bytes(), type=Profile)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path} is no profile of `tidegate gate flow learn`: {error}") from error
    watch = profile.watch
    raised: list[Shift] = []
    for one in _bins(connections, _bills(bill), profile.bin_s, port):
        watch, found = observe(watch, one)
        raised += found
    return tuple(raised)


def _bins(
    connections: list[Connection], bills: list[Bill], width: float, port: int | None
) -> list[Bin]:
    served = [one for one in connections if port is None or one.source_port == port]
    return bins(served, bills, width)


def _busiest(connections: list[Connection], port: int | None) -> Connection | None:
    """Of whoever serves at that port, or else of anybody, to the peer that was sent most."""
    served = [one for one in connections if port is None or one.source_port == port]
    known = peers(served)
    return known[0].example if known else None


def _connections(logs: list[Path], inside: Networks) -> list[Connection]:
    if not inside:
        raise ConfigError("--inside says which addresses are behind the gate; give at least one")
    found = []
    for path in logs:
        reader, refused = Reader(), _Refused(path)
        for line in _lines(path):
            try:
                one = reader.feed(line)
            except LogLineError as error:
                refused.add(error)
                continue
            if one is not None and (left := leaving(one, inside)) is not None:
                found.append(left)
        refused.tell()
    return found


def _bills(path: Path) -> list[Bill]:
    refused, found = _Refused(path), []
    for line in _lines(path):
        try:
            one = billed(line)
        except LogLineError as error:
            refused.add(error)
            continue
        if one is not None:
            found.append(one)
    refused.tell()
    return found


class _Refused:
    """Lines that could not be read: counted, and the first ones' reasons told."""

    def __init__(self, path: Path) -> None:
        self._path, self._count, self._why = path, 0, list[str]()

    def add(self, error: LogLineError) -> None:
        self._count += 1
        if error.message not in self._why and len(self._why) < _REFUSALS_SHOWN:
            self._why.append(error.message)

    def tell(self) -> None:
        if self._count:
            said = f"{self._path}: {self._count:,} lines could not be read: {'; '.join(self._why)}"
            Console(stderr=True).print(Text(said, "yellow"), soft_wrap=True)


def _lines(path: Path) -> Iterator[bytes]:
    """Lines, none longer than can be one: what a packed log unpacks to is not bounded by its size.

    Raises OSError or ConfigError.
    """
    with path.open("rb") as plain, bars() as progress:
        size = path.stat().st_size
        packed = path.suffix == ".gz"
        file = cast("BinaryIO", gzip.GzipFile(fileobj=plain)) if packed else plain
        try:
            for number in count():
                line = file.readline(MAX_LINE + 1)
                if number % 10_000 == 0 or not line:
                    progress(path.name, plain.tell(), size)
                if not line:
                    return
                yield line
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ConfigError(f"{path} is not whole: {error}") from error


def _show(raised: list[alerts.Alert], found: list[Connection]) -> None:
    console = Console()
    known = peers(found)
    view = Table(title=f"who is sent most, of {len(known)} peers", title_justify="left")
    for column in ("peer", "bytes", "bytes a day", "hours", "calls", "by chance"):
        view.add_column(column, justify="left" if column == "peer" else "right")
    for one in known[:_PEERS_SHOWN]:
        luck = "" if one.chance is None else f"{one.chance:.0e}"
        hours = f"{one.hours} of {one.of_hours}"
        view.add_row(
            one.example.peer, f"{one.sent:,}", f"{one.a_day:,.0f}", hours, str(one.calls), luck
        )
    console.print(view)
    told = "by chance: the probability that calls which nobody spaces are as regular"
    console.print(told, style="dim")
    if not raised:
        console.print("no alarm: no shift, no beacon, no drip")
        return
    table = Table(title="alarms", title_justify="left")
    for column in ("what", "by", "bytes", "why"):
        table.add_column(column, justify="right" if column == "bytes" else "left")
    for alert in raised:
        table.add_row(alert.kind.value, alert.detector, f"{alert.bytes:,}", alert.text)
    console.print(table)
