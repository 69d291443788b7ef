"""Cases of hosts with a TPM 2.0, by made-up TPMs."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

from evidence_authorities import Authority, drawn, ec_key, root, spki
from evidence_machines import (
    AK_ATTRIBUTES,
    EK_ATTRIBUTES,
    EVENTS,
    Tpm,
    event_log,
    public,
    registers,
)
from evidence_vectors import Blobs, Case, EvidenceFile

ONE, TWO, RSA = Tpm(), Tpm("two"), Tpm(rsa_keys=True)
NONCE, SECRET = drawn("tpm nonce", 32), drawn("secret", 32)
LATER = datetime(2035, 1, 1, tzinfo=UTC).isoformat()
QUOTED = {"0": [registers()[0].hex()], "7": [registers()[7].hex()]}
RESTRICTED, DECRYPT = 1 << 16, 1 << 17

CHAIN, DATE, REVOKED = (
    "EK chains to a trusted root",
    "EK chain is in date",
    "EK chain is not revoked",
)
PURPOSE, SAME, KEPT = (
    "EK certificate is for an endorsement key",
    "EK is the certificate's",
    "EK is kept by the TPM",
)
ACTIVATED, HOST = "attestation key lives in that TPM", "host is one of ours"
RESTRICTS = "attestation key signs only what the TPM wrote"
SIGNED, FRESH = "quote is signed by the attestation key", "nonce is bound"
HASHED, VALUES = "registers are those that were quoted", "registers have reference values"
FIRMWARE, BOOT = "TPM's firmware is new enough", "boot is the one attested before"
LOG = "event log gives the registers"


def host(tpm: Tpm) -> str:
    """How a TPM is named in a policy."""
    return hashlib.sha256(spki(tpm.ek)).hexdigest()


def policy(tpm: Tpm = ONE, **more: Any) -> dict[str, Any]:
    """A policy that the TPM's plain evidence passes."""
    made = {"ek": host(tpm), "ak_name": tpm.ak_name.hex(), "secret": SECRET.hex()}
    return {"registers": {"sha256": QUOTED}, "enrolment": made} | more


def tpm_file() -> EvidenceFile:
    """Every case."""
    blobs, cases = Blobs(), []
    maker, top = ONE.maker

    def case(note: str, outcome: str, checks: list[str] | None = None, **more: Any) -> None:
        file = more.pop("file", None)
        crls = [blobs.add("revocation list", one) for one in more.pop("crls", ())]
        cases.append(
            Case(
                note=note,
                kind="tpm",
                evidence=blobs.evidence("tpm", ONE.file(NONCE, SECRET) if file is None else file),
                outcome=outcome,  # type: ignore[arg-type]
                checks=checks or [],
                crls=crls,
                policy=more.pop("policy", policy()),
                roots=[top.pin.hex()],
                nonce=more.pop("nonce", NONCE.hex()),
                **more,
            )
        )

    case("a host, all as it should be", "pass")
    case("a host whose keys are RSA", "pass", file=RSA.file(NONCE, SECRET), policy=policy(RSA))
    case("a host that is named", "pass", policy=policy(hosts=[host(ONE)]))
    known = {ONE.ak_name.hex(): host(ONE)}
    plain = {"registers": {"sha256": QUOTED}, "known": known}
    bare = ONE.file(NONCE, None, ek_certificate=None, ek_public=None)
    case("an attestation key that was activated before", "pass", file=bare, policy=plain)
    case(
        "its event log gives the registers",
        "pass",
        file=ONE.file(NONCE, SECRET, log=event_log(EVENTS)),
        policy=policy(log=True),
    )

    case("no certificate of an endorsement key", "cannot_verify", [CHAIN, ACTIVATED], file=bare)
    case(
        "an intermediate that is not there",
        "cannot_verify",
        [CHAIN],
        file=ONE.file(NONCE, SECRET, certificates=[top.certificate]),
    )
    stranger = root("Other Maker Root")
    foreign = ONE.certificate(issuer=stranger)
    case(
        "a maker that is not trusted",
        "fail",
        [CHAIN],
        file=ONE.file(NONCE, SECRET, ek_certificate=foreign, certificates=[stranger.certificate]),
    )
    forged = Authority(maker.common, ec_key("forger"), maker.certificate)
    case(
        "a certificate by a forger",
        "fail",
        [CHAIN],
        file=ONE.file(NONCE, SECRET, ek_certificate=ONE.certificate(issuer=forged)),
    )
    case("expired collateral: the chain is past its end", "fail", [DATE], now=LATER)
    case(
        "a certificate that is not revoked",
        "pass",
        revocation=True,
        crls=(maker.revoke(), top.revoke()),
    )
    case(
        "revoked key: the endorsement key's",
        "fail",
        [REVOKED],
        revocation=True,
        crls=(maker.revoke(77), top.revoke()),
    )
    case(
        "revoked key: the maker's intermediate",
        "fail",
        [REVOKED],
        revocation=True,
        crls=(maker.revoke(), top.revoke(2)),
    )
    case(
        "no list of the one who issued the certificate",
        "cannot_verify",
        [REVOKED],
        revocation=True,
        crls=(top.revoke(),),
    )
    case(
        "a certificate for something else",
        "fail",
        [PURPOSE],
        file=ONE.file(NONCE, SECRET, ek_certificate=ONE.certificate("1.3.6.1.5.5.7.3.1")),
    )
    case(
        "a public area with another key",
        "fail",
        [SAME],
        file=ONE.file(NONCE, SECRET, ek_public=TWO.ek_public),
    )
    loose = public(ONE.ek, EK_ATTRIBUTES & ~2, storage=True)
    case(
        "an endorsement key that may leave its TPM",
        "fail",
        [KEPT],
        file=ONE.file(NONCE, SECRET, ek_public=loose),
    )

    case(
        "nobody made a credential",
        "cannot_verify",
        [ACTIVATED],
        policy={"registers": {"sha256": QUOTED}},
    )
    case(
        "the credential was not answered", "cannot_verify", [ACTIVATED], file=ONE.file(NONCE, None)
    )
    case(
        "other host: the credential was made for another TPM",
        "fail",
        [ACTIVATED],
        policy=policy() | {"enrolment": policy()["enrolment"] | {"ek": host(TWO)}},
    )
    case(
        "the credential was made for another attestation key",
        "fail",
        [ACTIVATED],
        policy=policy() | {"enrolment": policy()["enrolment"] | {"ak_name": TWO.ak_name.hex()}},
    )
    case("another secret came back", "fail", [ACTIVATED], file=ONE.file(NONCE, drawn("guess", 32)))
    case(
        "other host: a good one that is not ours", "fail", [HOST], policy=policy(hosts=[host(TWO)])
    )
    case(
        "hosts are named, and nothing names this one",
        "cannot_verify",
        [CHAIN, ACTIVATED, HOST],
        file=bare,
        policy=policy(hosts=[host(ONE)]),
    )
    for note, attributes in (
        ("a key that signs whatever it is given", AK_ATTRIBUTES & ~RESTRICTED),
        ("a key that was made outside", AK_ATTRIBUTES & ~0x20),
        ("a key that decrypts too", AK_ATTRIBUTES | DECRYPT),
    ):
        area = ONE.ak_public(attributes)
        own = b"\0\x0b" + hashlib.sha256(area).digest()
        enrolment = {"ek": host(ONE), "ak_name": own.hex(), "secret": SECRET.hex()}
        case(
            note,
            "fail",
            [RESTRICTS],
            file=ONE.file(NONCE, SECRET, ak_public=area),
            policy=policy(enrolment=enrolment),
        )

    quote = ONE.quote(NONCE)
    case(
        "other host: its quote",
        "fail",
        [SIGNED],
        file=ONE.file(NONCE, SECRET, signature=TWO.sign(quote)),
    )
    case("old nonce", "fail", [FRESH], nonce=drawn("new nonce", 32).hex())
    case("nobody asked for a nonce", "cannot_verify", [FRESH], nonce=None)
    longer = ONE.quote(NONCE + bytes(16))
    case(
        "zeros behind the nonce",
        "fail",
        [FRESH],
        file=ONE.file(NONCE, SECRET, quote=longer, signature=ONE.sign(longer)),
    )
    evil = registers([*EVENTS, (7, b"one event more")])
    changed = Tpm(values=evil)
    case("other PCRs, quoted", "fail", [VALUES], file=changed.file(NONCE, SECRET))
    case(
        "other PCRs, handed in beside a good quote",
        "fail",
        [HASHED, VALUES],
        file=changed.file(NONCE, SECRET, quote=quote, signature=ONE.sign(quote)),
    )
    part = ONE.quote(NONCE, selected=[0, 4])
    case(
        "other PCRs: the one that matters was not quoted",
        "fail",
        [VALUES],
        file=ONE.file(NONCE, SECRET, quote=part, signature=ONE.sign(part)),
    )
    case(
        "a register that was quoted and not handed in",
        "fail",
        [HASHED, VALUES],
        file=ONE.file(NONCE, SECRET, registers={"sha256": {"0": registers()[0].hex()}}),
    )
    nothing = ONE.quote(NONCE, selected=[])
    case(
        "nothing was quoted",
        "fail",
        [HASHED, VALUES],
        file=ONE.file(NONCE, SECRET, quote=nothing, signature=ONE.sign(nothing)),
    )
    case("no reference value of a register", "cannot_verify", [VALUES], policy=policy(registers={}))
    case("firmware that is too old", "fail", [FIRMWARE], policy=policy(least_firmware=1 << 60))
    case("the boot that was attested before", "pass", policy=policy(boot=[7, 1]))
    case("the host was reset since", "fail", [BOOT], policy=policy(boot=[6, 1]))
    case("a log is wanted, and none there", "cannot_verify", [LOG], policy=policy(log=True))
    case(
        "a log with an event left out",
        "fail",
        [LOG],
        file=ONE.file(NONCE, SECRET, log=event_log(EVENTS[:-1])),
    )
    case(
        "a log with an event altered",
        "fail",
        [LOG],
        file=ONE.file(NONCE, SECRET, log=event_log([*EVENTS[:-1], (4, b"kerne1")])),
    )
    case(
        "a log of other registers alone",
        "fail",
        [LOG],
        file=ONE.file(NONCE, SECRET, log=event_log([(9, b"something")])),
    )

    for note, more in (
        ("what the TPM did not write, under its restricted key's name", {"magic": b"\0\0\0\0"}),
        ("a certification in the place of a quote", {"kind": b"\x80\x17"}),
    ):
        case(note, "malformed", file=ONE.file(NONCE, SECRET, quote=ONE.quote(NONCE, **more)))
    case(
        "a quote with a byte too many",
        "malformed",
        file=ONE.file(NONCE, SECRET, quote=quote + b"\0"),
    )
    case(
        "a format that is not known",
        "malformed",
        file=ONE.file(NONCE, SECRET, format="tidegate/tpm-evidence/v2"),
    )
    case("a word that does not belong", "malformed", file=ONE.file(NONCE, SECRET, comment="hello"))
    case(
        "an attribute of unknown meaning",
        "malformed",
        file=ONE.file(NONCE, SECRET, ak_public=ONE.ak_public(1 << 30)),
    )
    case(
        "a log that is none", "malformed", file=ONE.file(NONCE, SECRET, log=b"nothing of the kind")
    )
    case("no JSON at all", "malformed", file=base64.b64encode(b"evidence"))
    return EvidenceFile("spec/evidence.md", blobs.encoded(), cases)
