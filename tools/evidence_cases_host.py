"""Cases of whole hosts: a made-up CPU with made-up GPUs and switches."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from evidence_authorities import drawn, spki
from evidence_intel import MEASURED, ROOT, Collateral, quote
from evidence_nvidia import DEVICES, NONCE, RIMS, Device, driver_rim, firmware_rim, saved
from evidence_vectors import Blobs, Case, EvidenceFile

CPU, EVERY = "CPU's evidence holds", "every device's evidence holds"
COUNT, ONCE = "devices are as many as they should be", "no device is counted twice"
ALIKE, LINKS = "GPUs are alike", "links lead to one another and nowhere else"
BOUND = "one nonce binds them all"

_SWITCH = {"chip": "LS_10", "firmware": "96.10.01.00.03"}
_NAMES = ("left", "right")
GPUS = tuple(Device(name, peers=("upper", "lower")) for name in _NAMES)
SWITCHES = tuple(Device(name, peers=_NAMES, **_SWITCH) for name in ("upper", "lower"))
ALL = (*GPUS, *SWITCHES)
PLAIN = tuple(Device(f"plain {name}") for name in _NAMES)
"""GPUs whose links are not protected, so that their reports name no peer."""


def bound(
    nonce: bytes, devices: Sequence[Device], reports: dict[str, bytes] | None = None
) -> bytes:
    """What the CPU is to bind, computed as the specification says and not by the product."""
    entries = []
    for one in devices:
        key = hashlib.sha256(_spki_of(one)).digest()
        entries.append((key, (reports or {}).get(one.label) or one.report(nonce=nonce)))
    text = b"tidegate host evidence v1\n"
    for part in (nonce, *(report for _, report in sorted(entries))):
        text += len(part).to_bytes(8, "big") + part
    return hashlib.sha256(text).digest()


def _spki_of(device: Device) -> bytes:
    return spki(device.line()[0].key)


def host(cpu: bytes | None, entries: Sequence[dict[str, str]], **more: Any) -> bytes:
    """A host's file."""
    found = {
        "format": "tidegate/host-evidence/v1",
        "cpu": None if cpu is None else base64.b64encode(cpu).decode(),
        "devices": json.loads(saved(*entries)),
    } | more
    return json.dumps(found, separators=(",", ":")).encode()


class Maker:
    """Gathers cases; each begins as a host that passes, and says what differs."""

    def __init__(self) -> None:
        self.blobs = Blobs()
        self.cases: list[Case] = []

    def add(
        self,
        note: str,
        outcome: str,
        checks: list[str] | None = None,
        *,
        devices: Sequence[Device] = ALL,
        says: bytes | None = None,
        entries: Sequence[dict[str, str]] | None = None,
        data: bytes | None = None,
        rims: list[bytes] | None = None,
        policy: dict[str, Any] | None = None,
        cpu: dict[str, bytes] | None = None,
        **more: Any,
    ) -> None:
        body = {"report_data": bound(NONCE, devices) if says is None else says} | (cpu or {})
        if data is None:
            listed = [one.saved() for one in devices] if entries is None else entries
            data = host(quote(body=body), listed)
        values = [driver_rim(GPUS[0]), firmware_rim(GPUS[0]), firmware_rim(SWITCHES[0])]
        wanted: dict[str, Any] = {
            "gpus": 2,
            "switches": 2,
            "cpu": {"mrtd": [MEASURED.hex()]},
            "devices": {"rim_roots": [RIMS.pin.hex()], "revocation": False},
            "device_roots": [DEVICES.pin.hex()],
        }
        others = [*(values if rims is None else rims), Collateral().written()]
        self.cases.append(
            Case(
                note=note,
                kind="host",
                evidence=self.blobs.evidence(f"host {len(data)}", data),
                outcome=outcome,  # type: ignore[arg-type]
                checks=checks or [],
                others=[self.blobs.add("beside", one) for one in others],
                policy=wanted | (policy or {}),
                roots=[ROOT.pin.hex()],
                nonce=more.pop("nonce", NONCE.hex()),
                revocation=True,
                **more,
            )
        )


def host_file() -> EvidenceFile:
    """Every case of a host."""
    made = Maker()
    two = {"switches": 0}
    made.add("two GPUs, two switches, a CPU that binds what they said", "pass")
    made.add("two GPUs whose links are not protected", "pass", devices=PLAIN, policy=two)
    made.add(
        "the nonce alone is bound, where the policy takes it",
        "pass",
        devices=PLAIN,
        says=NONCE,
        policy=two | {"binding": "nonce"},
    )
    keys = [hashlib.sha256(_spki_of(one)).hexdigest() for one in ALL]
    made.add("devices that are known to be this host's", "pass", policy={"known": keys})
    _missing(made)
    _mixed(made, two)
    _bound(made, two)
    made.add("a host's file of another format", "malformed", data=host(None, [], format="other"))
    made.add("a CPU that is no CPU", "malformed", data=host(b"nothing", [GPUS[0].saved()]))
    made.add("a host without devices", "malformed", entries=[])
    return EvidenceFile("spec/evidence.md", made.blobs.encoded(), made.cases)


def _missing(made: Maker) -> None:
    made.add(
        "no CPU",
        "fail",
        [CPU, BOUND],
        data=host(None, [one.saved() for one in ALL]),
    )
    made.add(
        "a CPU whose domain is another",
        "fail",
        [CPU],
        cpu={"mrtd": drawn("another domain", 48)},
    )
    made.add("no reference values", "cannot_verify", [EVERY], rims=[])
    made.add("one GPU fewer than there should be", "fail", [COUNT, LINKS], devices=ALL[1:])
    made.add("a switch fewer than there should be", "fail", [COUNT, LINKS], devices=ALL[:3])
    made.add("a GPU more than there should be", "fail", [COUNT], policy={"gpus": 1})
    made.add(
        "a device whose report is by a forger",
        "fail",
        [CPU, EVERY, BOUND],
        entries=[GPUS[0].saved(GPUS[0].report(signer="forger")), *(o.saved() for o in ALL[1:])],
    )


def _mixed(made: Maker, two: dict[str, Any]) -> None:
    twice = (PLAIN[0], PLAIN[0])
    made.add("one GPU twice", "fail", [ONCE], devices=twice, policy=two)
    keys = [hashlib.sha256(_spki_of(one)).hexdigest() for one in ALL[1:]]
    made.add("a GPU of another host", "fail", [ONCE], policy={"known": keys})
    newer = Device("plain right", driver="560.01")
    mixed = (PLAIN[0], newer)
    rims = [driver_rim(PLAIN[0]), driver_rim(newer), firmware_rim(newer)]
    made.add("GPUs with two drivers", "fail", [ALIKE], devices=mixed, rims=rims, policy=two)
    made.add(
        "GPUs with two drivers, which the policy takes",
        "pass",
        devices=mixed,
        rims=rims,
        policy=two | {"mixed": True},
    )
    stranger = Device("stranger", peers=_NAMES, **_SWITCH)
    made.add(
        "a switch that no GPU's links lead to",
        "fail",
        [LINKS],
        devices=(*GPUS, SWITCHES[0], stranger),
    )


def _bound(made: Maker, two: dict[str, Any]) -> None:
    made.add("a CPU that binds the nonce alone", "fail", [CPU, BOUND], says=NONCE)
    made.add(
        "a CPU that binds other devices than are shown",
        "fail",
        [CPU, BOUND],
        says=bound(NONCE, PLAIN),
    )
    made.add(
        "a CPU of another host, asked with the same nonce",
        "fail",
        [CPU, BOUND],
        says=bound(NONCE, ALL[:3]),
    )
    old = drawn("older nonce", 32)
    reports = {PLAIN[1].label: PLAIN[1].report(nonce=old)}
    made.add(
        "a GPU's report of another day",
        "fail",
        [EVERY, BOUND],
        devices=PLAIN,
        says=bound(NONCE, PLAIN, reports),
        entries=[PLAIN[0].saved(), PLAIN[1].saved(reports[PLAIN[1].label])],
        policy=two,
    )
    made.add(
        "everything of another day",
        "fail",
        [CPU, EVERY, BOUND],
        nonce=drawn("newer nonce", 32).hex(),
    )
    made.add("nobody asked for a nonce", "cannot_verify", [CPU, EVERY, BOUND], nonce=None)
    made.add(
        "a nonce that is too long for devices",
        "fail",
        [CPU, EVERY, BOUND],
        nonce=drawn("long nonce", 64).hex(),
    )
