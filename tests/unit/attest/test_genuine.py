"""Evidence that real machines gave: each file its stated result, and no field of it may change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tidegate.attest import roots
from tidegate.attest.certificates import parse_certificate, parse_certificates
from tidegate.attest.chain import Chain, find_chain, signed_by
from tidegate.attest.snp_key import HARDWARE_ID, endorsed
from tidegate.attest.snp_report import parse_report
from tidegate.bench.vault_evidence import Case, Files, Flip, accepted_flips, cases, outcome_of

CASES = cases()
FLIPPED = [case for case in CASES if case.flips is not None]
MOST = 40
"""Of the flips of a case about so many are made here; `tidegate bench vault` makes every one."""


def sampled(case: Case, files: Files) -> Iterator[Flip]:
    """The first flip of each field and of each certificate, and of the others some, evenly."""
    assert case.flips is not None
    seen: set[str] = set()
    every = sum(1 for _ in case.flips(files)) // MOST + 1
    for number, flip in enumerate(case.flips(files)):
        field = re.sub(r" (?:tag|length|value) at \d+$", "", flip.field)
        if field not in seen or number % every == 0:
            seen.add(field)
            yield flip


def test_no_two_cases_have_one_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_genuine_evidence_gives_its_stated_result(case: Case, evidence_folder: Path) -> None:
    assert outcome_of(case, case.load(evidence_folder)) == case.want, case.why


@pytest.mark.parametrize("case", FLIPPED, ids=lambda case: case.name)
def test_a_turned_bit_in_any_field_is_refused(case: Case, evidence_folder: Path) -> None:
    files = case.load(evidence_folder)
    assert accepted_flips(case, sampled(case, files), files) == set()


@pytest.mark.parametrize(
    "case", [case for case in FLIPPED if case.unsigned], ids=lambda case: case.name
)
def test_every_field_said_to_be_unsigned_is(case: Case, evidence_folder: Path) -> None:
    files = case.load(evidence_folder)
    unsigned = [flip for flip in sampled(case, files) if flip.field in case.unsigned]
    assert accepted_flips(replace(case, unsigned=frozenset()), unsigned, files) == set(
        case.unsigned
    )


def test_hardware_id_of_the_certificate_is_the_reports_chip(evidence_folder: Path) -> None:
    folder = evidence_folder / "snp-go-sev-guest"
    report = parse_report((folder / "attestation.bin").read_bytes())
    leaf = parse_certificate((folder / "vcek.der").read_bytes())
    extension = leaf.extension(HARDWARE_ID)
    assert extension is not None
    assert extension.value == report.chip_id


def test_a_serial_number_of_zero_is_read(evidence_folder: Path) -> None:
    for vcek in evidence_folder.rglob("*vcek*.der"):
        assert parse_certificate(vcek.read_bytes()).serial == 0


def test_turins_certificate_chains_and_names_the_first_firmware_component(
    evidence_folder: Path,
) -> None:
    folder = evidence_folder / "snp-virtee-milan"
    leaf = parse_certificate((folder / "vcek_turin.der").read_bytes())
    pool = parse_certificates((folder / "cert_chain_turin.pem").read_bytes())
    found = find_chain(leaf, pool, roots.AMD)
    assert isinstance(found, Chain)
    assert [one.name for one in found.certificates] == ["SEV-VCEK", "SEV-Turin", "ARK-Turin"]
    key = endorsed(leaf)
    assert key.product == "Turin"
    assert key.hardware_id is not None
    assert len(key.hardware_id) == 8
    assert leaf.extension("1.3.6.1.4.1.3704.1.3.9") is not None


@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
@pytest.mark.parametrize("line", ["SEV", "SEV-VLEK"])
def test_amds_intermediates_are_signed_by_pinned_roots(
    evidence_folder: Path, product: str, line: str
) -> None:
    found = {
        one.name: one
        for path in (evidence_folder / "snp-go-sev-guest").glob("ask_ark_*.pem")
        for one in parse_certificates(path.read_bytes())
    }
    intermediate, root = found[f"{line}-{product}"], found[f"ARK-{product}"]
    assert root.key_hash in roots.AMD
    assert signed_by(root, intermediate.algorithm, intermediate.signature, intermediate.tbs)
    assert signed_by(root, root.algorithm, root.signature, root.tbs)
