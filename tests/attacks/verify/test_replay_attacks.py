"""Attacks on what a verifier re-executes: each is named, none becomes a pass."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from replay_world import ORIGIN, SEEDS, SIGNER, InProcess, Served, job, run_of, world

from tidegate.record.entries import Begin
from tidegate.record.private import Private, Seal, pack
from tidegate.serve.jobs import Job
from tidegate.serve.outer import recorder
from tidegate.transparency.note import Signer
from tidegate.verify.record_lines import EntryLine, NoteLine, parse_line
from tidegate.verify.record_store_memory import MemoryStore
from tidegate.verify.replay_run import Run
from tidegate.verify.report import Report, Verified, report_of
from tidegate.verify.report_scopes import Stakes
from tidegate.verify.selection import Policy

VERIFIED = Verified(
    record=ORIGIN,
    model="tiny",
    fingerprint="",
    numerics="",
    exact=True,
    rate="1",
    by="token",
    keys={},
    profile="",
)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Served:
    made = world(tmp_path_factory.mktemp("honest"))
    for name in ("one", "two", "three"):  # one after the other, so that lines are in order
        made.serve([job(name, tokens=8, ignore_eos=True)])
    return made


def fresh(honest: Served, folder: Path) -> Served:
    """The same model, and no record."""
    shutil.copytree(honest.model, folder / "model")
    return Served(folder)


def judged(run: Run) -> Report:
    run.round()
    run.finish()
    policy = Policy(Fraction(1))
    return report_of(
        run.tally,
        run.summary(),
        VERIFIED,
        policy,
        version="0",
        vocab_size=98,
        point=None,
        fraction=0.1,
        kept=False,
        stakes=Stakes(weight_bits=1e9, sampled=1.0),
    )


def lines(served: Served) -> list[bytes]:
    """All lines of a record of one segment."""
    (path,) = sorted(served.log.glob("*.log"))
    return path.read_bytes().splitlines(keepends=True)


def source(changed: list[bytes]) -> MemoryStore:
    store = MemoryStore()
    store.data[0] = bytearray(b"".join(changed))
    return store


def places(found: list[bytes], kind: type) -> list[int]:
    return [n for n, line in enumerate(found) if isinstance(parse_line(line[:-1]), kind)]


def test_an_honest_record_passes(honest: Served):
    report = judged(run_of(honest))
    assert (report.outcome.outcome, report.kinds) == ("pass", {})
    assert (report.replayed, report.scored_tokens, report.mismatches) == (3, 24, 0)


def _flipped(found: list[bytes]) -> list[bytes]:
    place = places(found, EntryLine)[4]
    line = bytearray(found[place])
    line[-20] ^= 1
    return [*found[:place], bytes(line), *found[place + 1 :]]


def _torn(found: list[bytes]) -> list[bytes]:
    return [*found[:-1], found[-1][:-9]]


def _swapped(found: list[bytes]) -> list[bytes]:
    one, other = places(found, EntryLine)[3:5]
    found[one], found[other] = found[other], found[one]
    return found


def _twice(found: list[bytes]) -> list[bytes]:
    place = places(found, EntryLine)[5]
    return [*found[: place + 1], found[place], *found[place + 1 :]]


def _gone(found: list[bytes]) -> list[bytes]:
    place = places(found, EntryLine)[4]
    return [*found[:place], *found[place + 1 :]]


def _forged(found: list[bytes]) -> list[bytes]:
    """Checkpoints by a key of the attacker's that has the same name."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    forger = Signer(ORIGIN, key)
    place = places(found, NoteLine)[-1]
    parsed = parse_line(found[place][:-1])
    assert isinstance(parsed, NoteLine)
    checkpoint = SIGNER.verifier.open(parsed.note)
    note = base64.b64encode(forger.sign(checkpoint).encode())
    return [*found[:place], b"C " + note + b"\n", *found[place + 1 :]]


def _cut_at_a_line(found: list[bytes]) -> list[bytes]:
    return found[: places(found, NoteLine)[-1]]


TAMPERS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "corrupt": _flipped,
    "truncated": _torn,
    "reordered": _swapped,
    "duplicated": _twice,
    "missing": _gone,
    "forged_checkpoint": _forged,
    "unsigned": _cut_at_a_line,
}


@pytest.mark.parametrize("name", TAMPERS)
def test_a_damaged_record_is_named_and_never_passes(honest: Served, name: str):
    report = judged(run_of(honest, source=source(TAMPERS[name](lines(honest)))))
    assert name in report.kinds
    assert report.outcome.outcome != "pass"
    assert (report.outcome.outcome == "fail") == (name != "unsigned")


def test_an_answer_that_no_checkpoint_covers_is_not_counted_as_verified(honest: Served):
    report = judged(run_of(honest, source=source(_cut_at_a_line(lines(honest)))))
    assert (report.responses, report.replayed) == (3, 2)


@pytest.mark.parametrize(
    ("stack", "name"),
    [
        ({"model": "0" * 64}, "unknown_model"),
        ({"tokenizer": "0" * 64}, "wrong_tokenizer"),
        ({"template": "0" * 64}, "wrong_template"),
        ({"vocabulary": 99}, "wrong_tokenizer"),
    ],
)
def test_another_stack_is_named_and_never_passes(
    honest: Served, tmp_path: Path, stack: dict[str, object], name: str
):
    made = fresh(honest, tmp_path)
    made.serve([job("one")], **stack)
    report = judged(run_of(made))
    assert report.outcome.outcome == "fail"
    assert set(report.kinds) == {name}
    assert report.scored_tokens == 0


def test_one_altered_token_fails_and_is_located(honest: Served, tmp_path: Path):
    made = fresh(honest, tmp_path)

    def lie(asked: object, place: int, token: int) -> int:
        return (token + 1) % 90 if (asked.request_id, place) == ("two", 5) else token  # type: ignore[attr-defined]

    made.serve([job(n, tokens=8, ignore_eos=True) for n in ("one", "two")], tamper=lie)
    report = judged(run_of(made))
    assert report.outcome.outcome == "fail"
    assert report.kinds == {"other_token": 1}
    (found,) = report.findings
    assert found.token == 5
    assert found.response is not None
    assert any("token 5" in line for line in report.outcome.evidence)


def test_seeds_that_contradict_what_was_committed_to_fail(
    honest: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    honestly = recorder.beginning

    def lying(asked: Job, seed: bytes, seal: Seal, lora: str = "") -> Begin:
        begin = honestly(asked, seed, seal, lora)
        private = pack(Private(bytes(32), tuple(range(begin.prompt_tokens)), (), None))
        return msgspec.structs.replace(begin, private=private)

    made = fresh(honest, tmp_path)
    monkeypatch.setattr(recorder, "beginning", lying)
    made.serve([job("one")])
    report = judged(run_of(made, seeds=SEEDS))
    assert report.outcome.outcome == "fail"
    assert report.kinds == {"contradictory_seeds": 1}


def test_retrying_until_a_seed_suits_shows_with_the_seed_key(honest: Served, tmp_path: Path):
    made = fresh(honest, tmp_path)
    made.serve([job("one", attempt=3)])
    assert judged(run_of(made, seeds=SEEDS)).outcome.outcome == "pass"
    other = type(SEEDS)(bytes(32))
    assert judged(run_of(made, seeds=other)).kinds == {"contradictory_seeds": 1}


def test_reasoning_is_never_a_pass(honest: Served, tmp_path: Path):
    made = fresh(honest, tmp_path)
    made.serve([job("one"), job("two", reasoning=True)])
    report = judged(run_of(made))
    assert (report.outcome.outcome, report.kinds) == ("cannot_verify", {"not_followed": 1})
    assert report.replayed == 1


def test_nothing_to_verify_is_never_a_pass(honest: Served, tmp_path: Path):
    made = fresh(honest, tmp_path)
    made.serve([])
    assert judged(run_of(made)).outcome.outcome == "cannot_verify"
    none = run_of(honest, policy=Policy(Fraction(0)))
    assert judged(none).outcome.outcome == "cannot_verify"


def test_more_is_never_in_hand_than_the_executor_takes(honest: Served):
    executor = InProcess(honest)
    judged(run_of(honest, executor))
    assert 0 < executor.most <= 4
