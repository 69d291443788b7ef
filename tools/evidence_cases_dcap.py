"""Cases of SGX and TDX quotes, by made-up platforms."""

from __future__ import annotations

from evidence_authorities import NOW, Authority, drawn, ec_key, extension
from evidence_dcap_maker import (
    ALONE,
    AT_HAND,
    CHAIN,
    CLOSED,
    DATED,
    ENVIRONMENT,
    FRESH,
    LATER,
    LEVEL,
    MEASURES,
    MODULE,
    NAMED,
    PAST,
    PLATFORM,
    QE,
    QE_SIGNED,
    RECENT,
    REVOKED,
    SIGNED,
    VENDOR,
    Maker,
)
from evidence_intel import (
    NONCE,
    PCK_CA,
    ROOT,
    SIGNER_NAME,
    Collateral,
    authority_of,
    chain,
    crl,
    isv,
    level,
    p256,
    pck,
    pem,
    platform_extension,
    quote,
    signing_chain,
    stamp,
)
from evidence_vectors import EvidenceFile


def dcap_file() -> EvidenceFile:
    """Every case of a quote."""
    made = Maker()
    _passing(made)
    _chains(made)
    _signatures(made)
    _collateral(made)
    _levels(made)
    _bodies(made)
    _malformed(made)
    return EvidenceFile("spec/evidence.md", made.blobs.encoded(), made.cases)


def _passing(made: Maker) -> None:
    made.add("TDX 1.0 in version 4, all as it should be", "pass")
    made.add("TDX 1.5 in version 5", "pass", version=5)
    made.add("SGX in version 3", "pass", tee="sgx", version=3)
    made.add("SGX in version 4", "pass", tee="sgx")
    made.add("zeros to the end of the buffer", "pass", evidence=quote(trailing=bytes(70)))
    made.add(
        "a status below UpToDate, where the policy takes it",
        "pass",
        evidence=quote(certification=chain(_old_pck())),
        policy={"statuses": ["OutOfDate"]},
    )
    made.add(
        "a service domain that the policy names",
        "pass",
        evidence=quote(5, body={"mrservicetd": drawn("service", 48)}),
        policy={"service_domains": [drawn("service", 48).hex()]},
    )


def _old_pck() -> bytes:
    return pck(extensions=platform_extension(svns=(1,) * 16))


def _chains(made: Maker) -> None:
    made.add(
        "a root that is not trusted",
        "fail",
        [CHAIN, PLATFORM, QE_SIGNED, LEVEL],
        evidence=quote(certification=_forged()),
    )
    short = quote(certification=pem(pck()))
    made.add(
        "a PCK certificate alone, of type 5, the authorities with the collateral",
        "pass",
        evidence=short,
    )
    made.add(
        "the authorities nowhere",
        "cannot_verify",
        [CHAIN, PLATFORM, QE_SIGNED, AT_HAND],
        evidence=short,
        without=True,
    )
    made.add(
        "a quote that only names its PCK certificate",
        "cannot_verify",
        [CHAIN, PLATFORM, QE_SIGNED, LEVEL],
        evidence=quote(kind=1, certification=drawn("ppid and svns", 404)),
    )
    spelt = chain().replace(b"-----END", b"\n-----END", 1)
    made.add(
        "certificates spelt in another way",
        "fail",
        [CHAIN, PLATFORM, QE_SIGNED, LEVEL],
        evidence=quote(certification=spelt),
    )
    made.add(
        "a PCK certificate that has ended",
        "fail",
        [DATED],
        evidence=quote(certification=chain(pck(end=PAST))),
    )
    made.add(
        "a PCK certificate that Intel revoked",
        "fail",
        [REVOKED],
        collateral=Collateral(pck_crl=crl(PCK_CA, 7)),
    )
    made.add(
        "a PCK authority that Intel revoked",
        "fail",
        [REVOKED],
        collateral=Collateral(root_crl=crl(ROOT, 2)),
    )
    made.add(
        "an expired list",
        "fail",
        [REVOKED],
        collateral=Collateral(pck_crl=crl(PCK_CA, end=PAST)),
    )
    made.add(
        "a list by a forger",
        "fail",
        [REVOKED],
        collateral=Collateral(pck_crl=crl(PCK_CA, key=ec_key("forger"))),
    )
    made.add(
        "a certificate that is of no platform",
        "fail",
        [PLATFORM, LEVEL],
        evidence=quote(certification=chain(pck(extensions=extension("2.5.29.14", b"\4\0")))),
    )


def _forged() -> bytes:
    other = authority_of("Made-up SGX Root CA")
    below = other.authority("Made-up PCK Platform CA", "other pck ca", serial=2)
    return pem(pck(below), below.certificate, other.certificate)


def _signatures(made: Maker) -> None:
    made.add("another enclave's vendor", "fail", [VENDOR], evidence=quote(vendor=drawn("qe", 16)))
    made.add("text after the quote", "fail", [ALONE], evidence=quote(trailing=b"more"))
    made.add(
        "text after the quote, which the policy takes",
        "pass",
        evidence=quote(trailing=b"more"),
        policy={"trailing": True},
    )
    made.add("signed by another key", "fail", [SIGNED], evidence=quote(signer="forger"))
    made.add(
        "a quoting enclave's report by another platform's key",
        "fail",
        [QE_SIGNED],
        evidence=quote(qe_signer="forger"),
    )
    made.add(
        "a quoting enclave that names another key",
        "fail",
        [NAMED],
        evidence=quote(qe={"report_data": drawn("another key", 32)}),
    )


def _collateral(made: Maker) -> None:
    made.add("no collateral", "cannot_verify", [REVOKED, AT_HAND], without=True)
    stale = {"issueDate": stamp(PAST.replace(year=2024)), "nextUpdate": stamp(PAST)}
    for what, name in (("TCB info", "info"), ("QE identity", "identity")):
        made.add(
            f"{what} that has expired",
            "fail",
            [f"{what} is in date"],
            collateral=Collateral(**{name: stale}),  # type: ignore[arg-type]
        )
        made.add(
            f"{what} of days to come",
            "fail",
            [f"{what} is in date"],
            collateral=Collateral(**{name: {"issueDate": stamp(LATER)}}),  # type: ignore[arg-type]
        )
        made.add(
            f"{what} by a forger",
            "fail",
            [f"Intel signed the {what}"],
            collateral=Collateral(**{f"{name}_signer": "forger"}),  # type: ignore[arg-type]
        )
    both = [f"Intel signed the {what}" for what in ("TCB info", "QE identity")]
    made.add(
        "collateral signed by a key that the root certified for another end",
        "fail",
        both,
        collateral=Collateral(chain=signing_chain("Made-up PCK Certificate")),
    )
    made.add(
        "collateral signed below the PCK authority",
        "fail",
        both,
        collateral=Collateral(chain=signing_chain(issuer=PCK_CA)),
    )
    signers = [f"{what} signer chain" for what in ("TCB info", "QE identity")]
    other = authority_of("Another Root CA")
    made.add(
        "collateral under a root that is not trusted",
        "fail",
        [f"{what}s to a trusted root" for what in signers],
        collateral=Collateral(chain=pem(_signer_below(other), other.certificate)),
    )
    made.add(
        "a signer of collateral whose certificate has ended",
        "fail",
        [f"{what} is in date" for what in signers],
        collateral=Collateral(chain=signing_chain(end=PAST)),
    )
    made.add(
        "a signer of collateral that Intel revoked",
        "fail",
        [f"{what} is not revoked" for what in signers],
        collateral=Collateral(root_crl=crl(ROOT, 3)),
    )
    made.add(
        "SGX's collateral for a trust domain",
        "fail",
        [ENVIRONMENT, MODULE, LEVEL],
        collateral=Collateral(tee="sgx"),
    )
    made.add(
        "collateral of before an evaluation that the policy asks for",
        "fail",
        [RECENT],
        policy={"least_evaluation": 18},
    )


def _signer_below(other: Authority) -> bytes:
    return other.certify(SIGNER_NAME, p256("tcb signer"), serial=3)


def _levels(made: Maker) -> None:
    for note, qe in (
        ("a quoting enclave by another signer", {"mrsigner": drawn("other", 32)}),
        ("a quoting enclave that is another product", {"isv_prod_id": b"\x01"}),
        ("a quoting enclave open to debugging", {"attributes": b"\x13"}),
        ("a quoting enclave with other features", {"misc_select": b"\x01"}),
        ("a quoting enclave in another mode", {"attributes": b"\x31"}),
    ):
        made.add(note, "fail", [QE], evidence=quote(qe=qe))
    made.add("an old quoting enclave", "fail", [LEVEL], evidence=quote(qe={"isv_svn": b"\x03"}))
    made.add("an unheard-of quoting enclave", "fail", [LEVEL], evidence=quote(qe={"isv_svn": b""}))
    made.add(
        "a quoting enclave that Intel revoked",
        "fail",
        [LEVEL],
        collateral=Collateral(identity={"tcbLevels": [isv("Revoked", 1)]}),
    )
    for note, body in (
        ("a TDX module by another signer", {"mrsignerseam": drawn("other", 48)}),
        ("a TDX module with attributes", {"seam_attributes": b"\x01"}),
    ):
        made.add(note, "fail", [MODULE], evidence=quote(body=body))
    made.add(
        "a TDX module of a version that Intel does not name",
        "fail",
        [MODULE],
        evidence=quote(body={"tee_tcb_svn": bytes([3, 2, 4])}),
    )
    for note, svns in (("an old TDX module", [2, 1, 4]), ("an unheard-of TDX module", [1, 1, 4])):
        made.add(note, "fail", [LEVEL], evidence=quote(body={"tee_tcb_svn": bytes(svns)}))
    made.add(
        "a TDX module of version 0, judged by the TCB level's own components",
        "pass",
        evidence=quote(body={"tee_tcb_svn": bytes([5, 0, 4])}),
    )
    made.add(
        "a platform whose TDX is old",
        "fail",
        [LEVEL],
        evidence=quote(body={"tee_tcb_svn": bytes([3, 1, 3])}),
    )
    made.add(
        "a platform that is out of date",
        "fail",
        [LEVEL],
        evidence=quote(certification=chain(_old_pck())),
    )
    for note, extensions in (
        ("a platform of another family", platform_extension(bytes(6))),
        ("a platform below every level", platform_extension(svns=(0,) * 16)),
        ("a platform with one old component", platform_extension(svns=(*(2,) * 15, 0))),
        ("a platform with an old certifying enclave", platform_extension(pce_svn=4)),
    ):
        held = chain(pck(extensions=extensions))
        made.add(note, "fail", [LEVEL], evidence=quote(certification=held))
    hardened = level("SWHardeningNeeded", [2] * 16, [0] * 16)
    made.add(
        "a quoting enclave that is out of date makes SWHardeningNeeded so",
        "fail",
        [LEVEL],
        evidence=quote(qe={"isv_svn": b"\x03"}),
        collateral=Collateral(info={"tcbLevels": [hardened]}),
        policy={"statuses": ["SWHardeningNeeded"]},
    )


def _bodies(made: Maker) -> None:
    for note, bits in (
        ("a domain open to debugging", 1 | 1 << 28),
        ("a domain that may be moved", 1 << 28 | 1 << 29),
        ("a domain whose host may inject #VE", 0),
    ):
        body = {"td_attributes": bits.to_bytes(8, "little")}
        made.add(note, "fail", [CLOSED], evidence=quote(body=body))
    made.add(
        "a domain whose host may inject #VE, which the policy takes",
        "pass",
        evidence=quote(body={"td_attributes": bytes(8)}),
        policy={"sept_ve_disable": False},
    )
    made.add(
        "an enclave open to debugging",
        "fail",
        [CLOSED],
        tee="sgx",
        evidence=quote(3, "sgx", body={"attributes": b"\x07"}),
    )
    made.add(
        "a service domain",
        "fail",
        [CLOSED],
        evidence=quote(5, body={"mrservicetd": drawn("service", 48)}),
    )
    made.add("another domain", "fail", [MEASURES], evidence=quote(body={"mrtd": drawn("no", 48)}))
    made.add("no reference value", "cannot_verify", [MEASURES], policy={"mrtd": None})
    made.add("a register that is another", "fail", [MEASURES], policy={"rtmr3": ["11" * 48]})
    made.add("an old nonce", "fail", [FRESH], nonce=drawn("older nonce", 64).hex())
    made.add("nobody asked for a nonce", "cannot_verify", [FRESH], nonce=None)
    made.add("a nonce of 32 bytes, zeros behind it", "fail", [FRESH], nonce=NONCE[:32].hex())


def _malformed(made: Maker) -> None:
    whole = quote()
    for note, data in (
        ("a quote that ends early", whole[:-1]),
        ("nothing at all", b""),
        ("version 6", b"\x06" + whole[1:]),
        ("another kind of attestation key", whole[:2] + b"\x03" + whole[3:]),
        ("an environment that is none", whole[:4] + b"\x01" + whole[5:]),
        ("a trust domain in version 3", b"\x03" + whole[1:]),
        ("certification data within itself", quote(kind=6, certification=b"")),
        ("version 5 with the body of another", _mislabelled()),
    ):
        made.add(note, "malformed", evidence=data)
    made.add("collateral that is no JSON", "malformed", collateral=b'{"qe_identity_signature"')
    for note, info in (
        ("TCB info of another version", {"version": 2}),
        ("TCB info with 15 components", {"tcbLevels": [level("UpToDate", [0] * 15, None)]}),
        ("TCB info with an unheard-of status", {"tcbLevels": [level("Fine", [0] * 16, None)]}),
        ("TCB info without a zone", {"issueDate": f"{NOW:%Y-%m-%dT%H:%M:%S}"}),
    ):
        made.add(note, "malformed", collateral=Collateral(info=info))


def _mislabelled() -> bytes:
    data = bytearray(quote(5))
    data[48] = 2
    return bytes(data)
