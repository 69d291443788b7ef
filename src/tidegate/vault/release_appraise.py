"""Evidence held against reference values in files, one a host; any kind that `attest` knows.

A host's file names the roots it is trusted under, its revocation lists, and the section of its
kind. Its SHA-256 is what a policy calls the host's `reference`: who approves a request, approves
these very values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from tidegate.attest.appraisal import Setting
from tidegate.attest.kinds import Companions, kind_named
from tidegate.errors import ConfigError
from tidegate.vault.grant_commands import Evidence
from tidegate.vault.grant_policy import Hash, Host


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A host's file, JSON. `roots`: SHA-256, hex, of keys of roots beyond those of the makers;
    `certificates`, `crls`: PEM; `others`: texts that makers published, such as Intel's collateral
    and NVIDIA's reference values; `revocation`: whether to ask after it at all."""

    kind: str
    section: dict[str, Any]
    roots: tuple[Hash, ...] = ()
    certificates: tuple[str, ...] = ()
    crls: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    revocation: bool = True


class FileAppraiser:
    """An `Appraiser` over the files' contents."""

    def __init__(self, files: Iterable[bytes]) -> None:
        self._files = {hashlib.sha256(raw).hexdigest(): _read(raw) for raw in files}

    def appraise(self, host: Host, evidence: bytes, bound: bytes, now: datetime) -> Evidence:
        found = self._files.get(host.reference)
        kind = kind_named(host.kind)
        if found is None or kind is None or found.kind != host.kind:
            raise ConfigError(
                f"There are no reference values {host.reference[:16]} of kind {host.kind} for "
                f"{host.name}; put its file back, or change the policy.",
                host=host.name,
            )
        setting = Setting(
            now=now,
            nonce=bound,
            roots=kind.roots | {bytes.fromhex(root) for root in found.roots},
            crls=tuple(pem.encode() for pem in found.crls),
            revocation=found.revocation,
        )
        along = Companions(
            certificates=tuple(pem.encode() for pem in found.certificates),
            others=tuple(text.encode() for text in found.others),
        )
        appraisal = kind.appraise(evidence, along, found.section, setting)
        return Evidence(appraisal, host.reference, hashlib.sha256(evidence).hexdigest())


def _read(raw: bytes) -> Reference:
    try:
        return msgspec.json.decode(raw, type=Reference)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"A file of reference values cannot be read: {error}") from error
