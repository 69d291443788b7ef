"""Certificate chains to a root that is trusted by its key, as checks (RFC 5280, section 6). Pure.

Roots are named by the SHA-256 of their key. The certificate of the root itself is taken from what
was handed in; it counts only where its key has a trusted hash and its own signature verifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from tidegate.attest.appraisal import Setting, Sheet, in_date, soonest
from tidegate.attest.certificates import (
    BASIC_CONSTRAINTS,
    CRL_SIGN,
    EXTENDED_KEY_USAGE,
    KEY_CERT_SIGN,
    KEY_USAGE,
    SUBJECT_ALT_NAME,
    Certificate,
    RevocationList,
    name_text,
    parse_revocation_lists,
)
from tidegate.attest.errors import EvidenceError
from tidegate.attest.outcome import CannotVerify, Fail, Outcome, Pass, combined
from tidegate.attest.signatures import algorithm_of, load_key, verifies

LONGEST: Final = 8
"""Certificates in a chain; the deepest genuine one (a GPU's) has five."""

UNDERSTOOD: Final = frozenset({BASIC_CONSTRAINTS, KEY_USAGE, SUBJECT_ALT_NAME, EXTENDED_KEY_USAGE})
"""Critical extensions that do not make a certificate unusable. Alternative names are not used, and
what a key may be used for beyond issuing is the appraiser's to ask."""

Revocable = Literal["every", "authorities"]
"""Which certificates below the root must be on a revocation list's watch: all, or all but the leaf,
where the maker publishes no list for leaves."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Certificates from the leaf to the trusted root, each signed by the next."""

    certificates: tuple[Certificate, ...]

    @property
    def leaf(self) -> Certificate:
        return self.certificates[0]

    @property
    def root(self) -> Certificate:
        return self.certificates[-1]

    @property
    def until(self) -> datetime:
        """When the first certificate of the chain expires."""
        return min(certificate.not_after for certificate in self.certificates)


def signed_by(issuer: Certificate, algorithm: bytes, signature: bytes, tbs: bytes) -> bool:
    """Whether the issuer's key made that signature; an algorithm that is not taken did not."""
    try:
        scheme, digest = algorithm_of(algorithm, "certificate")
    except EvidenceError:
        return False
    return verifies(load_key(issuer.spki), scheme, digest, signature, tbs)


def check_chain(
    sheet: Sheet,
    what: str,
    leaf: Certificate,
    pool: Sequence[Certificate],
    setting: Setting,
    *,
    revocable: Revocable = "every",
) -> Chain | None:
    """Note whether `leaf` leads to a trusted root, is in date, and is not revoked.

    `what` names the leaf in the checks; `pool` holds the other certificates that came along, in
    any order. Returns the chain, or None where none leads to a root. A chain that is returned is
    one whose signatures hold: the rest is in the checks.
    """
    found = find_chain(leaf, pool, setting.roots)
    name = f"{what} chains to a trusted root"
    if not isinstance(found, Chain):
        sheet.add(name, found)
        return None
    sheet.add(name, Pass(" <- ".join(certificate.name for certificate in found.certificates)))
    sheet.add(
        f"{what} chain is in date",
        _first_failure(
            [
                in_date(one.not_before, one.not_after, setting.now, one.name)
                for one in found.certificates
            ],
            f"all of it until {found.until:%Y-%m-%d}",
        ),
    )
    if setting.revocation:
        sheet.add(f"{what} chain is not revoked", revocation(found, setting, revocable))
    return found


def find_chain(
    leaf: Certificate, pool: Sequence[Certificate], roots: frozenset[bytes]
) -> Chain | Fail | CannotVerify:
    """The chain from `leaf` to a certificate whose key is a trusted root's, or why there is none.

    A certificate missing from the pool leaves the question open; a signature that does not hold,
    an authority that may not issue, or an untrusted root answers it.
    """
    if not roots:
        return CannotVerify("no root to trust was handed in")
    chain = [leaf]
    while True:
        last = chain[-1]
        if last.key_hash in roots and last.issuer == last.subject:
            break
        if last.issuer == last.subject:
            return Fail(f"it ends at {last.name}, whose key is no trusted root's")
        if len(chain) == LONGEST:
            return Fail(f"it is longer than {LONGEST} certificates")
        named = [one for one in pool if one.subject == last.issuer]
        if not named:
            return CannotVerify(f"the certificate of {name_text(last.issuer)} was not handed in")
        signers = [one for one in named if signed_by(one, last.algorithm, last.signature, last.tbs)]
        if not signers:
            return Fail(f"{named[0].name} did not sign the certificate of {last.name}")
        chain.append(next((one for one in signers if one.key_hash in roots), signers[0]))
    root = chain[-1]
    if not signed_by(root, root.algorithm, root.signature, root.tbs):
        return Fail(f"the certificate of the root {root.name} does not bear its own signature")
    wrong = next(filter(None, (_may_issue(one, place) for place, one in enumerate(chain))), None)
    return Fail(wrong) if wrong else Chain(tuple(chain))


def _may_issue(certificate: Certificate, place: int) -> str | None:
    """What is wrong with a certificate at that place (0 the leaf), or None."""
    unknown = [
        entry.oid
        for entry in certificate.extensions
        if entry.critical and entry.oid not in UNDERSTOOD
    ]
    if unknown:
        return f"{certificate.name} has a critical extension that is not understood: {unknown[0]}"
    may, depth = certificate.authority
    if place == 0:
        return f"{certificate.name} is an authority's, not a device's" if may else None
    if not may:
        return f"{certificate.name} is not an authority's and may not issue"
    if depth is not None and place - 1 > depth:
        return f"{certificate.name} has {place - 1} authorities below it, {depth} allowed"
    usages = certificate.usages
    if usages is not None and KEY_CERT_SIGN not in usages:
        return f"the key of {certificate.name} is not for signing certificates"
    return None


def revocation(chain: Chain, setting: Setting, revocable: Revocable) -> Outcome:
    """Whether no certificate below the root is on its issuer's list, every list being in date."""
    try:
        lists = [one for data in setting.crls for one in parse_revocation_lists(data)]
    except EvidenceError as error:
        return CannotVerify(error.message)
    outcomes = [
        _not_revoked(certificate, issuer, lists, setting.now)
        for place, (certificate, issuer) in enumerate(
            zip(chain.certificates, chain.certificates[1:], strict=False)
        )
        if place > 0
        or revocable == "every"
        or any(one.issuer == certificate.issuer for one in lists)
    ]
    worst = combined(tuple(outcomes))
    if isinstance(worst, Pass):
        return Pass("; ".join(outcome.text for outcome in outcomes))
    return worst


def _not_revoked(
    certificate: Certificate, issuer: Certificate, lists: Sequence[RevocationList], now: datetime
) -> Outcome:
    own = [one for one in lists if one.issuer == issuer.subject]
    if not own:
        return CannotVerify(f"no revocation list of {issuer.name} was handed in")
    outcomes = tuple(_by_list(certificate, issuer, one, now) for one in own)
    good = next((outcome for outcome in outcomes if isinstance(outcome, Pass)), None)
    revoked = any(certificate.serial in one.revoked and _list_signed(issuer, one) for one in own)
    if revoked:
        return Fail(f"{issuer.name} has revoked {certificate.name} ({certificate.serial:#x})")
    return good or outcomes[0]


def _by_list(
    certificate: Certificate, issuer: Certificate, one: RevocationList, now: datetime
) -> Outcome:
    what = f"the revocation list of {issuer.name}"
    if not _list_signed(issuer, one):
        return Fail(f"{what} does not bear its signature")
    if one.critical:
        return CannotVerify(f"{what} has a critical extension: {one.critical[0]}")
    if one.next_update is None:
        return CannotVerify(f"{what} does not say until when it holds")
    dated = in_date(one.this_update, one.next_update, now, what)
    if not isinstance(dated, Pass):
        return dated
    return Pass(f"{certificate.name} is not on the list of {issuer.name}")


def _list_signed(issuer: Certificate, one: RevocationList) -> bool:
    usages = issuer.usages
    if usages is not None and CRL_SIGN not in usages:
        return False
    return signed_by(issuer, one.algorithm, one.signature, one.tbs)


def lists_end(chain: Chain, setting: Setting) -> datetime | None:
    """When the first of the lists that speak of this chain is due to be replaced."""
    try:
        lists = [one for data in setting.crls for one in parse_revocation_lists(data)]
    except EvidenceError:
        return None
    names = {certificate.subject for certificate in chain.certificates}
    return soonest(*(one.next_update for one in lists if one.issuer in names))


def _first_failure(outcomes: Sequence[Outcome], seen: str) -> Outcome:
    return next((outcome for outcome in outcomes if not isinstance(outcome, Pass)), Pass(seen))
