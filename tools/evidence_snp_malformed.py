"""Cases of SEV-SNP that are no evidence at all, though they look like it."""

from __future__ import annotations

from evidence_authorities import extension, integer, tlv
from evidence_machines import ARC
from evidence_snp_maker import MILAN, Maker


def malformed(made: Maker) -> None:
    """Reports and certificates whose fields cannot be."""
    report = MILAN.report()
    made.snp("a report cut short", "malformed", report=report[:-1])
    made.snp("a report with a byte too many", "malformed", report=report + b"\0")
    made.snp("a report of an unknown version", "malformed", report=MILAN.report(version=4))
    made.snp(
        "a signature algorithm that is not known", "malformed", report=MILAN.report(algorithm=2)
    )
    made.snp(
        "a policy bit of unknown meaning",
        "malformed",
        report=MILAN.report(policy=1 << 40 | 0x3001F),
    )
    made.snp(
        "the policy bit that is always set is not", "malformed", report=MILAN.report(policy=0x1001F)
    )
    made.snp("an unknown kind of signing key", "malformed", report=MILAN.report(keys=3 << 2))
    made.snp(
        "a platform bit of unknown meaning", "malformed", report=MILAN.report(platform=1 << 60)
    )
    made.snp(
        "a processor named in a report of version 2",
        "malformed",
        report=MILAN.report(version=2, cpu=(0x19, 1, 1)),
    )
    made.snp(
        "an unknown product",
        "malformed",
        leaf=MILAN.certificate(extensions=MILAN.extensions().replace(b"Milan-B0", b"Monet-B0")),
    )
    both = MILAN.extensions() + extension(f"{ARC}.5", tlv(0x16, b"cloud.example"))
    made.snp(
        "a key of a chip's and of a cloud's", "malformed", leaf=MILAN.certificate(extensions=both)
    )
    big = MILAN.extensions().replace(
        extension(f"{ARC}.3.8", integer(219)), extension(f"{ARC}.3.8", integer(300))
    )
    made.snp(
        "a firmware version that no byte holds", "malformed", leaf=MILAN.certificate(extensions=big)
    )
