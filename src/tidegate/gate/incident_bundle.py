"""The evidence of an incident: a folder whose every file is hashed, and a slice of the traffic.

| file | what |
|---|---|
| `incident.json` | what was seen and done, seconds from the first leaked byte to alarm and stop |
| `alert.ocsf.json`, `alert.eve.json` | the alert as other systems read it |
| `findings.sarif` | the same for code-scanning and CI dashboards |
| `slice.pcap` | frames of the flow's hosts around it, the oldest kept, within the size bound |
| `manifest.json` | SHA-256 and size of each file, the log's position, what is missing and why |
| `manifest.note` | the manifest's SHA-256, signed (C2SP signed-note, Ed25519) |

Evidence comes after stopping, and its failure never keeps anything open.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from tidegate.disk import sync_folder
from tidegate.errors import GateError
from tidegate.gate.incident import Action, Incident
from tidegate.record import sarif
from tidegate.record.ocsf import Severity
from tidegate.scan.alerts import Alert, eve, ocsf
from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import Signer, Verifier

MANIFEST: Final = "manifest.json"
SIGNED: Final = "manifest.note"
_PCAP: Final = struct.Struct("<IHHiIII")
_PACKET: Final = struct.Struct("<IIII")
_NANOSECONDS, _ETHERNET = 0xA1B23C4D, 1
_SNAP = 1 << 18


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a log stood: entries, and the chain's head or tree's root in hex."""

    log: str
    size: int
    head: str


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a bundle."""

    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `manifest.json` holds. `frames_left_out`: of the slice, for its bound."""

    incident: str
    files: tuple[Kept, ...]
    position: Position | None = None
    frames_left_out: int = 0
    missing: tuple[str, ...] = ()


def files_of(
    incident: Incident,
    frames: Sequence[tuple[int, bytes]],
    *,
    version: str,
    position: Position | None,
    most_bytes: int,
    signer: Signer,
) -> dict[str, bytes]:
    """A bundle's files by name. `frames`: nanoseconds since the Unix epoch and bytes, oldest first;
    `most_bytes`: of the slice."""
    captured, left_out = pcap(frames, most_bytes)
    events = [ocsf(incident.alert, version)]
    files = {
        "incident.json": msgspec.json.format(msgspec.json.encode(incident.summary()), indent=1),
        "alert.ocsf.json": msgspec.json.format(msgspec.json.encode(events), indent=1),
        "alert.eve.json": msgspec.json.encode(eve(incident.alert)) + b"\n",
        "findings.sarif": findings([incident], version),
        "slice.pcap": captured,
    }
    missing = () if position is not None else ("the log's position: no log was given",)
    manifest = Manifest(
        incident=incident.id,
        files=tuple(_kept(name, data) for name, data in files.items()),
        position=position,
        frames_left_out=left_out,
        missing=missing,
    )
    files[MANIFEST] = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    files[SIGNED] = signer.sign_text(_signed(files[MANIFEST])).encode()
    return files


def write(folder: Path, incident: Incident, files: Mapping[str, bytes]) -> Path:
    """Write a bundle; it appears whole or not at all, and is on the disk when this returns. Gives
    its folder, named after incident and alerts.

    Raises GateError where it cannot be written.
    """
    return _whole(folder, f"{incident.id}-{incident.alerts}", files)


def check(bundle: Path, key: Verifier) -> Manifest:
    """Check the manifest's signature and recompute every hash of a bundle.

    Raises GateError naming the first file that differs, is missing, or that the manifest does not
    know; or where the manifest is not signed by `key`.
    """
    try:
        raw = (bundle / MANIFEST).read_bytes()
        manifest = msgspec.json.decode(raw, type=Manifest)
        names = {path.name for path in bundle.iterdir()} - {MANIFEST, SIGNED}
        for kept in manifest.files:
            if kept.name not in names:
                raise GateError(f"{bundle.name}: {kept.name} is missing", file=kept.name)
            if _kept(kept.name, (bundle / kept.name).read_bytes()) != kept:
                raise GateError(f"{bundle.name}: {kept.name} was changed", file=kept.name)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise GateError(f"{bundle} is no evidence bundle: {error}") from error
    if strays := sorted(names - {kept.name for kept in manifest.files}):
        raise GateError(f"{bundle.name}: {strays[0]} was added", file=strays[0])
    try:
        if key.open_text((bundle / SIGNED).read_text()) != _signed(raw):
            raise GateError(f"{bundle.name}: another manifest was signed", file=SIGNED)
    except (OSError, UnicodeDecodeError) as error:
        raise GateError(f"{bundle.name}: its manifest is not signed", file=SIGNED) from error
    except CheckpointError as error:
        raise GateError(f"{bundle.name}: {error.message}", file=SIGNED) from error
    return manifest


def _signed(manifest: bytes) -> str:
    return f"tidegate evidence\n{hashlib.sha256(manifest).hexdigest()}\n"


def pcap(frames: Sequence[tuple[int, bytes]], most_bytes: int) -> tuple[bytes, int]:
    """A capture of at most `most_bytes`, and how many frames did not fit. The oldest are kept: how
    it began is worth more than how it went on."""
    head = _PCAP.pack(_NANOSECONDS, 2, 4, 0, 0, _SNAP, _ETHERNET)
    parts, size = [head], len(head)
    for kept, (at_ns, frame) in enumerate(frames):
        if size + _PACKET.size + len(frame) > most_bytes:
            return b"".join(parts), len(frames) - kept
        seconds, rest = divmod(at_ns, 1_000_000_000)
        parts += [_PACKET.pack(seconds & 0xFFFFFFFF, rest, len(frame), len(frame)), frame]
        size += _PACKET.size + len(frame)
    return b"".join(parts), 0


def findings(incidents: Iterable[Incident], version: str) -> bytes:
    """Incidents as a SARIF log: one rule a kind, one result an incident."""
    listed = list(incidents)
    kinds = sorted({incident.alert.kind for incident in listed})
    return sarif.log(
        tool="tidegate gate",
        version=version,
        rules=[sarif.Rule(id=kind.value, text=f"Egress: {kind.value}") for kind in kinds],
        results=[
            sarif.Result(
                rule=incident.alert.kind.value,
                level=_level(incident.alert),
                message=told(incident),
                place=_place(incident.alert),
                properties=incident.summary(),
            )
            for incident in listed
        ],
    )


def told(incident: Incident) -> str:
    """What happened, for people."""
    stop = incident.to_stop
    done = {
        Action.NOTE: "It was noted and not stopped.",
        Action.THROTTLE: "Its sender was throttled",
        Action.LATCH: "The gate was latched shut",
    }[incident.action]
    if incident.action is not Action.NOTE:
        done += f" {stop:.3f} s after the first byte." if stop is not None else " or ought to be."
    failed = f" Not done: {incident.failure}." if incident.failure else ""
    return (
        f"{incident.alert.text.rstrip('.')}. The alarm came {incident.to_alarm:.3f} s after the "
        f"first byte. {done}{failed}"
    )


def _level(alert: Alert) -> sarif.Level:
    return "error" if alert.severity >= Severity.HIGH else "warning"


def _place(alert: Alert) -> str | None:
    ends = alert.ends
    return None if ends is None else f"{ends.protocol}/{ends.source}/{ends.destination}"


def _kept(name: str, data: bytes) -> Kept:
    return Kept(name, len(data), hashlib.sha256(data).hexdigest())


def _whole(folder: Path, name: str, files: Mapping[str, bytes]) -> Path:
    draft = folder / f".{name}.{secrets.token_hex(4)}"
    try:
        draft.mkdir(parents=True, mode=0o700)
        for file, data in files.items():
            with (draft / file).open("xb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
        sync_folder(draft)
        return _renamed(draft, folder / name)
    except OSError as error:
        raise GateError(f"the evidence cannot be kept in {folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _renamed(draft: Path, wanted: Path) -> Path:
    """Evidence is never written over: a name that is taken gets a number."""
    for number in range(1, 10_000):
        bundle = wanted if number == 1 else wanted.with_name(f"{wanted.name}.{number}")
        if not bundle.exists():
            draft.rename(bundle)
            sync_folder(bundle.parent)
            return bundle
    raise GateError(f"{wanted.parent} is full of bundles of {wanted.name}: move them away")
