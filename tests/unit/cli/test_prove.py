"""`tidegate prove` as owner, prover and verifier use it: files in, verdicts and statuses out."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from proof_world import SHAPE, ask, write_folder
from tiny_pair import write_llama
from typer.testing import CliRunner, Result

from tidegate.cli.prove import app
from tidegate.errors import ConfigError
from tidegate.prove import receipt
from tidegate.prove.files import RECEIPT
from tidegate.prove.statement import encode
from tidegate.prove.tiers import Tier
from tidegate.prove.verdict import UnverifiableError


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which owner and prover have done their part."""
    folder = tmp_path_factory.mktemp("prove")
    write_folder(folder / "model", SHAPE)
    (folder / "request.json").write_bytes(encode(ask(prompt=20, tokens=20)))
    assert run("keygen", folder / "model", folder / "verifier.key").exit_code == 0
    assert _commit(folder, "proof").exit_code == 0
    return folder


def _commit(folder: Path, name: str, *more: object) -> Result:
    return run(
        "commit",
        folder / "model",
        folder / name,
        "--signing-key",
        folder / "prover.key",
        "--request",
        folder / "request.json",
        *more,
    )


def _verify(folder: Path, name: str = "proof", *more: object, key: str = "verifier.key") -> Result:
    signer = ("--signer", folder / "prover.key.pub", "--key", folder / key)
    statement = ("--statement", folder / "proof" / "statement.json")
    return run("verify", folder / name, *statement, *signer, "--json", *more)


def test_a_proof_made_by_one_command_is_checked_by_another(place: Path) -> None:
    found = _verify(place)
    told = json.loads(found.stdout)
    assert (found.exit_code, told["outcome"]) == (0, "pass")
    assert told["row_log2"] == -88
    assert told["not_covered"]


def test_an_altered_trace_fails_with_status_1_and_a_place(place: Path, tmp_path: Path) -> None:
    for file in (place / "proof").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    rows = bytearray((tmp_path / "rows.bin").read_bytes())
    rows[-1] ^= 1
    (tmp_path / "rows.bin").write_bytes(rows)
    found = run(
        "verify",
        tmp_path,
        "--statement",
        place / "proof" / "statement.json",
        "--signer",
        place / "prover.key.pub",
        "--key",
        place / "verifier.key",
    )
    assert found.exit_code == 1
    assert "FAIL: T3" in found.stdout
    assert "token 38, layer 2, op head" in found.stdout


@pytest.mark.parametrize("name", ["rows.bin", "hashes.bin", "embedding.bin", "receipt.txt"])
def test_a_proof_with_a_file_missing_cannot_be_verified(
    place: Path, tmp_path: Path, name: str
) -> None:
    for file in (place / "proof").iterdir():
        if file.name != name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    statement, signer = place / "proof" / "statement.json", place / "prover.key.pub"
    key = place / "verifier.key"
    found = run(
        "verify", tmp_path, "--statement", statement, "--signer", signer, "--key", key, "--json"
    )
    assert found.exit_code == 2
    assert json.loads(found.stdout)["outcome"] == "cannot_verify"
    assert name in found.stdout


def test_without_a_key_a_trace_cannot_be_verified(place: Path) -> None:
    statement, signer = place / "proof" / "statement.json", place / "prover.key.pub"
    found = run("verify", place / "proof", "--statement", statement, "--signer", signer)
    assert found.exit_code == 2
    assert "--key" in found.stdout


def test_one_command_rotates_a_key_and_old_proofs_verify_still(place: Path, tmp_path: Path) -> None:
    key = tmp_path / "verifier.key"
    key.write_bytes((place / "verifier.key").read_bytes())
    found = run("rotate", key, place / "model", "--json")
    assert json.loads(found.stdout)["generation"] == 2
    assert key.read_bytes() != (place / "verifier.key").read_bytes()
    assert _verify(place, key=str(key)).exit_code == 0


def test_keys_are_their_owners_alone_and_never_overwritten(place: Path) -> None:
    for name in ("verifier.key", "prover.key"):
        assert stat.S_IMODE((place / name).stat().st_mode) == 0o600
    before = (place / "verifier.key").read_bytes()
    found = run("keygen", place / "model", place / "verifier.key")
    assert isinstance(found.exception, ConfigError)
    assert (place / "verifier.key").read_bytes() == before


def test_show_tells_no_secret(place: Path) -> None:
    secret = (place / "prover.key").read_text().split()[1]
    shown = run("show", place / "verifier.key").stdout + run("show", place / "proof").stdout
    assert "generation: 1" in shown
    assert "trace: " in shown
    assert secret not in shown


def test_a_replay_compares_what_was_drawn(place: Path) -> None:
    statement, signer = place / "proof" / "statement.json", place / "prover.key.pub"
    arguments = ("--statement", statement, "--signer", signer, "--json")
    found = run("replay", place / "model", place / "proof", *arguments, "--share", 0.25)
    assert found.exit_code == 0
    assert json.loads(found.stdout)["coverage"].startswith("5 of 20 tokens and all their products")


def test_a_replay_of_several_proofs_takes_a_share_and_one_failure_counts(
    place: Path, tmp_path: Path
) -> None:
    statement, signer = place / "proof" / "statement.json", place / "prover.key.pub"
    folders = [place / "proof"] * 3
    pairs = [option for _ in folders for option in ("--statement", statement)]
    found = run(
        "replay",
        place / "model",
        *folders,
        *pairs,
        "--signer",
        signer,
        "--of-proofs",
        0.5,
        "--json",
    )
    assert [told["outcome"] for told in json.loads(found.stdout)] == ["pass", "pass"]
    other = json.loads(statement.read_text())
    other["tokens"][3] ^= 1
    (tmp_path / "other.json").write_text(json.dumps(other))
    pairs[-1] = tmp_path / "other.json"
    mixed = run("replay", place / "model", *folders, *pairs, "--signer", signer)
    assert mixed.exit_code == 1
    assert mixed.stdout.count("pass: T1") == 2


def test_a_receipt_alone_is_a_tier_of_its_own(place: Path) -> None:
    assert _commit(place, "receipt", "--tier", "receipt").exit_code == 0
    assert sorted(file.name for file in (place / "receipt").iterdir()) == [
        "receipt.txt",
        "statement.json",
    ]
    statement, signer = place / "receipt" / "statement.json", place / "prover.key.pub"
    arguments = ("--statement", statement, "--signer", signer)
    found = run("verify", place / "receipt", *arguments, "--tier", "receipt")
    assert found.exit_code == 0
    assert "T0 receipt" in found.stdout
    again = run(
        "replay", place / "model", place / "receipt", "--statement", statement, "--signer", signer
    )
    assert again.exit_code == 0
    assert "there are no hashes" in again.stdout


def test_a_prover_cannot_choose_a_lower_tier_than_is_demanded(place: Path) -> None:
    assert _commit(place, "lower", "--tier", "receipt").exit_code == 0
    for file in (place / "proof").iterdir():
        if file.name not in (RECEIPT, "statement.json"):
            (place / "lower" / file.name).write_bytes(file.read_bytes())
    found = _verify(place, "lower")
    assert found.exit_code == 2
    assert "tier receipt" in json.loads(found.stdout)["reason"]


def test_a_proof_is_written_whole_or_not_at_all(place: Path, tmp_path: Path) -> None:
    found = _commit(place, "proof")
    assert isinstance(found.exception, ConfigError)
    request = tmp_path / "request.json"
    request.write_bytes(encode(ask(prompt=250, tokens=20)))
    out = tmp_path / "deep" / "proof"
    longer = run(
        "commit", place / "model", out, "--request", request, "--signing-key", tmp_path / "p.key"
    )
    assert longer.exit_code == 1
    assert "context" in str(longer.exception)
    assert list(out.parent.iterdir()) == []


def test_the_tier_that_is_not_built_says_so(place: Path, tmp_path: Path) -> None:
    from proof_world import SIGNER

    from tidegate.prove.statement import decode

    stated = decode((place / "proof" / "statement.json").read_bytes())
    subject = receipt.Subject(
        engine="none", weights=bytes(32), config=bytes(32), tokenizer=bytes(32)
    )
    made = receipt.make(stated, subject, tier=Tier.ZERO_KNOWLEDGE, trace=None)
    (tmp_path / RECEIPT).write_text(receipt.sign(made, SIGNER))
    (tmp_path / "signer.pub").write_text(SIGNER.verifier.encode())
    statement = place / "proof" / "statement.json"
    signer, tier = tmp_path / "signer.pub", ("--tier", "zero-knowledge")
    found = run("verify", tmp_path, "--statement", statement, "--signer", signer, *tier)
    assert found.exit_code == 2
    assert "not built" in found.stdout
    nothing = _commit(place, "proven", "--tier", "zero-knowledge")
    assert isinstance(nothing.exception, ConfigError)


def test_a_float_server_is_monitored(tmp_path: Path) -> None:
    write_llama(tmp_path / "server", seed=3)
    key, proof = tmp_path / "monitor.key", tmp_path / "proof"
    tier = ("--tier", "project")
    assert run("keygen", tmp_path / "server", key, *tier, "--dtype", "bfloat16").exit_code == 0
    request = tmp_path / "request.json"
    request.write_bytes(encode(ask(prompt=8, tokens=6)))
    signing = ("--signing-key", tmp_path / "prover.key", "--request", request)
    assert run("commit", tmp_path / "server", proof, *tier, *signing).exit_code == 0
    statement, signer = proof / "statement.json", tmp_path / "prover.key.pub"
    arguments = ("--statement", statement, "--signer", signer, "--key", key, *tier)
    found = run("verify", proof, *arguments)
    assert found.exit_code == 0
    assert "(monitoring)" in found.stdout
    assert run("rotate", key, tmp_path / "server").exit_code == 0
    assert run("verify", proof, *arguments).exit_code == 0
    packed = bytearray((proof / "trace.safetensors").read_bytes())
    packed[-1] ^= 1
    (proof / "trace.safetensors").write_bytes(packed)
    assert run("verify", proof, *arguments).exit_code == 1


def test_a_broken_public_key_is_named(place: Path, tmp_path: Path) -> None:
    (tmp_path / "prover.pub").write_text("not a key")
    statement = place / "proof" / "statement.json"
    found = run(
        "verify", place / "proof", "--statement", statement, "--signer", tmp_path / "prover.pub"
    )
    assert isinstance(found.exception, ConfigError | UnverifiableError)
    assert "prover.pub" in str(found.exception)
