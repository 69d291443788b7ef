"""Cases of SEV-SNP reports, by made-up processors."""

from __future__ import annotations

from datetime import UTC, datetime

from evidence_authorities import (
    Authority,
    authority_extensions,
    drawn,
    ec_key,
    extension,
    root,
    tlv,
)
from evidence_machines import NONCE, Chip
from evidence_snp_maker import (
    CHAIN,
    CHIP,
    CLOUD,
    DATE,
    DERIVED,
    FRESH,
    GENOA,
    KIND,
    LATER,
    LEAST,
    MILAN,
    NEW,
    ORDER,
    OTHER,
    POLICY,
    PRODUCT,
    REVOKED,
    SIGNED,
    TURIN,
    Maker,
    policy,
)
from evidence_snp_malformed import malformed
from evidence_vectors import EvidenceFile


def snp_file() -> EvidenceFile:
    """Every case of a report."""
    made = Maker()
    _passing(made)
    _chains(made)
    _revocation(made)
    _keys(made)
    _firmware(made)
    _guests(made)
    malformed(made)
    return EvidenceFile("spec/evidence.md", made.blobs.encoded(), made.cases)


def _passing(made: Maker) -> None:
    made.snp("a Milan, all as it should be", "pass")
    made.snp(
        "a Genoa whose report names its processor",
        "pass",
        chip=GENOA,
        report=GENOA.report(version=3),
    )
    made.snp("a Turin: five components, a chip id of eight bytes, version 5", "pass", chip=TURIN)
    made.snp(
        "a cloud's key (VLEK), where the policy takes one of that cloud's",
        "pass",
        chip=CLOUD,
        policy=policy(signers=["vlek"], clouds=["cloud.example"]),
    )
    made.snp(
        "everything pinned: chip, identity, host data, platform",
        "pass",
        report=MILAN.report(host_data=drawn("host data", 32)),
        policy=policy(
            chips=[MILAN.hardware_id.hex()],
            host_data=drawn("host data", 32).hex(),
            id_keys=[drawn("id key", 48).hex()],
            author_keys=[bytes(48).hex()],
            platform=["alias_check", "ecc"],
            least_guest_svn=1,
        ),
    )
    made.snp(
        "a nonce of 32 bytes, zeros behind it",
        "pass",
        report=MILAN.report(data=NONCE[:32]),
        nonce=NONCE[:32].hex(),
    )


def _chains(made: Maker) -> None:
    ask, ark = MILAN.line
    made.snp("the intermediate is not there", "cannot_verify", [CHAIN], pool=(ark.certificate,))
    made.snp("no certificate is there", "cannot_verify", [CHAIN, SIGNED, NEW], leaf=b"", pool=())
    made.snp("a root that is not trusted", "fail", [CHAIN], pin=drawn("no root", 32))
    forged = Authority(ask.common, ec_key("forger"), ask.certificate)
    made.snp(
        "a chip's certificate by a forger", "fail", [CHAIN], leaf=MILAN.certificate(issuer=forged)
    )
    twin = Authority(ark.common, ec_key("forger"), b"")
    own = twin.certify(ark.common, ec_key("forger"), authority_extensions())
    below = twin.authority(ask.common, ask.common, serial=2)
    made.snp(
        "a root of the right name with another key",
        "fail",
        [CHAIN],
        pool=(below.certificate, own),
    )
    for note, extensions in (
        ("an intermediate that may not issue", b""),
        (
            "an intermediate with an unknown critical extension",
            authority_extensions() + extension("1.2.3.4", b"\5\0", True),
        ),
        (
            "an intermediate whose key is not for certificates",
            extension("2.5.29.19", tlv(0x30, tlv(1, b"\xff")), True)
            + extension("2.5.29.15", tlv(3, b"\x01\x02"), True),
        ),
    ):
        weak = ark.authority(ask.common, ask.common, serial=2, extensions=extensions)
        made.snp(note, "fail", [CHAIN], pool=(weak.certificate, ark.certificate))
    shallow = root("ARK-Milan", 0)
    deep = shallow.authority("SEV-Deep", "SEV-Deep", serial=4)
    lower = deep.authority(ask.common, ask.common, serial=5)
    made.snp(
        "more authorities than the root allows",
        "fail",
        [CHAIN],
        leaf=MILAN.certificate(issuer=lower),
        pool=(lower.certificate, deep.certificate, shallow.certificate),
    )
    issuing = MILAN.extensions() + authority_extensions()
    made.snp(
        "a chip's certificate that may itself issue",
        "fail",
        [CHAIN],
        leaf=MILAN.certificate(extensions=issuing),
    )
    made.snp(
        "a certificate of a Genoa's line for a Milan",
        "fail",
        [PRODUCT],
        leaf=MILAN.certificate(issuer=GENOA.line[0]),
        pool=tuple(one.certificate for one in GENOA.line),
        pin=GENOA.line[1].pin,
    )
    made.snp("expired collateral: the chain is past its end", "fail", [DATE], now=LATER)
    made.snp(
        "a chip's certificate that expired",
        "fail",
        [DATE],
        leaf=MILAN.certificate(end=datetime(2025, 1, 1, tzinfo=UTC)),
    )
    made.snp(
        "a chip's certificate of tomorrow",
        "fail",
        [DATE],
        leaf=MILAN.certificate(start=datetime(2027, 1, 1, tzinfo=UTC)),
    )


def _revocation(made: Maker) -> None:
    ask, ark = MILAN.line
    old = datetime(2025, 1, 1, tzinfo=UTC)
    many: tuple[tuple[str, str, tuple[bytes, ...]], ...] = (
        ("nobody is revoked", "pass", (ark.revoke(),)),
        ("somebody else is revoked", "pass", (ark.revoke(9),)),
        ("revocation asked after, and no list there", "cannot_verify", ()),
        ("revoked key: the intermediate's", "fail", (ark.revoke(ask.serial),)),
        (
            "revoked key: the chip's, on a list of its issuer's",
            "fail",
            (ark.revoke(), ask.revoke(0)),
        ),
        ("expired collateral: the list", "fail", (ark.revoke(end=old),)),
        ("a list of tomorrow", "fail", (ark.revoke(start=datetime(2027, 1, 1, tzinfo=UTC)),)),
        ("a list that the root did not sign", "fail", (ark.revoke(key=ec_key("forger")),)),
        (
            "a forged list beside a good one changes nothing",
            "pass",
            (ark.revoke(ask.serial, key=ec_key("forger")), ark.revoke()),
        ),
        (
            "revoked on an old list, and an empty new one",
            "fail",
            (ark.revoke(ask.serial, end=old), ark.revoke()),
        ),
        (
            "a list with a critical extension that is not understood",
            "cannot_verify",
            (ark.revoke(extensions=extension("1.2.3.4", b"\5\0", True)),),
        ),
        ("a list without an end", "cannot_verify", (ark.revoke(end=None),)),
        ("a list that is no list", "cannot_verify", (b"\x30\x03\x02\x01\x01",)),
    )
    for note, outcome, crls in many:
        checks = [] if outcome == "pass" else [REVOKED]
        made.snp(note, outcome, checks, crls=crls, revocation=True)


def _keys(made: Maker) -> None:
    made.snp(
        "other host: its report under this chip's certificate",
        "fail",
        [SIGNED, CHIP],
        report=OTHER.report(),
    )
    made.snp(
        "signed by another chip, claiming this one",
        "fail",
        [SIGNED],
        report=MILAN.report(signed_by=OTHER),
    )
    made.snp(
        "other host, with its own certificate, where one chip is pinned",
        "fail",
        ["chip is one of ours"],
        chip=OTHER,
        policy=policy(chips=[MILAN.hardware_id.hex()]),
    )
    made.snp(
        "a report that claims a VLEK under a VCEK",
        "fail",
        [KIND, "kind of key is taken"],
        report=MILAN.report(keys=4),
    )
    made.snp(
        "a report that claims another processor",
        "fail",
        [PRODUCT],
        report=MILAN.report(version=3, cpu=(0x19, 0x11, 1)),
    )
    made.snp(
        "a report that names no known processor",
        "fail",
        [PRODUCT],
        report=MILAN.report(version=3, cpu=(0x17, 1, 1)),
    )
    made.snp("another chip's id", "fail", [CHIP], report=MILAN.report(chip=OTHER.hardware_id))
    made.snp(
        "the chip's id is masked",
        "cannot_verify",
        [CHIP],
        report=MILAN.report(keys=2, chip=bytes(64)),
    )
    made.snp("a VLEK where only VCEKs are taken", "fail", ["kind of key is taken"], chip=CLOUD)
    made.snp(
        "a VLEK of another cloud's",
        "fail",
        ["cloud"],
        chip=CLOUD,
        policy=policy(signers=["vlek"], clouds=["other.example"]),
    )
    made.snp(
        "a chip is pinned, and a VLEK names none",
        "cannot_verify",
        ["chip is one of ours"],
        chip=CLOUD,
        policy=policy(signers=["vlek"], chips=[MILAN.hardware_id.hex()]),
    )


def _firmware(made: Maker) -> None:
    lower = Chip(tcb=(4, 0, 24, 218))
    made.snp("firmware older than the policy takes", "fail", [NEW], chip=lower, policy=policy())
    made.snp(
        "a certificate for other firmware than is reported",
        "fail",
        [DERIVED],
        leaf=lower.certificate(),
    )
    made.snp(
        "the guest was launched under older firmware",
        "fail",
        [NEW],
        report=MILAN.report(launch=MILAN.packed_tcb(snp=23)),
    )
    made.snp(
        "reported firmware is newer than what is committed",
        "fail",
        [NEW, ORDER],
        report=MILAN.report(committed=MILAN.packed_tcb(snp=23)),
    )
    made.snp(
        "reserved bytes of a version are set",
        "fail",
        [DERIVED, NEW, ORDER],
        report=MILAN.report(reported=bytes((4, 0, 1, 0, 0, 0, 24, 219))),
    )
    made.snp(
        "no reference value for that product",
        "cannot_verify",
        [NEW],
        policy=policy(least_tcb={"Genoa": LEAST}),
    )
    made.snp(
        "a Turin's first component is older",
        "fail",
        [NEW],
        chip=TURIN,
        policy=policy(least_tcb={"Turin": LEAST | {"fmc": 2}}),
    )


def _guests(made: Maker) -> None:
    made.snp("the host may debug the guest", "fail", [POLICY], report=MILAN.report(policy=0xB001F))
    made.snp(
        "debugging, where the policy takes it",
        "pass",
        report=MILAN.report(policy=0xB001F),
        policy=policy(allowed=["smt", "debug"]),
    )
    made.snp("the guest may be migrated", "fail", [POLICY], report=MILAN.report(policy=0x7001F))
    made.snp(
        "the guest did not demand one socket",
        "fail",
        [POLICY],
        policy=policy(demanded=["single_socket"]),
    )
    made.snp(
        "other PCRs: another measurement",
        "fail",
        ["measurement"],
        report=MILAN.report(measured=drawn("other", 48)),
    )
    made.snp(
        "no measurement to compare with",
        "cannot_verify",
        ["measurement"],
        policy=policy(measurements=[]),
    )
    made.snp(
        "asked for by less privileged code",
        "fail",
        ["privilege level"],
        report=MILAN.report(vmpl=2),
    )
    made.snp(
        "a guest older than the policy takes",
        "fail",
        ["guest's security version"],
        policy=policy(least_guest_svn=2),
    )
    made.snp(
        "other host data", "fail", ["host data"], policy=policy(host_data=drawn("other", 32).hex())
    )
    made.snp(
        "another identity key",
        "fail",
        ["identity key"],
        policy=policy(id_keys=[drawn("other", 48).hex()]),
    )
    made.snp(
        "another author key",
        "fail",
        ["author key"],
        policy=policy(author_keys=[drawn("other", 48).hex()]),
    )
    made.snp(
        "memory was not checked for aliases",
        "fail",
        ["platform"],
        report=MILAN.report(platform=0b101),
        policy=policy(platform=["alias_check"]),
    )
    made.snp("old nonce", "fail", [FRESH], nonce=drawn("new nonce", 64).hex())
    made.snp(
        "a nonce that only begins like the one asked for", "fail", [FRESH], nonce=NONCE[:32].hex()
    )
    made.snp("nobody asked for a nonce", "cannot_verify", [FRESH], nonce=None)
