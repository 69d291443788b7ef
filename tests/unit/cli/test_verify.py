"""`tidegate verify` as an operator uses it: a record in, an outcome, a status and reports out."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import pytest
from replay_world import ORIGIN, SIGNER, Served, expected, job, world
from typer.testing import CliRunner, Result

from tidegate.cli.main import app
from tidegate.errors import ConfigError
from tidegate.verify.record_lines import NoteLine, parse_line
from tidegate.verify.record_reader import Reader
from tidegate.verify.record_response import Response
from tidegate.verify.record_seal import SealTo
from tidegate.verify.record_store_files import FileSource
from tidegate.verify.selection import (
    EPOCH_ENTRIES,
    Policy,
    epoch_key,
    opens,
    selected,
    subject_of,
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["verify", *(str(argument) for argument in arguments)])


def check(served: Served, *more: object) -> Result:
    asked = (served.log, "--key", served.key, "--model", f"exact:{served.model}", "--threads", 1)
    return run(*asked, *more)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Served:
    made = world(tmp_path_factory.mktemp("honest"))
    made.serve([job(f"r{n}", tokens=10, ignore_eos=True) for n in range(4)])
    return made


@pytest.fixture(scope="module")
def lying(honest: Served, tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("lying")
    shutil.copytree(honest.model, folder / "model")
    made = Served(folder)
    jobs = [job(f"r{n}", tokens=10, ignore_eos=True) for n in range(3)]
    made.serve(jobs, tamper=lambda asked, place, token: 7 if place == 6 else token)
    return made


def test_an_honest_record_passes_with_every_token_equal(honest: Served, tmp_path: Path):
    found = check(
        honest,
        "--json",
        "--html",
        tmp_path / "report.html",
        "--sarif",
        tmp_path / "report.sarif",
        "--ocsf",
        tmp_path / "report.ocsf",
    )
    told = json.loads(found.stdout)
    assert (found.exit_code, told["outcome"]["outcome"]) == (0, "pass")
    assert (told["scored_tokens"], told["match_rate"], told["replayed"]) == (40, 1.0, 4)
    assert told["leak"]["bits_a_token"] == 0
    assert json.loads((tmp_path / "report.sarif").read_text())["runs"][0]["results"] == []
    assert len(json.loads((tmp_path / "report.ocsf").read_text())) == 1
    page = (tmp_path / "report.html").read_text()
    assert "PASS" in page
    assert "Not covered" in page
    assert [part for part in ("<script src", "<link", "@import url") if part in page] == []


def test_altered_tokens_fail_at_their_places(lying: Served, tmp_path: Path):
    found = check(lying, "--html", tmp_path / "report.html")
    assert found.exit_code == 1
    assert "FAIL" in found.stdout
    assert "token 6" in found.stdout
    assert "other_token" in (tmp_path / "report.html").read_text()


def test_a_damaged_record_is_told_in_the_table(honest: Served, tmp_path: Path):
    damaged = Served(tmp_path)
    shutil.copytree(honest.folder, tmp_path, dirs_exist_ok=True)
    (path,) = damaged.log.glob("*.log")
    path.write_bytes(path.read_bytes()[:-30])
    found = check(damaged)
    assert found.exit_code == 1
    assert "truncated" in found.stdout


def test_what_cannot_run_is_status_2_and_says_what_to_do(honest: Served, tmp_path: Path):
    for options, sentence in (
        (("--model", "smollm2"), "exact:NAME"),
        (("--sample", "much"), "1/20"),
        (("--verifier-key", tmp_path / "none"), "tidegate verify key"),
    ):
        found = check(honest, *options)
        assert isinstance(found.exception, ConfigError)
        assert sentence in found.exception.message
    (tmp_path / "key").write_text("not a key")
    found = run(honest.log, "--key", tmp_path / "key", "--model", f"exact:{honest.model}")
    assert isinstance(found.exception, ConfigError)


def test_a_sample_can_be_drawn_again_by_anybody(honest: Served):
    found = check(honest, "--sample", "1/2", "--by", "message", "--json")
    told = json.loads(found.stdout)
    key = bytes.fromhex(told["verified"]["keys"]["0"])
    assert told["verified"]["rate"] == "1/2"
    assert told["escapes"] == 7
    policy = Policy(Fraction(1, 2), "message")
    reader = Reader(FileSource(honest.log), SIGNER.verifier, expected=expected(honest))
    answers = [item for item in reader.read() if isinstance(item, Response)]
    assert len(answers) == 4
    subjects = [subject_of(answer, ORIGIN, 0, EPOCH_ENTRIES) for answer in answers]
    drawn = sum(one is not None and selected(key, one, policy) for one in subjects)
    assert told["selected_responses"] == drawn


def test_a_secret_that_will_draw_again_is_not_revealed_while_its_epoch_may_grow(
    honest: Served, tmp_path: Path
):
    again = ("--sample", "1/2", "--json")
    for option in ("--selection-key", "--resume-file"):
        found = json.loads(check(honest, *again, option, tmp_path / option).stdout)
        assert found["verified"]["keys"] == {}
    both = ("--selection-key", tmp_path / "secret", "--resume-file", tmp_path / "results")
    first = json.loads(check(honest, *again, *both).stdout)
    assert (tmp_path / "secret").read_bytes().hex().encode() not in (
        tmp_path / "results"
    ).read_bytes()
    found = check(honest, *again, *both[2:])
    assert isinstance(found.exception, ConfigError)
    assert "--selection-key" in found.exception.message
    assert json.loads(check(honest, *again, *both).stdout) == first


def test_a_run_that_is_repeated_re_executes_nothing(honest: Served, tmp_path: Path):
    results = tmp_path / "results"
    first = check(honest, "--json", "--sample", "2/3", "--resume-file", results)
    before = results.read_bytes()
    again = check(honest, "--json", "--sample", "2/3", "--resume-file", results)
    assert results.read_bytes() == before
    assert json.loads(again.stdout) == json.loads(first.stdout)
    other = check(honest, "--json", "--resume-file", results)
    assert isinstance(other.exception, ConfigError)


def test_following_ends_after_a_quiet_while_and_judges_the_same(honest: Served):
    followed = json.loads(check(honest, "--json", "--follow", "--idle", 0).stdout)
    assert followed == json.loads(check(honest, "--json").stdout)


def test_sealed_prompts_need_the_key_that_verify_key_made(honest: Served, tmp_path: Path):
    made = run("key", tmp_path / "verifier.key")
    public = bytes.fromhex(made.stdout.strip())
    assert run("key", tmp_path / "verifier.key").stdout == made.stdout
    assert (tmp_path / "verifier.key").stat().st_mode & 0o077 == 0
    shutil.copytree(honest.model, tmp_path / "model")
    sealed = Served(tmp_path)
    sealed.serve([job("r1", tokens=6, ignore_eos=True)], seal=SealTo(public))
    assert check(sealed, "--verifier-key", tmp_path / "verifier.key").exit_code == 0
    without = check(sealed, "--json")
    assert without.exit_code == 2
    assert json.loads(without.stdout)["kinds"] == {"unreadable": 1}


def test_checkpoints_kept_elsewhere_show_a_rollback(honest: Served, tmp_path: Path):
    (path,) = honest.log.glob("*.log")
    lines = path.read_bytes().splitlines(keepends=True)
    notes = [place for place, line in enumerate(lines) if line.startswith(b"C")]
    last = parse_line(lines[notes[-1]][:-1])
    assert isinstance(last, NoteLine)
    (tmp_path / "kept").write_text(last.note)
    assert check(honest, "--kept", tmp_path / "kept").exit_code == 0
    old = Served(tmp_path / "old")
    shutil.copytree(honest.folder, old.folder)
    (path,) = old.log.glob("*.log")
    path.write_bytes(b"".join(lines[: notes[0] + 1]))
    found = check(old, "--kept", tmp_path / "kept", "--json")
    assert found.exit_code == 1
    assert "rollback" in json.loads(found.stdout)["kinds"]


def test_a_profile_is_measured_from_an_honest_record_and_judges_with_it(
    honest: Served, tmp_path: Path
):
    shutil.copytree(honest.model, tmp_path / "model")
    served = Served(tmp_path)
    served.serve([job(f"r{n}", tokens=20, ignore_eos=True) for n in range(16)])
    out = tmp_path / "profile.json"
    asked = (served.log, out, "--key", served.key, "--model", f"exact:{served.model}")
    made = run("profile", *asked, "--prompts", "made up", "--threads", 1)
    assert made.exit_code == 0, made.exception
    profile = json.loads(out.read_text())
    assert profile["mismatch"]["events"] == 0
    assert "made up" in profile["provenance"]["prompts"]
    assert profile["tokens"] + profile["calibration_tokens"] == 320


def test_help_teaches():
    for command in ((), ("log",), ("profile",), ("key",)):
        found = run(*command, "--help")
        assert found.exit_code == 0
    assert "cannot verify" in run("--help").stdout


def test_a_plan_says_what_a_share_finds_and_that_long_answers_are_nearly_always_drawn():
    told = json.loads(run("plan", "--sample", "1/100", "--json", "--lengths", "1000").stdout)
    assert {level["confidence"]: level["needed"] for level in told["levels"]}[0.99] == 459
    assert told["expected_messages"] == pytest.approx(1 - 0.99**1000)
    shown = run("plan", "--sample", "1/100", "--by", "message").stdout
    assert "after 459 deviating messages" in shown
    for bad in (("--lengths", "many"), ("--lengths", "0"), ("--sample", "2")):
        assert isinstance(run("plan", *bad).exception, ConfigError)


def test_commitments_are_opened_by_the_keys_of_their_own_epochs(tmp_path: Path):
    found = run("commit", tmp_path / "secret", "--origin", ORIGIN, "--first", 3, "--json")
    told = json.loads(found.stdout)["commitments"]
    secret = (tmp_path / "secret").read_bytes()
    assert sorted(map(int, told)) == list(range(3, 11))
    assert all(
        opens(epoch_key(secret, int(epoch)), bytes.fromhex(one), ORIGIN, int(epoch))
        for epoch, one in told.items()
    )
    assert not opens(epoch_key(secret, 3), bytes.fromhex(told["4"]), ORIGIN, 4)
