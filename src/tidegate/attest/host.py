"""One host: its CPU's evidence and that of its GPUs and switches, appraised together. Pure.

Every device says that it is genuine, none says where it sits. What ties them to a host is the
guest that the CPU measured: it asks every device with the verifier's nonce, and has the CPU bind
the nonce together with all that they answered. A device's evidence that was fetched elsewhere was
then put there by measured code, or does not fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from tidegate.attest.appraisal import Appraisal, Setting, Sheet, soonest
from tidegate.attest.nvidia import NvidiaPolicy, appraise
from tidegate.attest.nvidia_evidence import Evidence
from tidegate.attest.nvidia_rim import Rim
from tidegate.attest.outcome import CannotVerify, Fail, Outcome, Pass, combined
from tidegate.attest.roots import NVIDIA_DEVICES

KIND: Final = "host"
DOMAIN: Final = b"tidegate host evidence v1\n"
NONCE: Final = 32
"""Bytes of a nonce that devices are asked with (SPDM 1.1)."""

Binding = Literal["devices", "nonce"]
"""What the CPU must bind: the nonce and all that the devices said, or the nonce alone, which shows
that all evidence is fresh and not that it is of one host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPolicy:
    """What a host has to be. `gpus`, `switches`: how many of each, exactly.

    `devices`: what each has to say. `binding`: what the CPU must bind. `known`: the hashes of the
    burnt-in device keys that belong to this host, None where any do. `roots`: of devices. `mixed`:
    whether its GPUs may be of several chips, drivers or firmwares.
    """

    devices: NvidiaPolicy
    gpus: int
    switches: int = 0
    binding: Binding = "devices"
    known: frozenset[bytes] | None = None
    roots: frozenset[bytes] = NVIDIA_DEVICES
    mixed: bool = False


def bound_value(nonce: bytes, devices: Sequence[Evidence]) -> bytes:
    """What the CPU's evidence must bind: SHA-256 of nonce and reports, in order of device key.

    Each part is preceded by its length in 8 bytes, so that no two lists give the same bytes.
    """
    ordered = sorted(devices, key=lambda one: (one.device, one.report.signed))
    digest = hashlib.sha256(DOMAIN)
    for part in (nonce, *(one.report.signed + one.report.signature for one in ordered)):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def appraise_host(
    cpu: Callable[[Setting], Appraisal] | None,
    devices: Sequence[Evidence],
    policy: HostPolicy,
    setting: Setting,
    rims: Sequence[Rim] = (),
) -> Appraisal:
    """Appraise a host's CPU and every one of its devices; all must pass, together.

    `cpu`: appraises the CPU's evidence in a setting, whose nonce is then what it must bind; None
    where there is none. `setting.nonce` (32 bytes) is the verifier's, `setting.roots` the CPU's.
    """
    sheet = Sheet()
    nonce = setting.nonce
    asked = replace(setting, roots=policy.roots)
    parts = [appraise(one, policy.devices, asked, rims) for one in devices]
    wanted = nonce
    if nonce is not None and policy.binding == "devices":
        wanted = bound_value(nonce, devices)
    own = cpu(replace(setting, nonce=wanted)) if cpu is not None else None
    sheet.add("CPU's evidence holds", own.outcome if own else Fail("there is none"))
    sheet.add("every device's evidence holds", _every(parts))
    gpus = [part for part in parts if part.kind == "nvidia-gpu"]
    switches = [part for part in parts if part.kind == "nvidia-switch"]
    counted = (len(gpus), len(switches))
    sheet.need(
        "devices are as many as they should be",
        counted == (policy.gpus, policy.switches),
        f"{counted[0]} GPUs, {counted[1]} switches",
        f"{counted[0]} GPUs and {counted[1]} switches, not {policy.gpus} and {policy.switches}",
    )
    sheet.add("no device is counted twice", _once(devices, policy))
    sheet.add("GPUs are alike", _alike(gpus, policy))
    sheet.add("links lead to one another and nowhere else", linked(devices))
    sheet.add("one nonce binds them all", _one_nonce(nonce, devices, own, policy))
    every = parts if own is None else [own, *parts]
    return Appraisal(
        kind=KIND,
        checks=sheet.done(),
        claims=own.claims if own else (),
        bound=_bound(devices),
        device=own.device if own else "",
        at=setting.now,
        until=soonest(*(part.until for part in every)),
        not_covered=_not_covered(policy, every),
        parts=tuple(every),
    )


def _bound(devices: Sequence[Evidence]) -> bytes:
    """What the host as a whole binds: the nonce that every device was asked with, which the CPU
    binds too, by itself or together with what they said."""
    nonces = {one.report.nonce for one in devices}
    return nonces.pop() if len(nonces) == 1 else b""


def _every(parts: Sequence[Appraisal]) -> Outcome:
    if not parts:
        return Fail("there is none")
    found = combined(tuple(part.outcome for part in parts))
    if isinstance(found, Pass):
        return Pass(f"{len(parts)} devices")
    bad = [
        f"{part.kind} {part.claim('pdi') or part.device}: {part.outcome.text}"
        for part in parts
        if isinstance(part.outcome, type(found))
    ]
    return type(found)("; ".join(bad))


def _once(devices: Sequence[Evidence], policy: HostPolicy) -> Outcome:
    """Whether every device has a key and a name of its own, and belongs to this host."""
    keys = [one.device for one in devices]
    names = [one.pdi for one in devices if one.pdi is not None]
    if len(set(keys)) < len(keys) or len(set(names)) < len(names):
        return Fail("one device's evidence is there more than once")
    strange = [key.hex() for key in keys if policy.known is not None and key not in policy.known]
    if strange:
        return Fail(f"not of this host: device key {', '.join(strange)}")
    return Pass(f"{len(keys)} device keys")


def _alike(gpus: Sequence[Appraisal], policy: HostPolicy) -> Outcome:
    names = ("chip", "driver", "firmware")
    kinds = {tuple(part.claim(name) or "none" for name in names) for part in gpus}
    if len(kinds) > 1 and not policy.mixed:
        return Fail("they are mixed: " + "; ".join(" ".join(kind) for kind in sorted(kinds)))
    return Pass("; ".join(" ".join(kind) for kind in sorted(kinds)) or "there is none")


def linked(devices: Sequence[Evidence]) -> Outcome:
    """Whether GPUs' links lead to the switches at hand, all of them, and the other way round.

    Reports name what the links lead to only where the links are protected; where none does, there
    is nothing to compare.
    """
    gpus = {one.pdi for one in devices if not one.report.is_switch}
    switches = {one.report.own_pdi for one in devices if one.report.is_switch}
    if any(one.report.is_switch and one.report.own_pdi != one.pdi for one in devices):
        return Fail("a switch's report names another device than its certificate")
    named = [one for one in devices if one.report.peers]
    if not named and not switches:
        return Pass("no report names any")
    for one in devices:
        others: set[bytes | None] = gpus if one.report.is_switch else switches
        if one.report.peers != others:
            missing = sorted(peer.hex() for peer in one.report.peers - others)
            wrong = f"to {', '.join(missing)}, not here" if missing else "not to every one here"
            return Fail(f"the links of {(one.pdi or b'').hex()} lead {wrong}")
    return Pass(f"{len(gpus)} GPUs and {len(switches)} switches name each other")


def _one_nonce(
    nonce: bytes | None, devices: Sequence[Evidence], own: Appraisal | None, policy: HostPolicy
) -> Outcome:
    if nonce is None:
        return CannotVerify("no nonce was handed in, so this may be evidence of several days")
    if len(nonce) != NONCE:
        return Fail(f"devices are asked with {NONCE} bytes, the nonce has {len(nonce)}")
    if own is None:
        return Fail("there is no CPU to bind it")
    if any(one.report.nonce != nonce for one in devices):
        return Fail("a device was asked with another nonce")
    said = " and what every device said" if policy.binding == "devices" else ""
    wanted = bound_value(nonce, devices) if policy.binding == "devices" else nonce
    if own.bound[: len(wanted)] != wanted:
        return Fail(f"the CPU does not bind the nonce{said}")
    return Pass(f"the CPU binds the nonce{said}")


def _not_covered(policy: HostPolicy, every: Sequence[Appraisal]) -> tuple[str, ...]:
    said = [line for part in every for line in part.not_covered]
    if policy.binding == "nonce":
        said.append("that the devices sit in this host: the CPU binds the nonce alone")
    if policy.binding == "devices":
        said.append("a guest that binds other devices than its own: pin the guest's measurement")
    return tuple(dict.fromkeys(said))
