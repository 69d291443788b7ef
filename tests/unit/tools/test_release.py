"""A release is what its commit says, the same wherever it is made, and cannot be changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import release
import release_bill

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COMMIT = "0" * 40

needs_ssh = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None,
    reason="ssh-keygen is not installed (Debian: openssh-client): signatures are not tried here",
)


@pytest.fixture(scope="module")
def bill() -> dict[str, object]:
    made: dict[str, object] = json.loads(release_bill.bill(COMMIT, WHEN))
    return made


def test_the_bill_is_valid_by_cyclonedx_own_schema(bill: dict[str, object]) -> None:
    assert release_bill.wrong(json.dumps(bill)) == ""
    assert release_bill.wrong(json.dumps(bill | {"bomFormat": "other"})) != ""


def test_the_bill_names_what_users_get_and_not_what_tests_need(bill: dict[str, object]) -> None:
    parts = {part["name"]: part for part in bill["components"]}  # type: ignore[attr-defined]
    assert {"numpy", "torch", "pg8000", "smollm2"} <= parts.keys()
    assert {"pytest", "ruff", "mypy", "hypothesis"} & parts.keys() == set()
    assert parts["numpy"]["purl"] == f"pkg:pypi/numpy@{release_bill.pins()['numpy']}"
    student = parts["student_smollm2/model.safetensors"]
    assert student["type"] == "machine-learning-model"
    assert len(student["hashes"][0]["content"]) == 64


def test_every_part_of_the_bill_hangs_on_something(bill: dict[str, object]) -> None:
    listed = {part["bom-ref"] for part in bill["components"]}  # type: ignore[attr-defined]
    needed = {
        ref
        for one in bill["dependencies"]  # type: ignore[attr-defined]
        for ref in one.get("dependsOn", [])
    }
    assert listed - needed == set()


def test_the_same_commit_gives_the_same_bytes(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from datetime import datetime, UTC; import release\n"
        "out = Path(sys.argv[1]); out.mkdir()\n"
        "when = datetime(2026, 1, 2, tzinfo=UTC)\n"
        "release.chart(out, when); release.bill(out, '0' * 40, when); release.sums(out)"
    )
    told = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        subprocess.run(
            [sys.executable, "-c", program, str(out)],
            cwd=Path(release.__file__).parent,
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
        )
        told.append((out / release.SUMS).read_text())
    assert told[0] == told[1]


def test_helm_installs_from_the_archive_as_from_the_folder(tmp_path: Path) -> None:
    archive = release.chart(tmp_path, WHEN)
    program = (
        "import sys, json, helm_python as helm\n"
        "made = [helm.Chart.load(path).render({'link': {'secret': 's'}, 'inner': {'models': "
        "{'claim': 'a'}}, 'outer': {'models': {'claim': 'b'}, 'keys': 'k', 'seed': 'd'}, "
        "'monitoring': {'rules': True, 'dashboards': True}}) for path in sys.argv[1:]]\n"
        "assert made[0] == made[1]; print(len(made[0]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(archive), str(release.CHART)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, Path]:
    """A signed release of two small files, and who may sign."""
    key, out = tmp_path / "key", tmp_path / "out"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "release", "-f", key], check=True
    )
    signers = tmp_path / "signers"
    public = key.with_suffix(".pub").read_text()
    signers.write_text(f'releases@example.com namespaces="{release.NAMESPACE}" {public}')
    out.mkdir()
    (out / "a.tar.gz").write_bytes(b"source")
    (out / "b.json").write_bytes(b"{}")
    release.sign(release.sums(out), key)
    return out, signers


@needs_ssh
def test_an_untouched_release_passes_and_says_who_signed(signed: tuple[Path, Path]) -> None:
    assert release.check(*signed) == ("releases@example.com", 2)


@needs_ssh
def test_sha256sum_reads_the_sums(signed: tuple[Path, Path]) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", release.SUMS], cwd=signed[0], check=True)


@needs_ssh
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda out: (out / "a.tar.gz").write_bytes(b"other"), "not the file"),
        (lambda out: (out / "a.tar.gz").unlink(), "is not there"),
        (lambda out: (out / "c.sh").write_bytes(b"more"), "signed by nobody"),
        (lambda out: (out / release.SUMS).write_bytes(b""), "verify"),
    ],
    ids=["changed", "removed", "added", "sums emptied"],
)
def test_a_changed_release_is_refused(signed: tuple[Path, Path], change: object, told: str) -> None:
    change(signed[0])  # type: ignore[operator]
    with pytest.raises(release.ReleaseError, match=told):
        release.check(*signed)


@needs_ssh
def test_a_signature_by_another_key_or_for_another_purpose_is_refused(
    signed: tuple[Path, Path], tmp_path: Path
) -> None:
    out, signers = signed
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    release.sign(out / release.SUMS, other)
    with pytest.raises(release.ReleaseError, match="find-principals"):
        release.check(out, signers)
    (out / release.SIGNATURE).unlink()
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", tmp_path / "key", release.SUMS],
        cwd=out,
        check=True,
        capture_output=True,
    )
    with pytest.raises(release.ReleaseError, match=r"verify|find-principals"):
        release.check(out, signers)


def test_the_source_archive_is_the_commits(tmp_path: Path) -> None:
    commit, when = release.commit_of()
    made = release.source(tmp_path, commit, "9")
    assert made.read_bytes() == release.source(tmp_path, commit, "9").read_bytes()
    assert when.tzinfo is not None
    with pytest.raises(release.ReleaseError, match="git"):
        release.source(tmp_path, "no-such-commit", "9")
