"""One answer re-executed: every way to sample, every way to end, and every way to lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pytest
from proof_world import SHAPE
from replay_world import InProcess, Served, job, run_of, world

from tidegate.errors import ModelError
from tidegate.models.port import F32Array
from tidegate.models.replay_exact import ExactReplay
from tidegate.record.entries import Reason
from tidegate.sampling.params import SamplingParams
from tidegate.verify.replay_answer import FLAGS, Checked, Rule, Task, recheck

WAYS = {
    "plain": SamplingParams(temperature=1.0),
    "greedy": SamplingParams(temperature=0.0),
    "cool": SamplingParams(temperature=0.3, top_p=0.8),
    "top k": SamplingParams(temperature=1.3, top_k=5, min_p=0.02),
    "penalties": SamplingParams(
        temperature=0.9, presence_penalty=0.7, frequency_penalty=0.4, repetition_penalty=1.2
    ),
    "greedy penalties": SamplingParams(temperature=0.0, repetition_penalty=1.5),
    "bias": SamplingParams(temperature=1.0, logit_bias=((5, 3.0), (96, -100.0), (97, -100.0))),
}
LONG = 40


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """One honest answer for each way to sample, and some that end in other ways."""
    made = world(tmp_path_factory.mktemp("answers"))
    jobs = [job(name, tokens=LONG, params=params) for name, params in WAYS.items()]
    jobs.append(job("forced", tokens=LONG, ignore_eos=True))
    stops = tuple("abcdefghijklmnop")
    jobs.append(job("stopped", tokens=LONG, stop=stops, params=WAYS["bias"]))
    jobs.append(job("seeded", tokens=LONG, user_seed=-7))
    made.serve(jobs)
    return made


@pytest.fixture(scope="module")
def tasks(served: Served) -> dict[str, Task]:
    """The answers as tasks, by request."""
    executor = InProcess(served)
    run = run_of(served, executor)
    run.round()
    run.finish()
    assert run.tally.findings == []
    names = {tuple(tokens): name.partition("/")[0] for name, tokens in served.answers.items()}
    return {names[task.tokens]: task for task in executor.tasks}


@pytest.fixture(scope="module")
def check(served: Served) -> object:
    replay, words = ExactReplay(served.open()), served.words()
    return lambda task, rule=Rule(): recheck(task, replay, words, rule)  # noqa: B008


def altered(task: Task, place: int, token: int) -> Task:
    tokens = (*task.tokens[:place], token, *task.tokens[place + 1 :])
    return msgspec.structs.replace(task, tokens=tokens)


def kinds(checked: Checked) -> list[str]:
    return [finding.kind for finding in checked.findings]


def test_every_way_to_sample_is_re_executed_to_the_same_tokens(tasks, check):
    assert set(WAYS) <= set(tasks)
    for task in tasks.values():
        checked = check(task)
        assert checked.findings == ()
        assert checked.tokens == len(task.tokens) > 0
        assert (checked.mismatches, checked.flags) == (0, ())
        assert checked.ended


@pytest.mark.parametrize("name", [*WAYS, "seeded"])
def test_one_other_token_is_found_where_it_stands(tasks, check, name: str):
    task = tasks[name]
    place = len(task.tokens) // 2
    checked = check(altered(task, place, (task.tokens[place] + 1) % 90))
    assert checked.flags[0].token == place
    found = [finding for finding in checked.findings if finding.kind == "other_token"]
    assert [finding.token for finding in found] == [place]
    assert found[0].conclusive


def test_another_seed_or_other_parameters_give_other_tokens(tasks, check):
    task = tasks["plain"]
    for changes in (
        {"seed": bytes(32)},
        {"params": SamplingParams(temperature=1.7).canonical()},
        {"prompt": (*task.prompt[:-1], task.prompt[-1] + 1)},
    ):
        checked = check(msgspec.structs.replace(task, **changes))
        assert checked.mismatches >= 1
        assert "other_token" in kinds(checked)


def test_flags_are_bounded_and_the_rest_is_counted(tasks, check):
    checked = check(msgspec.structs.replace(tasks["forced"], seed=bytes(32)))
    assert len(checked.flags) == FLAGS < checked.mismatches
    assert sum(checked.edges) == checked.mismatches


def test_an_answer_cut_short_but_called_whole_is_found(tasks, check):
    task = tasks["forced"]
    short = msgspec.structs.replace(task, tokens=task.tokens[:-3])
    for reason in (Reason.LENGTH, Reason.STOP):
        checked = check(msgspec.structs.replace(short, reason=reason))
        assert kinds(checked) == ["other_end"]
        assert not checked.ended
    assert check(msgspec.structs.replace(task, tokens=())).findings[0].kind == "other_end"


def test_an_answer_that_goes_on_after_its_end_is_found_at_the_end(tasks, check):
    task = tasks["stopped"]
    longer = msgspec.structs.replace(task, tokens=(*task.tokens, 5, 6))
    checked = check(longer)
    ends = [finding for finding in checked.findings if finding.kind == "other_end"]
    assert [finding.token for finding in ends] == [len(task.tokens) - 1]


def test_a_wrong_reason_is_found_and_the_right_stop_string_is_needed(tasks, check):
    task = tasks["stopped"]
    assert kinds(check(msgspec.structs.replace(task, reason=Reason.LENGTH))) == ["other_end"]
    assert kinds(check(msgspec.structs.replace(task, stop=()))) == ["other_end"]


@pytest.mark.parametrize("reason", [Reason.CANCELLED, Reason.FAILED, Reason.CUT])
def test_an_answer_that_was_cut_off_may_end_anywhere_but_its_end_is_open(tasks, check, reason):
    task = msgspec.structs.replace(tasks["forced"], reason=reason)
    for tokens in (task.tokens[:7], task.tokens, ()):
        checked = check(msgspec.structs.replace(task, tokens=tokens))
        assert checked.findings == ()
        assert not checked.ended
    ended = msgspec.structs.replace(tasks["stopped"], reason=reason)
    assert check(ended).findings == ()
    on = msgspec.structs.replace(ended, tokens=(*ended.tokens, 7))
    assert "other_end" in kinds(check(on))


def test_a_token_outside_the_vocabulary_is_no_answer(tasks, check):
    checked = check(altered(tasks["forced"], 4, SHAPE.vocab_size))
    (found,) = [finding for finding in checked.findings if finding.kind == "other_token"]
    assert (found.token, found.conclusive) == (4, True)


def test_what_the_model_cannot_run_is_a_finding_and_no_crash(tasks, check):
    task = tasks["plain"]
    for prompt in ((5,) * (SHAPE.context_length + 1), (SHAPE.vocab_size,)):
        checked = check(msgspec.structs.replace(task, prompt=prompt))
        assert kinds(checked) == ["replay_failed"]
        assert not checked.findings[0].conclusive
        assert checked.tokens == 0


class Noisy:
    """A float model: the exact one's logits, each moved a little, the same way every time."""

    exact = False

    def __init__(self, replay: ExactReplay, noise: float) -> None:
        self._replay = replay
        self._noise = noise
        self.vocab_size = replay.vocab_size
        self.fails = False

    def pieces(self, prompt: Sequence[int], outputs: Sequence[int]) -> Iterator[F32Array]:
        for logits_TV in self._replay.pieces(prompt, outputs):
            if self.fails:
                raise ModelError("the model broke in the middle")
            wave_TV = np.sin(np.arange(logits_TV.size, dtype=np.float32) * 12.9898)
            yield logits_TV + self._noise * wave_TV.reshape(logits_TV.shape)


def test_a_float_model_scores_instead_of_demanding_equality(served: Served, tasks):
    noisy, words = Noisy(ExactReplay(served.open()), 1e-3), served.words()
    rule = Rule(margin=4e-3, rank=4, suspicious=0.01, dangerous=0.001)
    for name in WAYS:
        checked = recheck(tasks[name], noisy, words, rule)
        assert checked.findings == ()
        assert checked.counts.tokens == checked.counts.safe == len(tasks[name].tokens)
        assert checked.surprisal_bits is not None
    task = altered(tasks["forced"], 3, (tasks["forced"].tokens[3] + 40) % 90)
    checked = recheck(task, noisy, words, rule)
    assert checked.findings == ()
    assert checked.flags[0].token == 3
    assert checked.counts.suspicious + checked.counts.dangerous >= 1
    assert checked.surprisal_bits > 6


def test_a_replay_that_breaks_in_the_middle_is_a_finding(served: Served, tasks):
    noisy = Noisy(ExactReplay(served.open()), 0.0)
    noisy.fails = True
    checked = recheck(tasks["plain"], noisy, served.words(), Rule())
    assert kinds(checked) == ["replay_failed"]
    assert (checked.tokens, checked.mismatches) == (0, 0)


def test_a_result_is_json_without_infinity(served: Served, tasks):
    task = altered(tasks["top k"], 2, (tasks["top k"].tokens[2] + 40) % 90)
    checked = recheck(task, ExactReplay(served.open()), served.words(), Rule())
    assert checked.flags[0].margin is None
    assert msgspec.json.decode(msgspec.json.encode(checked), type=Checked) == checked
