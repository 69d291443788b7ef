"""Policies written down: the sections `[snp]`, `[azure]` and `[tpm]` of a policy file. Pure.

Bytes are hex. What a section may hold is a closed grammar: a word that is not known is an error,
since a reference value that is passed over would be one that is never compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

import msgspec

from tidegate.attest.azure import AzurePolicy
from tidegate.attest.snp import SnpPolicy
from tidegate.attest.snp_report import PLATFORM, POLICY, Product, Tcb
from tidegate.attest.tpm import Enrolment, TpmPolicy
from tidegate.attest.tpm_quote import QuotePolicy, Register
from tidegate.errors import ConfigError

Section = Mapping[str, object]
Hex = Annotated[str, msgspec.Meta(pattern="^([0-9a-fA-F]{2})+$")]
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
_RegisterNumber = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,2}$")]
_Registers = dict[Literal["sha256", "sha384", "sha512"], dict[_RegisterNumber, list[Hex]]]

_Shape = TypeVar("_Shape")


class Struct(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections: unknown words are an error."""


class _Tcb(Struct):
    bootloader: Byte
    tee: Byte
    snp: Byte
    microcode: Byte
    fmc: Byte = 0


class _Snp(Struct):
    measurements: list[Hex] = []
    least_tcb: dict[Product, _Tcb] = {}
    allowed: tuple[str, ...] = ("smt",)
    demanded: tuple[str, ...] = ()
    platform: tuple[str, ...] = ()
    vmpls: tuple[Annotated[int, msgspec.Meta(ge=0, le=3)], ...] = (0,)
    least_guest_svn: int = 0
    chips: list[Hex] | None = None
    host_data: Hex | None = None
    id_keys: list[Hex] | None = None
    author_keys: list[Hex] | None = None
    signers: tuple[Literal["vcek", "vlek"], ...] = ("vcek",)
    clouds: list[str] | None = None


class _Azure(Struct):
    report: _Snp = msgspec.field(default_factory=_Snp)
    registers: _Registers = {}
    machines: list[str] | None = None
    secure_boot: bool = True
    least_firmware: int = 0


class _Enrolment(Struct):
    ek: Hex
    ak_name: Hex
    secret: Hex


class _Tpm(Struct):
    registers: _Registers = {}
    hosts: list[Hex] | None = None
    known: dict[Hex, Hex] = {}
    enrolment: _Enrolment | None = None
    least_firmware: int = 0
    boot: tuple[int, int] | None = None
    log: bool = False


def section_of(section: Section, shape: type[_Shape], name: str) -> _Shape:
    """The section as that shape. Raises `ConfigError` naming what does not belong."""
    try:
        return msgspec.convert(section, type=shape)
    except msgspec.ValidationError as error:
        raise ConfigError(f"In the policy's [{name}]: {error}", setting=name) from error


def snp_policy(section: Section) -> SnpPolicy:
    """The policy that `[snp]` writes down. Raises `ConfigError`."""
    return _snp(section_of(section, _Snp, "snp"), "snp")


def azure_policy(section: Section) -> AzurePolicy:
    """The policy that `[azure]` writes down; its report's is `[azure.report]`."""
    found = section_of(section, _Azure, "azure")
    return AzurePolicy(
        snp=_snp(found.report, "azure.report"),
        quote=QuotePolicy(
            registers=_registers(found.registers), least_firmware=found.least_firmware
        ),
        machines=None if found.machines is None else frozenset(found.machines),
        secure_boot=found.secure_boot,
    )


def tpm_policy(section: Section) -> TpmPolicy:
    """The policy that `[tpm]` writes down."""
    found = section_of(section, _Tpm, "tpm")
    made = found.enrolment
    return TpmPolicy(
        quote=QuotePolicy(
            registers=_registers(found.registers),
            least_firmware=found.least_firmware,
            boot=found.boot,
            log=found.log,
        ),
        enrolment=None if made is None else Enrolment(*map(bytes.fromhex, _fields(made))),
        known=tuple((bytes.fromhex(ak), bytes.fromhex(ek)) for ak, ek in found.known.items()),
        hosts=_set(found.hosts),
    )


def _fields(made: _Enrolment) -> tuple[str, str, str]:
    return made.ek, made.ak_name, made.secret


def _snp(found: _Snp, name: str) -> SnpPolicy:
    _known(name, "allowed", found.allowed, frozenset(POLICY.values()))
    _known(name, "demanded", found.demanded, frozenset(POLICY.values()))
    _known(name, "platform", found.platform, frozenset(PLATFORM.values()))
    return SnpPolicy(
        measurements=_set(found.measurements) or frozenset(),
        least_tcb=tuple(
            (product, Tcb(**msgspec.structs.asdict(tcb)))
            for product, tcb in found.least_tcb.items()
        ),
        allowed=frozenset(found.allowed),
        demanded=frozenset(found.demanded),
        platform=frozenset(found.platform),
        vmpls=frozenset(found.vmpls),
        least_guest_svn=found.least_guest_svn,
        chips=_set(found.chips),
        host_data=None if found.host_data is None else bytes.fromhex(found.host_data),
        id_keys=_set(found.id_keys),
        author_keys=_set(found.author_keys),
        signers=frozenset(found.signers),
        clouds=None if found.clouds is None else frozenset(found.clouds),
    )


def _known(section: str, word: str, names: tuple[str, ...], known: frozenset[str]) -> None:
    unknown = sorted(set(names) - known)
    if unknown:
        raise ConfigError(
            f"In the policy's [{section}]: {word} has {unknown[0]!r}; known are "
            f"{', '.join(sorted(known))}.",
            setting=f"{section}.{word}",
        )


def _set(values: list[str] | None) -> frozenset[bytes] | None:
    return None if values is None else frozenset(map(bytes.fromhex, values))


def _registers(found: _Registers) -> tuple[Register, ...]:
    return tuple(
        Register(bank, int(number), frozenset(map(bytes.fromhex, values)))
        for bank, numbers in found.items()
        for number, values in numbers.items()
    )
