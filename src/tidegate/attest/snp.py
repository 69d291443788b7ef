"""AMD SEV-SNP: a report held against its chip's certificate and the owner's policy.

The chip's key (VCEK), or the cloud's loaded key (VLEK), signs the report; AMD's certificate for it
says for which chip and which firmware it was derived. Both must be what the report says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from tidegate.attest.appraisal import Appraisal, Claim, Setting, Sheet, freshness, soonest
from tidegate.attest.certificates import Certificate, parse_certificates
from tidegate.attest.chain import Chain, check_chain, lists_end
from tidegate.attest.signatures import ecdsa_verifies, load_key
from tidegate.attest.snp_key import PRODUCT_NAME, Endorsed, endorsed, issued_by_its_line
from tidegate.attest.snp_report import KIND, Product, Report, Signer, Tcb, parse_report, tcb_of
from tidegate.errors import ConfigError

NOT_COVERED: Final = (
    "Whoever holds the machine: an interposer on the memory bus leaves no trace in a report.",
    "Side channels between guests, and the host's right to stop or starve the guest.",
    "What the guest loaded after launch: the measurement covers its first memory alone.",
    "A single VCEK cannot be revoked by a list; AMD retires firmware, so keep the least TCB high.",
)
LOADED_KEY: Final = (
    "With a VLEK the report does not tell one chip from another: it is any chip of that cloud's."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpPolicy:
    """Reference values for SEV-SNP guests.

    `measurements`: launch digests (48 bytes) that are taken. `least_tcb`: the oldest firmware that
    is taken, by product; a product without one cannot be appraised. `allowed`: policy bits that
    may be set: the rest must be clear. `demanded`: policy bits that must be set. `platform`: what
    must be on at the machine (`alias_check`, `ecc`, `tsme`, ...). `chips`: hardware ids that are
    taken, None for any chip of AMD's. `host_data`, `id_keys`, `author_keys`: None where anything
    goes. `signers`: `vcek`, `vlek`. `clouds`: ids of clouds whose VLEK is taken, None for any.
    """

    measurements: frozenset[bytes]
    least_tcb: tuple[tuple[Product, Tcb], ...]
    allowed: frozenset[str] = frozenset({"smt"})
    demanded: frozenset[str] = frozenset()
    platform: frozenset[str] = frozenset()
    vmpls: frozenset[int] = frozenset({0})
    least_guest_svn: int = 0
    chips: frozenset[bytes] | None = None
    host_data: bytes | None = None
    id_keys: frozenset[bytes] | None = None
    author_keys: frozenset[bytes] | None = None
    signers: frozenset[Signer] = frozenset({"vcek"})
    clouds: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if any(len(digest) != 48 for digest in self.measurements):
            raise ConfigError("A launch digest has 48 bytes.", setting="measurements")


@dataclass(frozen=True, slots=True)
class SnpEvidence:
    """A report, the certificate of the key that signed it (if it came along), and other ones."""

    report: Report
    leaf: Certificate | None
    pool: tuple[Certificate, ...]


def parse_snp(report: bytes, certificates: Sequence[bytes]) -> SnpEvidence:
    """A report and the certificates that came along, as files. Raises `EvidenceError`.

    Of several chips' or clouds' certificates the first of the kind that the report names is taken.
    """
    found = parse_report(report)
    parsed = tuple(one for data in certificates for one in parse_certificates(data))
    keys = [(one, endorsed(one).signer) for one in parsed if one.extension(PRODUCT_NAME)]
    named = [one for one, signer in keys if signer == found.signer]
    leaf = next(iter((*named, *(one for one, _ in keys))), None)
    return SnpEvidence(found, leaf, tuple(one for one in parsed if one is not leaf))


def appraise_snp(evidence: SnpEvidence, policy: SnpPolicy, setting: Setting) -> Appraisal:
    """Hold a report against a policy.

    Shows, where it passes, that a genuine AMD processor with firmware no older than asked runs a
    guest that began as one of the measurements, under the settings asked for, and that this guest
    bound the nonce.
    """
    sheet, report = Sheet(), evidence.report
    chain: Chain | None = None
    key: Endorsed | None = None
    if evidence.leaf is None:
        missing = f"the {report.signer.upper()} certificate was not handed in"
        sheet.unknown(f"{report.signer.upper()} chains to a trusted root", missing)
        sheet.unknown("report is signed by that key", missing)
    else:
        key = endorsed(evidence.leaf)
        chain = check_chain(
            sheet,
            key.signer.upper(),
            evidence.leaf,
            evidence.pool,
            setting,
            revocable="authorities",
        )
        _signature(sheet, report, evidence.leaf, key)
        _key(sheet, report, key, chain)
    _firmware(sheet, report, key, policy)
    _guest(sheet, report, policy)
    _machine(sheet, report, key, policy)
    sheet.add("nonce is bound", freshness(report.report_data, setting))
    return Appraisal(
        kind=KIND,
        checks=sheet.done(),
        claims=_claims(report, key),
        bound=report.report_data,
        device=f"snp-chip:{key.hardware_id.hex()}" if key and key.hardware_id else "",
        at=setting.now,
        until=_until(chain, setting),
        not_covered=NOT_COVERED
        + ((LOADED_KEY,) if report.signer == "vlek" else ())
        + (() if setting.revocation else ("Revocation: nobody asked after it.",)),
    )


def _until(chain: Chain | None, setting: Setting) -> datetime | None:
    return soonest(chain.until, lists_end(chain, setting)) if chain else None


def _signature(sheet: Sheet, report: Report, leaf: Certificate, key: Endorsed) -> None:
    who = key.signer.upper()
    sheet.need(
        "report is signed by that key",
        ecdsa_verifies(load_key(leaf.spki), "sha384", report.r, report.s, report.signed),
        f"ECDSA P-384 over {len(report.signed)} bytes verifies under the {who}",
        f"the signature does not verify under the {who}",
    )


def _key(sheet: Sheet, report: Report, key: Endorsed, chain: Chain | None) -> None:
    sheet.need(
        "report names the kind of key that signed",
        report.signer == key.signer,
        f"{key.signer.upper()}",
        f"the report names {report.signer}, the certificate is a {key.signer}'s",
    )
    sheet.need(
        "product is one",
        report.product in (key.product, None)
        and (report.version < 3 or report.product is not None)
        and (chain is None or issued_by_its_line(key, chain)),
        key.product,
        f"the certificate is for {key.product}, the report's processor is "
        f"{'.'.join(f'{part:#x}' for part in report.cpu)}"
        + (f", the chain {' <- '.join(one.name for one in chain.certificates)}" if chain else ""),
    )
    if key.hardware_id is not None:
        _chip(sheet, report, key.hardware_id)
    tcb = tcb_of(report.reported_tcb, key.product)
    sheet.need(
        "key was derived for the reported firmware",
        tcb == key.tcb,
        str(key.tcb),
        f"the certificate says {key.tcb}; the report {tcb or report.reported_tcb.hex()}",
    )


def _chip(sheet: Sheet, report: Report, hardware_id: bytes) -> None:
    """Turin's chip ids have 8 bytes, and the report fills the field with zeros."""
    name = "chip is the certificate's"
    if report.chip_masked:
        sheet.unknown(name, "the host masks CHIP_ID")
        return
    sheet.need(
        name,
        report.chip_id == hardware_id.ljust(64, b"\0"),
        f"CHIP_ID {hardware_id[:8].hex()}... equals the hardware id",
        f"CHIP_ID is {report.chip_id.hex()}, the certificate's {hardware_id.hex()}",
    )


def _firmware(sheet: Sheet, report: Report, key: Endorsed | None, policy: SnpPolicy) -> None:
    product = key.product if key else report.product
    least = dict(policy.least_tcb).get(product) if product else None
    if product is None or least is None:
        sheet.unknown(
            "firmware is new enough",
            f"the policy has no least TCB for {product}" if product else "the product is not known",
        )
        return
    names = ("reported", "launch", "committed", "current")
    raws = (report.reported_tcb, report.launch_tcb, report.committed_tcb, report.current_tcb)
    versions = {name: tcb_of(raw, product) for name, raw in zip(names, raws, strict=True)}
    known = {name: tcb for name, tcb in versions.items() if tcb is not None}
    bad = [name for name in versions if name not in known or not known[name].at_least(least)]
    sheet.need(
        "firmware is new enough",
        not bad,
        f"{known.get('reported')}",
        f"{', '.join(f'{name} ({versions[name]})' for name in bad)}; least: {least}",
    )
    order = [known.get(name) for name in ("reported", "committed", "current")]
    sheet.need(
        "reported firmware is committed, committed firmware is current",
        all(
            newer is not None and older is not None and newer.at_least(older)
            for older, newer in pairwise(order)
        ),
        "reported <= committed <= current",
        f"reported {order[0]}; committed {order[1]}; current {order[2]}",
    )


def _guest(sheet: Sheet, report: Report, policy: SnpPolicy) -> None:
    forbidden = report.policy - policy.allowed - policy.demanded
    missing = policy.demanded - report.policy
    sheet.need(
        "guest policy",
        not forbidden and not missing,
        ", ".join(sorted(report.policy)) or "nothing is allowed to the host",
        "; ".join(
            f"{what}: {', '.join(sorted(bits))}"
            for what, bits in (("allows", forbidden), ("does not demand", missing))
            if bits
        ),
    )
    if policy.measurements:
        _member(sheet, "measurement", report.measurement, policy.measurements)
    else:
        sheet.unknown("measurement", "the policy has no reference value")
    sheet.need(
        "privilege level",
        report.vmpl in policy.vmpls,
        f"VMPL {report.vmpl}",
        f"the report was asked for at VMPL {report.vmpl:#x}",
    )
    sheet.need(
        "guest's security version",
        report.guest_svn >= policy.least_guest_svn,
        str(report.guest_svn),
        f"{report.guest_svn}, at least {policy.least_guest_svn} wanted",
    )
    _member(sheet, "host data", report.host_data, _one(policy.host_data))
    _member(sheet, "identity key", report.id_key_digest, policy.id_keys)
    _member(sheet, "author key", report.author_key_digest, policy.author_keys)


def _machine(sheet: Sheet, report: Report, key: Endorsed | None, policy: SnpPolicy) -> None:
    sheet.need(
        "kind of key is taken",
        report.signer in policy.signers,
        report.signer.upper(),
        f"the report is signed by a {report.signer}, taken: {', '.join(sorted(policy.signers))}",
    )
    missing = policy.platform - report.platform
    sheet.need(
        "platform",
        not missing,
        ", ".join(sorted(report.platform)) or "nothing is on",
        f"not on at the machine: {', '.join(sorted(missing))}",
    )
    if policy.chips is not None:
        hardware = key.hardware_id if key else None
        if hardware is None:
            sheet.unknown("chip is one of ours", "no certificate names the chip")
        else:
            _member(sheet, "chip is one of ours", hardware, policy.chips)
    if report.signer == "vlek" and policy.clouds is not None:
        cloud = key.csp_id if key else None
        if cloud is None:
            sheet.unknown("cloud", "no certificate names the cloud")
        else:
            sheet.need("cloud", cloud in policy.clouds, cloud, f"{cloud} is not taken")


def _one(value: bytes | None) -> frozenset[bytes] | None:
    return None if value is None else frozenset({value})


def _member(sheet: Sheet, name: str, found: bytes, wanted: frozenset[bytes] | None) -> None:
    if wanted is not None:
        sheet.need(name, found in wanted, found.hex(), f"{found.hex()} is no reference value")


def _claims(report: Report, key: Endorsed | None) -> tuple[Claim, ...]:
    claims = [
        Claim("version", str(report.version)),
        Claim("measurement", report.measurement.hex()),
        Claim("report_data", report.report_data.hex()),
        Claim("host_data", report.host_data.hex()),
        Claim("policy", " ".join(sorted(report.policy))),
        Claim("platform", " ".join(sorted(report.platform))),
        Claim("vmpl", str(report.vmpl)),
        Claim("guest_svn", str(report.guest_svn)),
        Claim("signer", report.signer),
        Claim("chip_id", report.chip_id.hex()),
        Claim("id_key_digest", report.id_key_digest.hex()),
        Claim("author_key_digest", report.author_key_digest.hex()),
        Claim("firmware", ".".join(map(str, report.current_firmware))),
    ]
    if key is not None:
        claims += [Claim("product", key.product), Claim("tcb", str(key.tcb))]
        if key.csp_id is not None:
            claims.append(Claim("cloud", key.csp_id))
    return tuple(claims)
