"""`tidegate attest`: exits 0 for a pass alone, and says aloud what it could not check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evidence_machines import MEASURED, NONCE, Chip, Tpm
from evidence_snp_maker import LEAST
from typer.testing import CliRunner

from tidegate.attest.errors import EvidenceError
from tidegate.cli.main import app
from tidegate.errors import ConfigError

RUNNER = CliRunner()
CHIP = Chip()
POLICY = f"""
[snp]
measurements = ["{MEASURED.hex()}"]
least_tcb.Milan = {{ {", ".join(f"{name} = {value}" for name, value in LEAST.items())} }}
"""
AT = ("--at", "2026-01-01")
ASKED = ("--nonce", NONCE.hex(), *AT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A made-up host's files, as they would be fetched."""
    ask, ark = CHIP.line
    files = {
        "report.bin": CHIP.report(),
        "report.hex": CHIP.report().hex().encode() + b"\n",
        "vcek.der": CHIP.certificate(),
        "ask.der": ask.certificate,
        "ark.der": ark.certificate,
        "crl.der": ark.revoke(),
        "revoked.der": ark.revoke(ask.serial),
        "policy.toml": POLICY.encode(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def arguments(folder: Path, *names: str) -> list[str]:
    """The command for those files, with the policy and the made-up maker's root."""
    files = [str(folder / name) for name in names]
    policy, trusted = folder / "policy.toml", folder / "ark.der"
    return ["attest", *files, "--policy", str(policy), "--root", str(trusted)]


ALL = ("report.bin", "vcek.der", "ask.der", "ark.der", "crl.der")


def run(line: list[str], code: int) -> str:
    done = RUNNER.invoke(app, line)
    assert done.exit_code == code, done.output
    return done.output


def refused(line: list[str]) -> str:
    done = RUNNER.invoke(app, line)
    assert isinstance(done.exception, ConfigError | EvidenceError), done.output
    return done.exception.message


@pytest.mark.parametrize("report", ["report.bin", "report.hex"])
def test_a_host_that_is_as_it_should_be_passes(folder: Path, report: str) -> None:
    shown = run([*arguments(folder, report, *ALL[1:]), *ASKED], 0)
    assert "pass: snp: all 17 checks hold" in shown
    assert "NOT covered" in shown


def test_files_may_come_in_any_order(folder: Path) -> None:
    run([*arguments(folder, *reversed(ALL)), *ASKED], 0)


def test_another_hosts_report_fails(folder: Path) -> None:
    (folder / "report.bin").write_bytes(Chip(label="two").report())
    shown = run([*arguments(folder, *ALL), *ASKED], 1)
    assert "FAIL" in shown


def test_an_old_nonce_fails(folder: Path) -> None:
    run([*arguments(folder, *ALL), "--nonce", "ab" * 64, *AT], 1)


def test_a_revoked_authority_fails(folder: Path) -> None:
    run([*arguments(folder, *ALL[:4], "revoked.der"), *ASKED], 1)


def test_the_clock_counts(folder: Path) -> None:
    run([*arguments(folder, *ALL), "--nonce", NONCE.hex(), "--at", "2040-01-01"], 1)


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        (AT, "no nonce was handed in"),
        (("--nonce", NONCE.hex(), *AT), "no revocation list"),
    ],
)
def test_what_cannot_be_told_is_no_pass_and_is_said(
    folder: Path, line: tuple[str, ...], missing: str
) -> None:
    names = ALL if "--nonce" not in line else ALL[:4]
    shown = run([*arguments(folder, *names), *line], 2)
    assert "cannot verify: snp" in shown
    assert "This is not a pass" in shown
    assert missing in shown.replace("\n", " ")


def test_not_asking_after_revocation_is_said_with_the_pass(folder: Path) -> None:
    shown = run([*arguments(folder, *ALL[:4]), *ASKED, "--no-revocation"], 0)
    assert "NOT covered: Revocation: nobody asked after it." in shown


def test_without_a_policy_nothing_passes(folder: Path) -> None:
    files = [str(folder / name) for name in ALL]
    run(["attest", *files, "--root", str(folder / "ark.der"), *ASKED], 2)


def test_a_root_of_no_maker_is_not_trusted_by_itself(folder: Path) -> None:
    files = [str(folder / name) for name in ALL]
    shown = run(["attest", *files, "--policy", str(folder / "policy.toml"), *ASKED], 1)
    assert "no trusted root" in shown.replace("\n", " ")


def test_json_has_every_check_and_what_was_bound(folder: Path) -> None:
    found = json.loads(run([*arguments(folder, *ALL), *ASKED, "--json"], 0))
    assert found["outcome"] == "pass"
    assert [check["number"] for check in found["checks"]] == list(range(1, 18))
    assert {check["outcome"] for check in found["checks"]} == {"pass"}
    assert found["bound"] == NONCE.hex()
    assert found["device"] == f"snp-chip:{CHIP.hardware_id.hex()}"
    assert found["claims"]["measurement"] == MEASURED.hex()
    assert found["until"].startswith("2034")
    assert found["not_covered"]


def test_json_of_what_cannot_be_verified_is_no_pass(folder: Path) -> None:
    found = json.loads(run([*arguments(folder, *ALL), *AT, "--json"], 2))
    assert found["outcome"] == "cannot_verify"


def test_a_tpms_file_is_recognised(folder: Path) -> None:
    tpm = Tpm()
    path = folder / "host.json"
    path.write_bytes(tpm.file(NONCE[:32], None))
    (folder / "maker.der").write_bytes(tpm.maker[1].certificate)
    line = ["attest", str(path), "--root", str(folder / "maker.der"), *AT, "--no-revocation"]
    found = json.loads(run([*line, "--nonce", NONCE[:32].hex(), "--json"], 2))
    assert found["kind"] == "tpm"
    assert "no credential was made" in found["reason"]


def test_a_host_does_not_move_the_cursor(folder: Path) -> None:
    cloud = Chip(signer="vlek")
    forged = cloud.extensions().replace(b"cloud.example", b"\x1b[2J\x1b[Hgood!!")
    (folder / "report.bin").write_bytes(cloud.report())
    (folder / "vcek.der").write_bytes(cloud.certificate(extensions=forged))
    with (folder / "policy.toml").open("a") as policy:
        policy.write('signers = ["vlek"]\nclouds = ["cloud.example"]\n')
    shown = run([*arguments(folder, *ALL), *ASKED], 1)
    assert "good!!" in shown
    assert "\x1b" not in shown


def test_malformed_evidence_is_an_error_that_names_the_field(folder: Path) -> None:
    (folder / "report.bin").write_bytes(Chip().report(algorithm=2))
    assert refused([*arguments(folder, *ALL), *ASKED]).startswith("snp: SIGNATURE_ALGO")


@pytest.mark.parametrize("names", [ALL[1:], ("report.bin", "report.hex", *ALL[1:])])
def test_there_is_one_file_of_evidence(folder: Path, names: tuple[str, ...]) -> None:
    assert "it must be one" in refused([*arguments(folder, *names), *ASKED])


def test_a_kind_can_be_given(folder: Path) -> None:
    run([*arguments(folder, *ALL), *ASKED, "--kind", "snp"], 0)
    assert "no kind" in refused([*arguments(folder, *ALL), *ASKED, "--kind", "sgx2"])
    cut = folder / "report.bin"
    cut.write_bytes(cut.read_bytes()[:-1])
    assert "bytes" in refused([*arguments(folder, *ALL), *ASKED, "--kind", "snp"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[snp", "no TOML"),
        ("[sev]\n", "no kind of evidence has a section [sev]"),
        ("snp = 1\n", "no section"),
        ("[snp]\nmesurements = []\n", "mesurements"),
    ],
)
def test_a_policy_that_cannot_be_read_is_no_policy(folder: Path, text: str, said: str) -> None:
    (folder / "policy.toml").write_text(text)
    assert said in refused([*arguments(folder, *ALL), *ASKED])


def test_a_nonce_is_hex(folder: Path) -> None:
    assert "no hex" in refused([*arguments(folder, *ALL), "--nonce", "hello", *AT])
