"""Genuine evidence of NVIDIA's devices, and what must come of each file."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tidegate.attest.files_nvidia import HOST_FORMAT
from tidegate.attest.nvidia_report import parse
from tidegate.bench.vault_evidence import (
    Case,
    Files,
    Flip,
    Given,
    flipped_bytes,
    flipped_evidence,
)

_NVTRUST, _SDK, _TRUSTEE = "nvidia", "nvidia-attestation-sdk", "trustee"
_REQUEST: Final = 37
_RIM: Final = f"{_SDK}/NV_GPU_DRIVER_GH100_550.144.03.xml"


def report_parts(data: bytes) -> Iterator[tuple[str, int, int]]:
    """The fields of a report with where they begin and end."""
    report = parse(data)
    record, opaque = 8 + _REQUEST, len(report.signed) - sum(4 + len(v) for _, v in report.fields)
    ends = {
        "request": 4,
        "nonce": 36,
        "slot": _REQUEST,
        "response": record,
        "measurements": opaque - 34,
        "response nonce": opaque - 2,
        "opaque size": opaque,
        "opaque": len(report.signed),
        "signature": len(report.signed) + len(report.signature),
        "trailing": len(data),
    }
    start = 0
    for name, end in ends.items():
        yield name, start, end
        start = end


def flipped_report(data: bytes) -> Iterator[tuple[str, bytes]]:
    """A report with one bit turned in every byte, named by field."""
    for name, start, end in report_parts(data):
        for _, part in flipped_bytes(name, data[start:end]):
            yield name, data[:start] + part + data[end:]


def report_flips(files: Files) -> Iterator[Flip]:
    """Every byte of a report in hex, and one in three of its certificates' PEM."""
    for name, part in flipped_report(bytes.fromhex(files.evidence.decode())):
        yield Flip(name, replace(files, evidence=part.hex().encode()))
    for _, pem in flipped_bytes("certificates", files.certificates[0], 3):
        yield Flip("certificates", replace(files, certificates=(pem,)))


def saved_flips(files: Files) -> Iterator[Flip]:
    """Every byte of a saved device's report, one in three of its certificates', every byte of what
    the file says beside them."""
    entries = json.loads(files.evidence)
    entry = entries[0]

    def changed(name: str, value: str) -> bytes:
        return json.dumps([{**entry, name: value}, *entries[1:]]).encode()

    report, pem = (base64.b64decode(entry[name]) for name in ("evidence", "certificate"))
    for field, part in flipped_report(report):
        yield Flip(field, replace(files, evidence=changed("evidence", _base64(part))))
    for _, part in flipped_bytes("certificate", pem, 3):
        evidence = changed("certificate", _base64(part))
        yield Flip("certificate", replace(files, evidence=evidence))
    for name in entry.keys() - {"evidence", "certificate"}:
        for _, part in flipped_bytes(name, entry[name].encode()):
            evidence = changed(name, part.decode("latin-1"))
            yield Flip(name, replace(files, evidence=evidence))


def several_flips(files: Files) -> Iterator[Flip]:
    """One byte in forty of every device's report in a file of several."""
    entries = json.loads(files.evidence)
    for place, entry in enumerate(entries):
        turned = flipped_report(base64.b64decode(entry["evidence"]))
        for number, (field, part) in enumerate(turned):
            if number % 40 == 0:
                changed = {**entry, "evidence": _base64(part)}
                everything = [*entries[:place], changed, *entries[place + 1 :]]
                evidence = json.dumps(everything).encode()
                yield Flip(field, replace(files, evidence=evidence))


def rim_flips(files: Files) -> Iterator[Flip]:
    """One byte in four of a document of reference values, most of which is zeros in hex."""
    turned = flipped_bytes("document", files.evidence, 4)
    yield from flipped_evidence(files, (("document", part) for _, part in turned))


def eat_flips(files: Files) -> Iterator[Flip]:
    """Every byte of the device's token, whose digest the overall token has."""
    overall, devices = json.loads(files.evidence)
    for name, token in devices.items():
        for _, part in flipped_bytes(name, token.encode()):
            changed = [overall, {**devices, name: part.decode("latin-1")}]
            yield Flip(name, replace(files, evidence=json.dumps(changed).encode()))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _report(report: str, chain: str) -> Callable[[Path], Files]:
    def load(folder: Path) -> Files:
        return Files(
            evidence=(folder / report).read_bytes().strip(),
            certificates=((folder / chain).read_bytes(),),
        )

    return load


def _file(*names: str) -> Callable[[Path], Files]:
    def load(folder: Path) -> Files:
        first, *others = ((folder / name).read_bytes() for name in names)
        return Files(evidence=first, others=tuple(others))

    return load


def _host(folder: Path) -> Files:
    """Eight GPUs and their four switches, beside the CPU of another host."""
    gpus, switches = (
        json.loads((folder / _NVTRUST / f"{name}_evidence.json").read_bytes())
        for name in ("gpu", "switch")
    )
    quote = (folder / _QUOTE).read_bytes()
    found = {"format": HOST_FORMAT, "cpu": _base64(quote), "devices": [*gpus, *switches]}
    collateral = (folder / f"{_QUOTE}_collateral.json").read_bytes()
    return Files(evidence=json.dumps(found).encode(), others=(collateral,))


_QUOTE: Final = "tdx-dcap-qvl/tdx_quote"
_SAMPLE: Final = bytes.fromhex("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb")
_EIGHT: Final = bytes.fromhex("4760e30534a0621357d458b1a7936551b5dc4cd1e69718adf7ed9fb0252a537e")
_OLDEST: Final = bytes.fromhex("27a328247bf7935c993341cf587be6f05986ccce4fe7ba2c54100bd616a58f66")
_NEWER: Final = bytes.fromhex("e97b23a1718095a0e9e35edca810768c70a6a5a389b705e753b197912bc11576")
_LOOSE: Final = bytes.fromhex("87d8e24ab336adafe228d49e83d745f6dba4ae505372b6a5704820856b343fec")
_NO_RIM: Final = (
    "verifies to NVIDIA's root; no reference values of its versions are among the files"
)


def _case(
    name: str,
    why: str,
    load: Callable[[Path], Files],
    want: Given,
    nonce: bytes | None,
    kind: str = "nvidia",
    **more: Any,
) -> Case:
    policy = more.pop("policy", {})
    return Case(
        name=name, kind=kind, why=why, load=load, policy=policy, nonce=nonce, want=want, **more
    )


CASES: Final[tuple[Case, ...]] = (
    _case(
        "nvtrust: H100",
        _NO_RIM,
        _report(f"{_NVTRUST}/hopperAttestationReport.txt", f"{_NVTRUST}/hopperCertChain.txt"),
        "cannot_verify",
        _SAMPLE,
        flips=report_flips,
    ),
    _case(
        "attestation-sdk: H100",
        _NO_RIM,
        _report(f"{_SDK}/hopperAttestationReport.txt", f"{_SDK}/hopperCertChain.txt"),
        "cannot_verify",
        _OLDEST,
        flips=report_flips,
    ),
    _case(
        "attestation-sdk: H100, bad signature",
        "its makers broke the signature",
        _report(
            f"{_SDK}/hopperAttestationReportInvalidSignature.txt", f"{_SDK}/hopperCertChain.txt"
        ),
        "fail",
        _SAMPLE,
    ),
    _case(
        "trustee: H100 with the certificate beside it",
        "another firmware's key signed it: report and certificate do not pair",
        _report(f"{_TRUSTEE}/hopper_coco_report1.txt", f"{_TRUSTEE}/hopper_signing_cert.pem"),
        "fail",
        _LOOSE,
    ),
    _case(
        "nvtrust: 8 H100",
        _NO_RIM,
        _file(f"{_NVTRUST}/gpu_evidence.json"),
        "cannot_verify",
        _EIGHT,
        flips=several_flips,
    ),
    _case(
        "nvtrust: 4 NVSwitches",
        _NO_RIM,
        _file(f"{_NVTRUST}/switch_evidence.json"),
        "cannot_verify",
        _EIGHT,
        flips=several_flips,
    ),
    _case(
        "attestation-sdk: H100, saved",
        _NO_RIM,
        _file(f"{_SDK}/hopper_evidence.json"),
        "cannot_verify",
        _NEWER,
        flips=saved_flips,
    ),
    _case(
        "attestation-sdk: another H100, saved",
        _NO_RIM,
        _file(f"{_SDK}/evidence_hopper_590_12.json"),
        "cannot_verify",
        _NEWER,
    ),
    _case(
        "attestation-sdk: H100, old nonce",
        "it binds another nonce than was asked for",
        _file(f"{_SDK}/hopper_evidence.json"),
        "fail",
        _EIGHT,
    ),
    _case(
        "attestation-sdk: NVSwitch, saved",
        _NO_RIM,
        _file(f"{_SDK}/switch_evidence_ls10.json"),
        "cannot_verify",
        _SAMPLE,
        flips=saved_flips,
    ),
    _case(
        "attestation-sdk: driver reference values",
        "verifies to NVIDIA's root for reference values",
        _file(_RIM),
        "pass",
        None,
        "nvidia-rim",
        flips=rim_flips,
    ),
    _case(
        "attestation-sdk: driver reference values, later",
        "their signer's certificate ends with 2026",
        _file(_RIM),
        "fail",
        None,
        "nvidia-rim",
        at=datetime(2027, 1, 15, tzinfo=UTC),
    ),
    _case(
        "attestation-sdk: detached EAT",
        "only NVIDIA's service could say whether it signed it",
        _file(f"{_SDK}/hopperClaimsv3_detached_eat.json"),
        "cannot_verify",
        _SAMPLE,
        "nvidia-eat",
        at=datetime(2025, 6, 11, 0, 40, tzinfo=UTC),
        flips=eat_flips,
    ),
    _case(
        "8 H100 and 4 NVSwitches beside another host's CPU",
        "the CPU does not bind what these devices said",
        _host,
        "fail",
        _EIGHT,
        "host",
        policy={"gpus": 8, "switches": 4, "cpu": {"mrtd": []}},
    ),
)
