"""The sections `[nvidia]` and `[host]` of a policy file. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from tidegate.attest.host import HostPolicy
from tidegate.attest.nvidia import NvidiaPolicy
from tidegate.attest.roots import NVIDIA_DEVICES, NVIDIA_RIMS
from tidegate.attest.sections import Hex, Section, Struct, section_of

_Count = Annotated[int, msgspec.Meta(ge=0, le=128)]


class _Nvidia(Struct):
    drivers: tuple[str, ...] = ()
    firmware: tuple[str, ...] = ()
    rim_roots: list[Hex] | None = None
    revocation: bool = True
    trailing: bool = False


class _Host(Struct):
    cpu: dict[str, object]
    gpus: _Count
    switches: _Count = 0
    devices: _Nvidia = msgspec.field(default_factory=_Nvidia)
    binding: Literal["devices", "nonce"] = "devices"
    known: list[Hex] | None = None
    device_roots: list[Hex] | None = None
    mixed: bool = False


@dataclass(frozen=True, slots=True)
class HostSection:
    """The host's own policy, and the section of its CPU, whose kind the evidence decides."""

    policy: HostPolicy
    cpu: Section


def nvidia_policy(section: Section) -> NvidiaPolicy:
    """The policy that `[nvidia]` writes down. Raises `ConfigError`."""
    return _nvidia(section_of(section, _Nvidia, "nvidia"))


def host_policy(section: Section) -> HostSection:
    """The policy that `[host]` writes down; its CPU's is `[host.cpu]`, as for that kind alone."""
    found = section_of(section, _Host, "host")
    policy = HostPolicy(
        devices=_nvidia(found.devices),
        gpus=found.gpus,
        switches=found.switches,
        binding=found.binding,
        known=None if found.known is None else frozenset(map(bytes.fromhex, found.known)),
        roots=_roots(found.device_roots, NVIDIA_DEVICES),
        mixed=found.mixed,
    )
    return HostSection(policy, found.cpu)


def _nvidia(found: _Nvidia) -> NvidiaPolicy:
    return NvidiaPolicy(
        drivers=frozenset(found.drivers),
        firmware=frozenset(found.firmware),
        rim_roots=_roots(found.rim_roots, NVIDIA_RIMS),
        revocation=found.revocation,
        trailing=found.trailing,
    )


def _roots(found: list[str] | None, otherwise: frozenset[bytes]) -> frozenset[bytes]:
    return otherwise if found is None else frozenset(map(bytes.fromhex, found))
