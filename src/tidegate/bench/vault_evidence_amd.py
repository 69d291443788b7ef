"""Genuine evidence of AMD's processors and of TPMs, and what must come of each file."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tidegate.bench.vault_evidence import (
    Case,
    Files,
    Flip,
    flipped_bytes,
    flipped_certificates,
    flipped_der,
    flipped_evidence,
    flipped_fields,
)

_GOOGLE, _VIRTEE, _TRUSTEE = "snp-go-sev-guest", "snp-virtee-milan", "trustee"
_MILAN: Final = f"{_GOOGLE}/ask_ark_milan.pem"

SNP_FIELDS: Final = {
    "VERSION": 4,
    "GUEST_SVN": 4,
    "POLICY": 8,
    "FAMILY_ID": 16,
    "IMAGE_ID": 16,
    "VMPL": 4,
    "SIGNATURE_ALGO": 4,
    "CURRENT_TCB": 8,
    "PLATFORM_INFO": 8,
    "KEY_INFO": 4,
    "reserved after KEY_INFO": 4,
    "REPORT_DATA": 64,
    "MEASUREMENT": 48,
    "HOST_DATA": 32,
    "ID_KEY_DIGEST": 48,
    "AUTHOR_KEY_DIGEST": 48,
    "REPORT_ID": 32,
    "REPORT_ID_MA": 32,
    "REPORTED_TCB": 8,
    "CPUID": 3,
    "reserved after CPUID": 21,
    "CHIP_ID": 64,
    "COMMITTED_TCB": 8,
    "CURRENT_FIRMWARE": 4,
    "COMMITTED_FIRMWARE": 4,
    "LAUNCH_TCB": 8,
    "LAUNCH_MIT_VECTOR": 8,
    "CURRENT_MIT_VECTOR": 8,
    "reserved": 152,
    "SIGNATURE.R": 72,
    "SIGNATURE.S": 72,
    "SIGNATURE.reserved": 368,
}
"""The 1184 bytes of a report, in order."""
HCL_FIELDS: Final = {
    "header.signature": 4,
    "header.version": 4,
    "header.reportSize": 4,
    "header.requestType": 4,
    "header.status": 16,
    **{f"report.{name}": size for name, size in SNP_FIELDS.items()},
    "runtime.dataSize": 4,
    "runtime.version": 4,
    "runtime.reportType": 4,
    "runtime.hashType": 4,
    "runtime.claimsSize": 4,
}
"""The paravisor's report before its claims; after them there is padding, to 2600 bytes."""
_HCL: Final = 2600


def snp_flips(files: Files) -> Iterator[Flip]:
    """Every byte of the report, every element of every certificate."""
    yield from flipped_evidence(files, flipped_fields(SNP_FIELDS, files.evidence))
    yield from flipped_certificates(files)


def azure_flips(files: Files) -> Iterator[Flip]:
    """Every byte of what the JSON carries, and every element of every certificate."""
    found = json.loads(files.evidence)
    quote = found["tpm_quote"]
    for field in ("message", "signature"):
        for _, part in flipped_bytes(field, bytes.fromhex(quote[field])):
            changed = {**found, "tpm_quote": {**quote, field: part.hex()}}
            yield Flip(f"tpm_quote.{field}", _with_json(files, changed))
    for number, value in enumerate(quote["pcrs"]):
        for name, part in flipped_bytes(f"tpm_quote.pcrs {number}", bytes.fromhex(value), 8):
            values = [*quote["pcrs"][:number], part.hex(), *quote["pcrs"][number + 1 :]]
            changed = {**found, "tpm_quote": {**quote, "pcrs": values}}
            yield Flip(name, _with_json(files, changed))
    report = base64.urlsafe_b64decode(found["hcl_report"] + "==")
    layout = {**HCL_FIELDS, "runtime.claims and padding": _HCL - sum(HCL_FIELDS.values())}
    for name, part in flipped_fields(layout, report, "hcl_report."):
        yield Flip(name, _with_json(files, {**found, "hcl_report": _url64(part)}))
    vcek = base64.urlsafe_b64decode(found["vcek"] + "==")
    for name, part in flipped_der("vcek", vcek):
        yield Flip(name, _with_json(files, {**found, "vcek": _url64(part)}))
    yield Flip("version", _with_json(files, {**found, "version": found["version"] ^ 1}))
    yield from flipped_certificates(files)


def tpm_flips(files: Files) -> Iterator[Flip]:
    """Every byte of what Trustee's file for TPMs carries: key, quote, signature, registers."""
    found = json.loads(files.evidence)
    quote = found["tpm_quote"]
    for name, part in flipped_der("ak_public", base64.b64decode(found["ak_public"])):
        yield Flip(name, _with_json(files, {**found, "ak_public": _plain64(part)}))
    for field in ("message", "signature"):
        for _, part in flipped_bytes(field, base64.b64decode(quote[field])):
            changed = {**found, "tpm_quote": {**quote, field: _plain64(part)}}
            yield Flip(f"tpm_quote.{field}", _with_json(files, changed))
    for number, value in enumerate(quote["pcrs"]):
        for name, part in flipped_bytes(f"tpm_quote.pcrs {number}", bytes.fromhex(value), 8):
            values = [*quote["pcrs"][:number], part.hex(), *quote["pcrs"][number + 1 :]]
            changed = {**found, "tpm_quote": {**quote, "pcrs": values}}
            yield Flip(name, _with_json(files, changed))


def _with_json(files: Files, found: dict[str, Any]) -> Files:
    return replace(files, evidence=json.dumps(found).encode())


def _plain64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _snp(report: str, *certificates: str) -> Callable[[Path], Files]:
    def load(folder: Path) -> Files:
        data = (folder / report).read_bytes()
        return Files(
            evidence=bytes.fromhex(data.decode()) if report.endswith(".hex") else data,
            certificates=tuple((folder / name).read_bytes() for name in certificates),
        )

    return load


def _azure(folder: Path) -> Files:
    evidence = folder / _TRUSTEE / "az-snp-vtpm-evidence-v2.json"
    return Files(evidence=evidence.read_bytes(), certificates=((folder / _MILAN).read_bytes(),))


def _parts(folder: Path, message: bytes, signature: bytes, pcrs: list[str]) -> Files:
    """The loose files put together as an attester would."""
    report = (folder / _TRUSTEE / "az-snp-hcl-report.bin").read_bytes()
    certificates = (folder / _TRUSTEE / "az-snp-vcek.pem").read_bytes()
    vcek = certificates.partition(b"-----BEGIN CERTIFICATE-----")[2].partition(b"-----END")[0]
    found = {
        "version": 2,
        "tpm_quote": {"signature": signature.hex(), "message": message.hex(), "pcrs": pcrs},
        "hcl_report": _url64(report),
        "vcek": _url64(base64.b64decode(vcek)),
    }
    return Files(
        evidence=json.dumps(found).encode(), certificates=((folder / _MILAN).read_bytes(),)
    )


def _loose(folder: Path) -> Files:
    """The report of one machine beside the quote of another."""
    read = {end: (folder / _TRUSTEE / f"az-snp-tpm-quote.{end}").read_bytes() for end in _ENDS}
    pcrs = _packed_quote(folder)[2]
    return _parts(folder, read["msg"], read["sig"], pcrs)


def _paired(folder: Path) -> Files:
    """The report beside the quote of the same machine."""
    signature, message, pcrs = _packed_quote(folder)
    return _parts(folder, message, signature, pcrs)


def _packed_quote(folder: Path) -> tuple[bytes, bytes, list[str]]:
    """Signature, message and registers, each behind its length in eight bytes."""
    data, at = (folder / _TRUSTEE / "az-snp-quote.bin").read_bytes(), 0
    found: list[bytes] = []
    for width in (1, 1, 32):
        size = struct.unpack_from("<Q", data, at)[0] * width
        found.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    values = [found[2][at : at + 32].hex() for at in range(0, len(found[2]), 32)]
    return found[0], found[1], values


def _trustee_tpm(folder: Path) -> Files:
    return Files(evidence=(folder / _TRUSTEE / "tpm_evidence.json").read_bytes())


_ENDS: Final = ("msg", "sig")
_OLD: Final = {"Milan": {"bootloader": 2, "tee": 0, "snp": 5, "microcode": 68}}
_NEW: Final = {"Milan": {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 217}}

GOOGLE_MEASURED: Final = (
    "b07af9620f3b839b47996422ddec6058338951d984e312115131ea82705eaf5b"
    "6bdf8a9ece31a5a608eb0cf2e4872b01"
)
VIRTEE_MEASURED: Final = (
    "7a1e5c266c0108dbc9bb94fa926951320940915d0aafb42464bd88b579ea158d"
    "3e1a0dc39b2c60bd95b9c480cd81841f"
)
TRUSTEE_MEASURED: Final = (
    "a1f3930413247bb38cfc171579ea3c12d5fe4901f0c792f63fd75d98f1ef827c"
    "23500644e0e692e6be917f9050d3d38c"
)
VLEK_MEASURED: Final = (
    "8922ebbdd00ec2c541f36a6e7a82a8773a7accb451ed67bc94e740dbe92c93c4"
    "e8c9af857f5ceeb5a493df2a570d7bf0"
)
AZURE_MEASURED: Final = (
    "5b0ce64ad1c1f6375dbda5f760b98526ca1bcf91b8195091afc28e7b024251d6"
    "8fe32e05af34048d6607678cd23283ff"
)
LOOSE_MEASURED: Final = (
    "9ac48fcac8a2d88aeeff8d427ad4f2be0e3917c748a18bdf52cc317e7fe20308"
    "b459d5ef1a12e0c22944eb386d17c315"
)
_AZURE_REGISTERS: Final = {
    "4": ["7461d6b7d5922dbd8fd58bfaac8f53c3380f01708bd1593ef367e3371791e717"],
    "7": ["f014e5cbfa297ee787a976abc51bc1d67e23e1b9e4a60128a1106dd0adef0c5b"],
}
_AZURE_NONCE: Final = bytes.fromhex(
    "982f5c6e45df0ed3f10b6f60b02f0c8390e281300f3805e2279c16168cd6ae9a"
    "a398f647caa2338748cd0fd9f5f819ef"
)
_GOOGLE_NONCE: Final = bytes.fromhex("0102030405").ljust(64, b"\0")
_VIRTEE_NONCE: Final = bytes.fromhex(
    "d447b55d197491bfe15cf298f9de9986b7a7c4be2468b4f6e2d53b71d7c64581"
    "0b0f2cdfca0040433be063fc1a8293f0f3f8dae7b79fecb3d1cd82bd6a93ebfd"
)
_TRUSTEE_NONCE: Final = bytes.fromhex(
    "ec6c52d7533cc2c4f45be7849cf112ab82b2009fe7bd43e71ed08c14400ad7e2"
)
_VLEK_NONCE: Final = bytes.fromhex(
    "819770b7e6ea6df8dd8fd4dd146b073c0bf4f3ce5b0977ecac486e3a05ed1bd5"
    "4e2a7ac1f5d1ca02e7d7d5ef9f73b8574fd9359e3a480d741a4478e8a7bc27ca"
)


def _policy(measured: str, **more: object) -> dict[str, object]:
    return {"measurements": [measured], "least_tcb": _OLD, **more}


_GOOGLE_FILES: Final = _snp(f"{_GOOGLE}/attestation.bin", f"{_GOOGLE}/vcek.der", _MILAN)
_VIRTEE_FILES: Final = _snp(
    f"{_VIRTEE}/report_milan.hex",
    f"{_VIRTEE}/vcek_milan.der",
    f"{_VIRTEE}/cert_chain_milan.pem",
)
_TRUSTEE_FILES: Final = _snp(f"{_TRUSTEE}/snp-report.bin", f"{_TRUSTEE}/snp-vcek.der", _MILAN)

CASES: Final[tuple[Case, ...]] = (
    Case(
        name="go-sev-guest: Milan",
        kind="snp",
        why="verifies; its owner allowed debugging, which this policy takes",
        load=_GOOGLE_FILES,
        policy=_policy(GOOGLE_MEASURED, allowed=["smt", "debug"]),
        nonce=_GOOGLE_NONCE,
        want="pass",
        flips=snp_flips,
    ),
    Case(
        name="go-sev-guest: Milan, by default",
        kind="snp",
        why="the host may debug the guest, which no policy takes unless it says so",
        load=_GOOGLE_FILES,
        policy=_policy(GOOGLE_MEASURED),
        nonce=_GOOGLE_NONCE,
        want="fail",
    ),
    Case(
        name="virtee: Milan",
        kind="snp",
        why="verifies",
        load=_VIRTEE_FILES,
        policy=_policy(VIRTEE_MEASURED),
        nonce=_VIRTEE_NONCE,
        want="pass",
        flips=snp_flips,
    ),
    Case(
        name="virtee: Milan, after its certificate's end",
        kind="snp",
        why="the VCEK ends in April 2030",
        load=_VIRTEE_FILES,
        policy=_policy(VIRTEE_MEASURED),
        nonce=_VIRTEE_NONCE,
        at=datetime(2030, 5, 1, tzinfo=UTC),
        want="fail",
    ),
    Case(
        name="virtee: Milan, asked after revocation",
        kind="snp",
        why="no list of AMD's is among the files, so nobody can tell",
        load=_VIRTEE_FILES,
        policy=_policy(VIRTEE_MEASURED),
        nonce=_VIRTEE_NONCE,
        revocation=True,
        want="cannot_verify",
    ),
    Case(
        name="virtee: Milan, against today's firmware",
        kind="snp",
        why="its firmware is older than the policy wants",
        load=_VIRTEE_FILES,
        policy={"measurements": [VIRTEE_MEASURED], "least_tcb": _NEW},
        nonce=_VIRTEE_NONCE,
        want="fail",
    ),
    Case(
        name="virtee: Milan, under another chip's certificate",
        kind="snp",
        why="the report was signed by another chip",
        load=_snp(f"{_VIRTEE}/report_milan.hex", f"{_TRUSTEE}/snp-vcek.der", _MILAN),
        policy=_policy(VIRTEE_MEASURED),
        nonce=_VIRTEE_NONCE,
        want="fail",
    ),
    Case(
        name="trustee: Milan",
        kind="snp",
        why="verifies; its nonce has 32 bytes, and zeros follow",
        load=_TRUSTEE_FILES,
        policy=_policy(TRUSTEE_MEASURED),
        nonce=_TRUSTEE_NONCE,
        want="pass",
        flips=snp_flips,
    ),
    Case(
        name="trustee: VLEK",
        kind="snp",
        why="signed under a cloud's key whose certificate is not there",
        load=_snp(f"{_TRUSTEE}/snp-vlek-report.bin", f"{_GOOGLE}/ask_ark_milan_vlek.pem"),
        policy=_policy(VLEK_MEASURED, signers=["vlek"], vmpls=[1]),
        nonce=_VLEK_NONCE,
        want="cannot_verify",
    ),
    Case(
        name="trustee: Azure",
        kind="azure-snp-vtpm",
        why="verifies from AMD's root to the virtual TPM's registers",
        load=_azure,
        policy={"report": _policy(AZURE_MEASURED), "registers": {"sha256": _AZURE_REGISTERS}},
        nonce=_AZURE_NONCE,
        want="pass",
        flips=azure_flips,
    ),
    Case(
        name="trustee: Azure, loose files",
        kind="azure-snp-vtpm",
        why="the quote belongs to another machine than the report, and must not pair with it",
        load=_loose,
        policy={"report": _policy(LOOSE_MEASURED)},
        nonce=None,
        want="fail",
    ),
    Case(
        name="trustee: Azure, loose files of one machine",
        kind="azure-snp-vtpm",
        why="they pair; the challenge was a word, which no nonce can be, so freshness is open",
        load=_paired,
        policy={"report": _policy(LOOSE_MEASURED)},
        nonce=None,
        want="cannot_verify",
        flips=azure_flips,
    ),
    Case(
        name="trustee: TPM",
        kind="tpm",
        why="the quote verifies under a key that nothing ties to any TPM",
        load=_trustee_tpm,
        policy={},
        nonce=None,
        want="cannot_verify",
        flips=tpm_flips,
    ),
)
