"""What made-up processors show beside the published vectors."""

from __future__ import annotations

from evidence_machines import Chip

from tidegate.attest.snp import parse_snp
from tidegate.attest.snp_key import endorsed
from tidegate.attest.snp_report import Tcb, parse_report, tcb_of


def test_of_two_keys_certificates_the_one_of_the_reports_kind_is_taken() -> None:
    chip, cloud = Chip(), Chip(signer="vlek")
    both = (chip.certificate(), cloud.certificate())
    for one in (chip, cloud):
        found = parse_snp(one.report(), both)
        assert found.leaf is not None
        assert endorsed(found.leaf).signer == one.signer
        assert len(found.pool) == 1


def test_tcb_bytes_mean_other_things_on_turin() -> None:
    raw = bytes((1, 2, 3, 4, 0, 0, 0, 9))
    assert tcb_of(raw, "Turin") == Tcb(fmc=1, bootloader=2, tee=3, snp=4, microcode=9)
    assert tcb_of(raw, "Milan") is None
    assert tcb_of(bytes((2, 3, 0, 0, 0, 0, 4, 9)), "Genoa") == Tcb(
        bootloader=2, tee=3, snp=4, microcode=9
    )


def test_newer_in_one_component_does_not_make_up_for_older_in_another() -> None:
    least = Tcb(bootloader=3, tee=0, snp=8, microcode=115)
    assert least.at_least(least)
    assert not Tcb(bootloader=9, tee=9, snp=7, microcode=255).at_least(least)


def test_every_field_of_a_report_is_read_from_its_place() -> None:
    chip = Chip(product="Genoa")
    found = parse_report(chip.report(version=3, vmpl=2, svn=7, host_data=b"h" * 32))
    assert (found.version, found.vmpl, found.guest_svn) == (3, 2, 7)
    assert found.product == "Genoa"
    assert found.host_data == b"h" * 32
    assert found.policy == {"smt"}
    assert found.platform == {"smt", "ecc", "alias_check"}
    assert found.current_firmware == (1, 55, 29)
    assert found.chip_id == chip.hardware_id
