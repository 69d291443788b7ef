"""The sections `[tdx]` and `[sgx]` of a policy file. Pure."""

from __future__ import annotations

import msgspec

from tidegate.attest.dcap_checks import DcapPolicy
from tidegate.attest.dcap_collateral import Status
from tidegate.attest.references import Reference
from tidegate.attest.sections import Hex, Section, Struct, section_of


class _Dcap(Struct):
    """What both have."""

    statuses: tuple[Status, ...] = ("UpToDate",)
    least_evaluation: int = 0
    trailing: bool = False


class _Tdx(_Dcap):
    """Lists of the values that are taken, by register; one without a list is not compared."""

    mrtd: list[Hex] | None = None
    rtmr0: list[Hex] | None = None
    rtmr1: list[Hex] | None = None
    rtmr2: list[Hex] | None = None
    rtmr3: list[Hex] | None = None
    mrconfigid: list[Hex] | None = None
    mrowner: list[Hex] | None = None
    mrownerconfig: list[Hex] | None = None
    sept_ve_disable: bool = True
    service_domains: tuple[Hex, ...] = ()


class _Sgx(_Dcap):
    mrenclave: list[Hex] | None = None
    mrsigner: list[Hex] | None = None
    config_id: list[Hex] | None = None
    isv_prod_id: list[Hex] | None = None


_REGISTERS = {
    "tdx": ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid", "mrowner", "mrownerconfig"),
    "sgx": ("mrenclave", "mrsigner", "config_id", "isv_prod_id"),
}


def tdx_policy(section: Section) -> DcapPolicy:
    """The policy that `[tdx]` writes down. Raises `ConfigError`."""
    found = section_of(section, _Tdx, "tdx")
    return DcapPolicy(
        references=_references(found, "tdx"),
        statuses=frozenset(found.statuses),
        least_evaluation=found.least_evaluation,
        sept_ve_disable=found.sept_ve_disable,
        service_domains=frozenset(map(bytes.fromhex, found.service_domains)),
        trailing=found.trailing,
    )


def sgx_policy(section: Section) -> DcapPolicy:
    """The policy that `[sgx]` writes down. Raises `ConfigError`."""
    found = section_of(section, _Sgx, "sgx")
    return DcapPolicy(
        references=_references(found, "sgx"),
        statuses=frozenset(found.statuses),
        least_evaluation=found.least_evaluation,
        trailing=found.trailing,
    )


def _references(found: _Dcap, name: str) -> tuple[Reference, ...]:
    lists: dict[str, list[str] | None] = msgspec.structs.asdict(found)
    return tuple(
        Reference(register, frozenset(map(bytes.fromhex, lists[register] or ())))
        for register in _REGISTERS[name]
        if lists[register] is not None
    )
