"""Which TCB level a platform, its TDX module and its quoting enclave reach. Pure.

After Intel's "SGX and TDX services" API, section "TCB level": levels are gone through in the order
that Intel signed, best first; the first whose every security version is reached is the platform's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tidegate.attest.dcap_collateral import Component, IsvLevel, ModuleIdentity, Status, TcbInfo
from tidegate.attest.dcap_pck import Platform
from tidegate.attest.dcap_quote import TdReport

_STALE: Final[dict[Status, Status]] = {
    "UpToDate": "OutOfDate",
    "SWHardeningNeeded": "OutOfDate",
    "ConfigurationNeeded": "OutOfDateConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded": "OutOfDateConfigurationNeeded",
}
"""What a status becomes where a part of it is out of date."""


@dataclass(frozen=True, slots=True)
class Level:
    """A status, the day that it is a status of, and the advisories that it leaves open."""

    status: Status
    date: str
    advisories: tuple[str, ...]


def platform_level(info: TcbInfo, platform: Platform, body: TdReport | None) -> Level | None:
    """The level of a platform; of its TDX too where a trust domain's report is given.

    Byte 1 of the report's TEE TCB SVN is the TDX module's version. From version 1 on the module is
    judged by its own identity, so that the first two components are left to `module_level`.
    """
    for level in info.levels:
        if platform.pce_svn < level.tcb.pcesvn:
            continue
        if not _reaches(platform.components, level.tcb.sgxtcbcomponents):
            continue
        if body is not None:
            wanted = level.tcb.tdxtcbcomponents
            first = 2 if body.tee_tcb_svn[1] else 0
            if wanted is None or not _reaches(body.tee_tcb_svn[first:], wanted[first:]):
                continue
        return Level(level.status, level.date, level.advisories)
    return None


def _reaches(found: Sequence[int], wanted: Sequence[Component]) -> bool:
    return all(have >= need.svn for have, need in zip(found, wanted, strict=True))


def module_of(info: TcbInfo, body: TdReport) -> ModuleIdentity | None:
    """The identity that the TDX module of a report is to have; None where Intel names none."""
    version = body.tee_tcb_svn[1]
    if version == 0:
        return info.module
    wanted = f"TDX_{version:02X}"
    return next((one for one in info.modules if one.id.upper() == wanted), None)


def isv_level(levels: Sequence[IsvLevel], isv_svn: int) -> Level | None:
    """The level of an enclave or module of that security version."""
    for level in levels:
        if isv_svn >= level.tcb.isvsvn:
            return Level(level.status, level.date, level.advisories)
    return None


def converged(platform: Level, *parts: Level) -> Level:
    """The level of a platform whose parts (quoting enclave, TDX module) have levels of their own.

    A part that is out of date makes the whole so; one that is revoked revokes it.
    """
    status = platform.status
    for part in parts:
        if "Revoked" in (part.status, status):
            status = "Revoked"
        elif part.status != "UpToDate":
            status = _STALE.get(status, status)
    advisories = dict.fromkeys(
        advisory for level in (platform, *parts) for advisory in level.advisories
    )
    return Level(status, min(level.date for level in (platform, *parts)), tuple(advisories))
