"""NVIDIA GPUs (Hopper, Blackwell) and NVSwitches, appraised. Pure.

The chain of trust: NVIDIA's device root certifies the key that is burnt into a device, which
certifies the key of the firmware that it measured, which signs the report. What may be measured is
in RIM documents, which another root of NVIDIA's certifies: one of the driver, one of the firmware.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from tidegate.attest.appraisal import Appraisal, Claim, Setting, Sheet, freshness, soonest
from tidegate.attest.chain import Chain, check_chain, lists_end
from tidegate.attest.nvidia_evidence import Evidence, firmware_id
from tidegate.attest.nvidia_report import (
    CHIP,
    DISABLED,
    FEATURES,
    FIRMWARE_ID,
    NVDEC0,
    PROTECTED_PCIE,
    SIGNATURE,
    Report,
)
from tidegate.attest.nvidia_rim import Rim, signed_by_leaf
from tidegate.attest.outcome import CannotVerify, Fail, Outcome, Pass
from tidegate.attest.roots import NVIDIA_RIMS
from tidegate.attest.signatures import ecdsa_verifies, load_key

VIDEO_DECODER: Final = 35
"""The measurement that is left alone where the report says that its decoder is off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaPolicy:
    """What a device has to say.

    `drivers`, `firmware`: the versions that are taken; empty takes every one that NVIDIA has signed
    reference values for. `rim_roots`: who may certify those. `revocation`: whether to ask after it,
    where the setting does: NVIDIA answers such questions one by one, and its lists are few.
    `trailing`: whether bytes other than zero, which nobody signed, may follow a report.
    """

    drivers: frozenset[str] = frozenset()
    firmware: frozenset[str] = frozenset()
    rim_roots: frozenset[bytes] = NVIDIA_RIMS
    revocation: bool = True
    trailing: bool = False


def appraise(
    evidence: Evidence, policy: NvidiaPolicy, setting: Setting, rims: Sequence[Rim] = ()
) -> Appraisal:
    """Hold what a device said, and NVIDIA's reference values for it, against a policy.

    `rims`: documents of whatever versions; those of the report's versions are taken from them.
    Without them the signatures are checked and the measurements cannot be verified.
    """
    sheet = Sheet()
    setting = replace(setting, revocation=setting.revocation and policy.revocation)
    report = evidence.report
    switch = evidence.family == "nvswitch"
    if evidence.family is None:
        sheet.unknown("chip is known", f"nothing is known of {evidence.chip}")
    else:
        sheet.need(
            "chip is known",
            switch == report.is_switch,
            evidence.chip,
            f"the certificate is of {evidence.chip}, the report of another kind of device",
        )
    sheet.need(
        "nothing follows the report",
        policy.trailing or not any(report.trailing),
        f"{len(report.trailing)} bytes of padding",
        f"{len(report.trailing)} bytes follow it that nobody signed",
    )
    leaf, *others = evidence.certificates
    chain = check_chain(sheet, "device key", leaf, others, setting, revocable="authorities")
    if chain is not None:
        # The device is named after the second of them, which has to be the one that was verified.
        sheet.need(
            "certificates are that chain alone",
            chain.certificates == evidence.certificates,
            f"{len(chain.certificates)} certificates, in order",
            "others are there, or they are out of order",
        )
    sheet.need(
        "device key signed the report",
        _signed(evidence),
        "its signature holds",
        "its signature does not hold",
    )
    sheet.add("firmware is the certificate's", _firmware(evidence))
    used = _check_measurements(sheet, evidence, policy, setting, rims)
    sheet.add("binds the nonce", freshness(report.nonce, setting))
    return Appraisal(
        kind="nvidia-switch" if switch else "nvidia-gpu",
        checks=sheet.done(),
        claims=_claims(evidence),
        bound=report.nonce,
        device=f"nvidia-device:{evidence.device.hex()}",
        at=setting.now,
        until=_until(chain, used, setting),
        not_covered=_not_covered(evidence, setting),
    )


def appraise_rim(rim: Rim, setting: Setting) -> Appraisal:
    """Hold a document of reference values to its signature alone; `setting.roots` are NVIDIA's for
    such documents. It has no nonce to bind: it is of no host and of no day."""
    sheet = Sheet()
    chain = _check_rim(sheet, "reference values", rim, setting)
    return Appraisal(
        kind="nvidia-rim",
        checks=sheet.done(),
        claims=(Claim("product", rim.product), Claim("version", rim.version)),
        bound=b"",
        device="",
        at=setting.now,
        until=_until(chain, (), setting),
        not_covered=("which devices measure what it says",),
    )


def _check_rim(sheet: Sheet, what: str, rim: Rim, setting: Setting) -> Chain | None:
    """Note whether a document is NVIDIA's; its chain, if it is one that may be used."""
    signer, *others = rim.certificates
    chain = check_chain(sheet, f"{what}' key", signer, others, setting)
    good = sheet.need(
        f"{what} are NVIDIA's",
        signed_by_leaf(rim),
        f"{rim.product} {rim.version}",
        "their signature does not hold",
    )
    return chain if good else None


def _signed(evidence: Evidence) -> bool:
    report, half = evidence.report, SIGNATURE // 2
    r, s = (
        int.from_bytes(part, "big") for part in (report.signature[:half], report.signature[half:])
    )
    key = load_key(evidence.certificates[0].spki)
    return ecdsa_verifies(key, "sha384", r, s, report.signed)


def _firmware(evidence: Evidence) -> Outcome:
    """Whether the firmware that wrote the report is the one whose key was certified."""
    said = evidence.report.field(FIRMWARE_ID)
    certified = firmware_id(evidence.certificates[0])
    if said is None:
        return Pass("the report names none; the key's certificate is of the firmware that signed")
    if certified is None:
        return CannotVerify("the certificate names no firmware")
    if said != certified:
        return Fail(f"the report names {said.hex()}, the certificate {certified.hex()}")
    return Pass(said.hex())


def _check_measurements(
    sheet: Sheet, evidence: Evidence, policy: NvidiaPolicy, setting: Setting, rims: Sequence[Rim]
) -> tuple[Chain, ...]:
    """Note whether every measurement that NVIDIA has a reference value for is one of them."""
    report = evidence.report
    wanted = [("firmware", report.vbios, policy.firmware)]
    if evidence.family != "nvswitch":
        wanted.insert(0, ("driver", report.driver, policy.drivers))
    taken: list[Rim] = []
    chains: list[Chain] = []
    for what, version, allowed in wanted:
        if version is None:
            sheet.add(f"{what} version is taken", Fail("the report names none"))
            continue
        sheet.need(
            f"{what} version is taken",
            not allowed or version in allowed,
            version,
            f"{version} is not among {', '.join(sorted(allowed))}",
        )
        rim = _of(rims, evidence, version)
        if isinstance(rim, CannotVerify):
            sheet.add(f"{what} reference values are NVIDIA's", rim)
            continue
        named = replace(setting, roots=policy.rim_roots)
        chain = _check_rim(sheet, f"{what} reference values", rim, named)
        if chain is not None:
            taken.append(rim)
            chains.append(chain)
    if len(taken) < len(wanted):
        sheet.unknown(
            "measurements are reference values",
            f"{len(wanted)} documents of reference values are needed, {len(taken)} hold",
        )
    else:
        sheet.add("measurements are reference values", compared(report, taken))
    return tuple(chains)


def _of(rims: Sequence[Rim], evidence: Evidence, version: str) -> Rim | CannotVerify:
    """The one document of that version for the evidence's chip."""
    chip = (evidence.report.text(CHIP) or evidence.chip).replace("_", "")
    found = [rim for rim in rims if rim.version == version and rim.product.replace("_", "") == chip]
    if not found:
        return CannotVerify(f"no document for {chip} {version} was handed in")
    if len(found) > 1:
        return CannotVerify(f"{len(found)} documents for {chip} {version} were handed in")
    return found[0]


def compared(report: Report, rims: Sequence[Rim]) -> Outcome:
    """Whether each measurement with reference values is one of them, none having two sources."""
    allowed: dict[int, frozenset[bytes]] = {}
    for rim in rims:
        for index, values in rim.measurements:
            if index in allowed:
                return Fail(f"two documents have reference values for measurement {index}")
            allowed[index] = values
    if not allowed:
        return CannotVerify("the documents have no reference value that is active")
    skipped = VIDEO_DECODER if report.field(NVDEC0) == bytes([DISABLED]) else None
    wrong = [
        str(index)
        for index, values in sorted(allowed.items())
        if index != skipped
        and (index >= len(report.measurements) or report.measurements[index] not in values)
    ]
    if wrong:
        return Fail(f"measurements {', '.join(wrong)} are no reference values")
    return Pass(f"{len(allowed) - (skipped in allowed)} of {len(report.measurements)} compared")


def _claims(evidence: Evidence) -> tuple[Claim, ...]:
    report = evidence.report
    pairs = (
        ("chip", evidence.chip),
        ("pdi", evidence.pdi.hex() if evidence.pdi else None),
        ("driver", report.driver),
        ("firmware", report.vbios),
        ("protected_pcie", _hex(report.field(PROTECTED_PCIE))),
        ("features", _hex(report.field(FEATURES))),
        ("peers", " ".join(sorted(peer.hex() for peer in report.peers)) or None),
    )
    return tuple(Claim(name, value) for name, value in pairs if value is not None)


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _until(chain: Chain | None, used: Sequence[Chain], setting: Setting) -> datetime | None:
    every = [one for one in (chain, *used) if one is not None]
    return soonest(*(one.until for one in every), *(lists_end(one, setting) for one in every))


def _not_covered(evidence: Evidence, setting: Setting) -> tuple[str, ...]:
    report = evidence.report
    said = [
        "which host the device sits in: bind it to the host's own evidence by a common nonce",
        "measurements that NVIDIA marks as not active",
    ]
    if report.field(FIRMWARE_ID) is None:
        said.append("the firmware's id, which the report does not name")
    if not setting.revocation:
        said.append("revocation: it was not asked after")
    else:
        said.append("revocation of the firmware's key, for which NVIDIA publishes no list")
    if any(report.trailing):
        said.append(f"{len(report.trailing)} bytes after the report, which nobody signed")
    return tuple(said)
