"""`tidegate gate watch|incident`: eyes on an interface, and what they left as evidence."""

from __future__ import annotations

import ipaddress
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.text import Text

from tidegate import __version__
from tidegate.cli.ground import secret_bytes
from tidegate.cli.scan_settings import settings_of
from tidegate.clock import SystemClock
from tidegate.disk import replace_whole
from tidegate.errors import ConfigError, GateError
from tidegate.gate.host import boot_id
from tidegate.gate.incident import Action, Incident, Response
from tidegate.gate.incident_bundle import MANIFEST, Position, check, findings, told
from tidegate.gate.incident_respond import Responder
from tidegate.gate.incident_room import MOST_BYTES, RESERVE, Room
from tidegate.gate.incident_stop import KernelStop
from tidegate.gate.latch import FILE, Diary
from tidegate.gate.watch import Capture, Watch
from tidegate.gate.watch_eyes import Eyes, Networks
from tidegate.ledger import SqliteStore
from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import Signer, Verifier

_SIGNER = "tidegate-gate/evidence"

BLOCK = 1 << 14
"""Bytes that are judged together: a quarter of what files take, to see four times as soon."""

Inside = Annotated[
    list[str] | None,
    typer.Option(help="A network behind the gate, such as 10.0.0.0/8; may be repeated."),
]


State = Annotated[
    Path | None,
    typer.Option(help="The gate's folder: with it, what is seen is stopped. Without, noted."),
]
ResponseFile = Annotated[
    Path | None, typer.Option(help="What to do about what, a TOML file; see incidents.md.")
]
EvidenceMb = Annotated[
    int, typer.Option(min=1, help="Megabytes of evidence in the folder; then it is refused.")
]
ReserveMb = Annotated[
    int, typer.Option(min=0, help="Megabytes of the folder's disk that evidence leaves free.")
]
MOST_MB, RESERVE_MB = MOST_BYTES >> 20, RESERVE >> 20
KEY = "evidence.key"
"""Signs manifests: in the gate's folder, or without one beside the evidence."""
PUBLIC = "evidence.pub"


def watch(
    interface: Annotated[str, typer.Argument(help="The gate's outside interface, or the tap's.")],
    folder: Annotated[Path, typer.Option(help="Where alerts and evidence go.")],
    inside: Inside = None,
    tap: Annotated[
        bool,
        typer.Option("--tap", help="A mirror's end: all frames arrive here, whoever sent them."),
    ] = False,
    state: State = None,
    response: ResponseFile = None,
    calibration: Annotated[
        Path | None, typer.Option(help="This site's, from `tidegate scan calibrate`.")
    ] = None,
    fingerprints: Annotated[
        list[Path] | None,
        typer.Option(help="Of own weights, from `tidegate scan fingerprint`; may be repeated."),
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The key file that they were made with.")] = None,
    evidence_mb: EvidenceMb = MOST_MB,
    reserve_mb: ReserveMb = RESERVE_MB,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Stop after so long; else with a signal.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Incidents as JSON lines.")] = False,
) -> None:
    """Look for weights in what leaves an interface, live, and stop what is seen.

    Run it on the gate with `--state`, to throttle or latch; or on the tap's host with `--tap`,
    where the gate cannot blind it. Exits 1 where anything was seen.
    """
    if tap and not inside:
        raise ConfigError("a mirror shows both directions: say with --inside whose frames count")
    clock = SystemClock()
    settings = settings_of(calibration, fingerprints or [], key, block=BLOCK)
    eyes = Eyes(settings, networks(inside))
    seen: dict[str, Action] = {}

    def show(incident: Incident) -> None:
        climbed = seen.get(incident.id) is not incident.action
        seen[incident.id] = incident.action
        if as_json and (climbed or incident.alerts.bit_count() == 1):
            typer.echo(msgspec.json.encode(incident.summary()).decode())
        elif climbed and not as_json:
            tell(incident)

    with ExitStack() as stack:
        room = Room(folder, most_bytes=evidence_mb << 20, reserve=reserve_mb << 20)
        responder = stack.enter_context(responding(folder, state, response, clock, room))
        capture = Capture(interface, outgoing=not tap)
        watching = stack.enter_context(
            Watch(capture, eyes, responder, clock, folder=folder, boot=boot_id())
        )
        stop = _stopping(clock, seconds)
        watching.run(stop, show)
    Console(stderr=True).print(
        f"{eyes.frames:,} frames looked at, {watching.missed:,} missed, "
        f"{watching.failed:,} that broke the scan, {len(seen)} incidents",
        style="dim",
    )
    raise typer.Exit(1 if seen else 0)


def incident(
    folder: Annotated[Path, typer.Argument(help="The folder of a watch, or one bundle in it.")],
    key: Annotated[
        Path | None,
        typer.Option(help=f"The watch's {PUBLIC}, kept elsewhere; else the one in the folder."),
    ] = None,
    sarif: Annotated[
        Path | None, typer.Option(help="Write all of them as SARIF 2.1.0, too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Incidents as JSON lines.")] = False,
) -> None:
    """Tell what a watch saw and did, after checking signature and every hash of its evidence.

    Exits 1 where a bundle was changed since it was written, or is not signed with the key.
    """
    bundles = _bundles(folder)
    verifier = _verifier(key, folder if bundles != [folder] else folder.absolute().parent)
    changed, read = [], []
    for bundle in bundles:
        try:
            check(bundle, verifier)
        except GateError as error:
            changed.append(error.message)
            continue
        read.append(_incident(bundle))
    for one in read:
        if as_json:
            typer.echo(msgspec.json.encode(one.summary()).decode())
        else:
            tell(one)
    if sarif is not None:
        sarif.write_bytes(findings(read, __version__))
    for line in changed:
        Console(stderr=True).print(Text(f"CHANGED: {line}", "bold red"), soft_wrap=True)
    raise typer.Exit(1 if changed else 0)


@contextmanager
def responding(
    folder: Path,
    state: Path | None,
    response: Path | None,
    clock: SystemClock,
    room: Room | None = None,
) -> Iterator[Responder]:
    """What handles alerts: with the gate's folder it stops what is seen, without it only notes.

    Raises ConfigError or GateError.
    """
    with ExitStack() as stack:
        diary = None if state is None else stack.enter_context(_diary(state, clock))
        yield Responder(
            response=_response(response),
            stop=None if diary is None else KernelStop(diary.latch),
            folder=folder,
            signer=_signer(state or folder, folder),
            room=room,
            clock=clock,
            version=__version__,
            log=lambda incident: _logged(diary, incident),
        )


def networks(written: list[str] | None) -> Networks:
    """Networks as people write them. Raises ConfigError."""
    try:
        return tuple(ipaddress.ip_network(one) for one in written or ())
    except ValueError as error:
        raise ConfigError(f"--inside: {error}; write it as 10.0.0.0/8") from error


def _signer(home: Path, folder: Path) -> Signer:
    """What signs evidence; made if need be, and its public part written beside the evidence.

    Raises ConfigError or GateError.
    """
    key = Ed25519PrivateKey.from_private_bytes(secret_bytes(home / KEY))
    signer = Signer(_SIGNER, key)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_whole(folder / PUBLIC, f"{signer.verifier.encode()}\n".encode())
    except OSError as error:
        raise GateError(f"cannot write {folder / PUBLIC}: {error.strerror}") from error
    return signer


def _verifier(key: Path | None, folder: Path) -> Verifier:
    path = key or folder / PUBLIC
    try:
        verifier = Verifier.parse(path.read_text().strip())
    except (OSError, UnicodeDecodeError, CheckpointError) as error:
        raise ConfigError(f"{path} is no public key of a watch: give one with --key") from error
    if key is None:
        said = f"held against {path} itself: keep a copy elsewhere, and give it with --key"
        Console(stderr=True).print(said, style="dim", soft_wrap=True)
    return verifier


def _response(path: Path | None) -> Response:
    if path is None:
        return Response()
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Response)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{path} says not what to do: {error}") from error


@contextmanager
def _diary(state: Path, clock: SystemClock) -> Iterator[Diary]:
    path = state / FILE
    if not path.is_file():
        raise GateError(f"there is no diary in {state}: apply the gate's policy first")
    store = SqliteStore(path)
    try:
        yield Diary(store, clock, boot_id())
    finally:
        store.close()


def _logged(diary: Diary | None, incident: Incident) -> Position | None:
    if diary is None:
        return None
    diary.write("incident", f"{incident.id} {incident.action}: {incident.alert.text}")
    tip = diary.position
    return Position(FILE, tip.size, tip.head.hex())


def _stopping(clock: SystemClock, seconds: float | None) -> _Stopping:
    return _Stopping(clock, None if seconds is None else clock.monotonic() + seconds)


class _Stopping:
    """True once a signal came, or the time is over."""

    def __init__(self, clock: SystemClock, until: float | None) -> None:
        self._clock, self._until = clock, until
        self._told = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._told.set())

    def __call__(self) -> bool:
        late = self._until is not None and self._clock.monotonic() > self._until
        return late or self._told.is_set()


def _bundles(folder: Path) -> list[Path]:
    if (folder / MANIFEST).is_file():
        return [folder]
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}")
    found = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    if not found:
        raise ConfigError(f"there is no evidence in {folder}")
    return found


def _incident(bundle: Path) -> Incident:
    try:
        kept = msgspec.json.decode((bundle / "incident.json").read_bytes())
        fields = {name: kept[name] for name in Incident.__struct_fields__}
        return msgspec.convert(fields, Incident)
    except (OSError, KeyError, TypeError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{bundle} was written by another version: {error}") from error


def tell(incident: Incident) -> None:
    """What happened, for people."""
    style = "bold red" if incident.action is Action.LATCH else "yellow"
    Console().print(Text.assemble((f"{incident.id} ", style), told(incident)), soft_wrap=True)
