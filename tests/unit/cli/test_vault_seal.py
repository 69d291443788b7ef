"""`tidegate vault` as the owner of a model uses it, with files in and statuses out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from key_services import openbao
from tiny_pair import write_llama
from typer.testing import CliRunner

from tidegate.cli.main import app
from tidegate.errors import TidegateError


class Ran(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def run(*words: object, **environment: str) -> Ran:
    """The command in this process, whose core dumps and memory are left alone."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("vault_seal", "vault_open"):
            patch.setattr(f"tidegate.cli.{module}.keep_off_disk", lambda: None)
        result = CliRunner().invoke(app, ["vault", *map(str, words)], env=environment)
    if isinstance(result.exception, TidegateError):
        return Ran(2, result.stdout, result.exception.message)  # as `main` ends it
    if isinstance(result.exception, OSError):
        return Ran(2, result.stdout, str(result.exception))
    return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    place: Path = tmp_path_factory.mktemp("vault")
    write_llama(place / "model", 3)
    assert run("kms", "create", f"local:{place / 'kms'}").returncode == 0
    done = run(
        "seal",
        place / "model",
        place / "sealed",
        "--model-id",
        "tiny",
        "--kms",
        f"local:{place / 'kms'}",
        "--signing-key",
        place / "owner",
        "--signer-name",
        "owner.example/weights",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    (place / "told.json").write_text(done.stdout)
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "vault"))


def opening(place: Path, *more: object) -> Ran:
    owner = ("--owner", place / "owner.pub", "--kms", f"local:{place / 'kms'}")
    return run("open", place / "sealed", *owner, *more)


def test_sealed_verified_and_answering_from_memory(place: Path):
    told = json.loads((place / "told.json").read_text())
    assert told["model"] == "tiny"
    answered = opening(
        place,
        "--prompt",
        "hi",
        "--max-tokens",
        3,
        "--workers",
        1,
        "--manifest",
        told["manifest"],
        "--json",
    )
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout)["bytes"] == told["bytes"]
    assert "answer" in json.loads(answered.stdout)
    found = run("verify", place / "sealed", "--owner", place / "owner.pub", "--json")
    assert json.loads(found.stdout)["signed"] == "every byte"


def test_what_was_changed_ends_with_1_and_its_name(place: Path):
    path = place / "sealed" / "00001.shard"
    raw = bytearray(path.read_bytes())
    raw[60] ^= 1
    path.write_bytes(raw)
    for done in (
        run("verify", place / "sealed", "--owner", place / "owner.pub"),
        opening(place),
    ):
        assert done.returncode == 1
        assert "00001.shard" in done.stderr.replace("\n", "")


def test_a_stale_sealing_ends_with_1_where_another_is_pinned(place: Path):
    assert opening(place, "--manifest", "00" * 32).returncode == 1
    assert opening(place, "--manifest", "no digest").returncode == 2


def test_revoked_keys_open_nothing_and_end_with_2(place: Path):
    kms = f"local:{place / 'kms'}"
    assert run("kms", "rotate", kms).returncode == 0
    assert run("kms", "revoke", kms, 1).returncode == 0
    done = opening(place)
    assert done.returncode == 2
    assert "revoked" in done.stderr


def test_one_tensor_is_written_where_it_was_asked_for(place: Path):
    out = place / "norm.bin"
    assert opening(place, "--tensor", "model.norm.weight", "--out", out).returncode == 0
    assert out.stat().st_size > 0
    assert out.stat().st_mode & 0o777 == 0o600
    again = opening(place, "--tensor", "model.norm.weight", "--out", out)
    assert again.returncode == 2
    assert opening(place, "--tensor", "nothing", "--out", place / "x").returncode == 2


def test_keys_move_into_openbao_and_open_from_there(place: Path):
    with openbao() as (address, token):
        kms = f"openbao:{address}#transit/weights"
        secret = {"BAO_TOKEN": token}
        assert run("kms", "create", kms, **secret).returncode == 0
        words = ("rewrap", place / "sealed", "--owner", place / "owner.pub")
        moved = run(*words, "--kms", f"local:{place / 'kms'}", "--to", kms, **secret)
        assert moved.returncode == 0, moved.stderr
        found = run(
            "verify", place / "sealed", "--owner", place / "owner.pub", "--kms", kms, **secret
        )
        assert found.returncode == 0, found.stderr
        assert token not in found.stdout + found.stderr
        bare = run(
            "verify", place / "sealed", "--owner", place / "owner.pub", "--kms", kms, BAO_TOKEN=""
        )
        assert bare.returncode == 2
        assert "BAO_TOKEN" in bare.stderr


@pytest.mark.parametrize("name", ["nothing", "local:", "openbao:http://127.0.0.1", "pkcs11:x#y"])
def test_a_name_that_is_no_key_service_ends_with_2(place: Path, name: str):
    done = run("verify", place / "sealed", "--owner", place / "owner.pub", "--kms", name)
    assert done.returncode == 2


def test_a_model_that_its_maker_did_not_sign_is_not_sealed(place: Path):
    made = json.loads(
        (Path(__file__).parents[1] / "vault" / "model_signing_1_1_1.json").read_text()
    )
    (place / "model.sig").write_text(made["bundle"])
    (place / "maker.pub").write_text(made["public_key"])
    words = [
        "--model-id",
        "tiny",
        "--kms",
        f"local:{place / 'kms'}",
        "--signing-key",
        place / "owner",
        "--model-signature",
        place / "model.sig",
        "--model-key",
        place / "maker.pub",
    ]
    done = run("seal", place / "model", place / "other", *words)
    assert done.returncode == 1
    signed = place / "signed"
    for name, text in made["files"].items():
        (signed / name).parent.mkdir(parents=True, exist_ok=True)
        (signed / name).write_text(text)
    done = run("seal", signed, place / "third", *words)
    assert done.returncode == 0, done.stderr
