"""The kinds of evidence, and which of them a file is. Pure.

A host's evidence comes as one file of a kind and companions: certificates, and what else the maker
publishes. Each kind says how its file is recognised and how it is appraised; a new kind is one row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from tidegate.attest import roots
from tidegate.attest.appraisal import Appraisal, Setting
from tidegate.attest.azure import appraise_azure, parse_azure
from tidegate.attest.certificates import parse_certificates
from tidegate.attest.errors import EvidenceError
from tidegate.attest.files_dcap import appraise_quote, tee_of
from tidegate.attest.files_nvidia import (
    appraise_devices,
    appraise_host_file,
    is_eat,
    is_host,
    is_nvidia,
)
from tidegate.attest.nvidia import appraise_rim
from tidegate.attest.nvidia_eat import appraise_eat, parse_eat
from tidegate.attest.nvidia_rim import parse_rim
from tidegate.attest.sections import Section, azure_policy, snp_policy, tpm_policy
from tidegate.attest.sections_dcap import sgx_policy, tdx_policy
from tidegate.attest.sections_nvidia import host_policy, nvidia_policy
from tidegate.attest.snp import appraise_snp, parse_snp
from tidegate.attest.snp_report import SIZE, VERSIONS
from tidegate.attest.tpm import appraise_tpm
from tidegate.attest.tpm_evidence import FORMAT, parse_tpm


@dataclass(frozen=True, slots=True)
class Companions:
    """What came along with a file of evidence: certificates (PEM or DER), and other files."""

    certificates: tuple[bytes, ...] = ()
    others: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind. `section`: its part of a policy file. `roots`: which are trusted unless a policy
    names others. `appraise` raises `EvidenceError` or, for the policy, `ConfigError`.
    """

    name: str
    title: str
    section: str
    roots: frozenset[bytes]
    recognise: Callable[[bytes], bool]
    appraise: Callable[[bytes, Companions, Section, Setting], Appraisal]


def is_snp(data: bytes) -> bool:
    """A report as it is: its size and a version that is known."""
    return len(data) == SIZE and int.from_bytes(data[:4], "little") in VERSIONS


def is_azure(data: bytes) -> bool:
    return data.lstrip()[:1] == b"{" and b'"hcl_report"' in data


def is_tpm(data: bytes) -> bool:
    """Our own format, or Trustee's for TPMs, which names itself nowhere."""
    named = FORMAT.encode() in data or (b'"tpm_quote"' in data and b'"ak_public"' in data)
    return data.lstrip()[:1] == b"{" and named and not is_azure(data)


def _snp(data: bytes, along: Companions, section: Section, setting: Setting) -> Appraisal:
    return appraise_snp(parse_snp(data, along.certificates), snp_policy(section), setting)


def _azure(data: bytes, along: Companions, section: Section, setting: Setting) -> Appraisal:
    return appraise_azure(parse_azure(data, along.certificates), azure_policy(section), setting)


def _tpm(data: bytes, along: Companions, section: Section, setting: Setting) -> Appraisal:
    evidence = parse_tpm(data)
    pool = tuple(one for file in along.certificates for one in parse_certificates(file))
    return appraise_tpm(
        replace(evidence, pool=(*evidence.pool, *pool)), tpm_policy(section), setting
    )


def is_tdx(data: bytes) -> bool:
    return tee_of(data) == "tdx"


def is_sgx(data: bytes) -> bool:
    return tee_of(data) == "sgx"


def _tdx(data: bytes, along: Companions, section: Section, setting: Setting) -> Appraisal:
    return appraise_quote(data, along.others, tdx_policy(section), setting)


def _sgx(data: bytes, along: Companions, section: Section, setting: Setting) -> Appraisal:
    return appraise_quote(data, along.others, sgx_policy(section), setting)


def _nvidia(data: bytes, along: Companions, section: Section, setting: Setting) -> Appraisal:
    return appraise_devices(data, along.certificates, along.others, nvidia_policy(section), setting)


def _never(data: bytes) -> bool:
    """Reference values are companions of evidence; whoever asks for them by name may have them."""
    del data
    return False


def _rim(data: bytes, along: Companions, section: Section, setting: Setting) -> Appraisal:
    del along, section
    return appraise_rim(parse_rim(data), setting)


def _eat(data: bytes, along: Companions, section: Section, setting: Setting) -> Appraisal:
    del along, section
    return appraise_eat(parse_eat(data), setting)


def _host(data: bytes, along: Companions, section: Section, setting: Setting) -> Appraisal:
    found = host_policy(section)

    def cpu_of(cpu: bytes, others: tuple[bytes, ...]) -> Callable[[Setting], Appraisal]:
        kind = kind_of(cpu)
        if kind is None or kind.name not in CPUS:
            raise EvidenceError("host", "cpu", f"is none of {', '.join(sorted(CPUS))}")
        strange = MAKERS - kind.roots
        came = replace(along, others=others)
        return lambda asked: kind.appraise(
            cpu, came, found.cpu, replace(asked, roots=asked.roots - strange)
        )

    return appraise_host_file(data, along.others, found.policy, setting, cpu_of)


CPUS: Final = frozenset({"snp", "azure-snp-vtpm", "tdx"})
"""Kinds of evidence of a CPU that a host's devices can be bound to."""
MAKERS: Final = roots.AMD | roots.INTEL
"""Of CPUs; each kind trusts its own alone."""

KINDS: Final = (
    Kind(
        name="snp",
        title="AMD SEV-SNP report",
        section="snp",
        roots=roots.AMD,
        recognise=is_snp,
        appraise=_snp,
    ),
    Kind(
        name="azure-snp-vtpm",
        title="Azure confidential VM: SEV-SNP and virtual TPM",
        section="azure",
        roots=roots.AMD,
        recognise=is_azure,
        appraise=_azure,
    ),
    Kind(
        name="tpm",
        title="TPM 2.0 quote",
        section="tpm",
        roots=frozenset(),
        recognise=is_tpm,
        appraise=_tpm,
    ),
    Kind(
        name="tdx",
        title="Intel TDX quote",
        section="tdx",
        roots=roots.INTEL,
        recognise=is_tdx,
        appraise=_tdx,
    ),
    Kind(
        name="sgx",
        title="Intel SGX quote",
        section="sgx",
        roots=roots.INTEL,
        recognise=is_sgx,
        appraise=_sgx,
    ),
    Kind(
        name="nvidia",
        title="NVIDIA GPUs and NVSwitches",
        section="nvidia",
        roots=roots.NVIDIA_DEVICES,
        recognise=is_nvidia,
        appraise=_nvidia,
    ),
    Kind(
        name="nvidia-rim",
        title="NVIDIA reference values",
        section="nvidia",
        roots=roots.NVIDIA_RIMS,
        recognise=_never,
        appraise=_rim,
    ),
    Kind(
        name="nvidia-eat",
        title="NVIDIA detached EAT",
        section="nvidia",
        roots=frozenset(),
        recognise=is_eat,
        appraise=_eat,
    ),
    Kind(
        name="host",
        title="a host: CPU, GPUs and switches",
        section="host",
        roots=MAKERS,
        recognise=is_host,
        appraise=_host,
    ),
)


def kind_of(data: bytes) -> Kind | None:
    """Which kind of evidence a file is, or None for a companion."""
    return next((kind for kind in KINDS if kind.recognise(data)), None)


def kind_named(name: str) -> Kind | None:
    return next((kind for kind in KINDS if kind.name == name), None)
