"""The lab: its models, its honest answers, and what it counts as received."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tidegate.errors import ConfigError, ModelError
from tidegate.redteam.drawing import carried, message, normals
from tidegate.redteam.examiner import Standard, examine, stop_of
from tidegate.redteam.lab import Honest, Sent, Turn, listen, serve
from tidegate.redteam.machines import BF16, EOS, RANDOM, MarkovModel, MarkovReplay, NoisyModel
from tidegate.redteam.outer import Job, Outer
from tidegate.redteam.worlds import markov
from tidegate.sampling.params import SamplingParams
from tidegate.verify.scores_rows import F32Array


def served(run: str, answers: int = 3, tokens: int = 20) -> Outer:
    outer, model = Outer(MarkovModel(), run), MarkovModel()
    jobs = [outer.ask((5, 6, place), SamplingParams(), tokens) for place in range(answers)]
    serve(outer, model, jobs, Honest(model.vocab_size))
    outer.close()
    return outer


def test_decoding_and_replay_give_the_same_bits() -> None:
    outer = served("bits")
    heard: dict[int, list[F32Array]] = {}

    class Ear:
        def hear(self, turn: Turn, tokens: object) -> None:
            for job, logits_V in zip(turn.jobs, turn.logits_NV, strict=True):
                heard.setdefault(job.index, []).append(logits_V)

        def tally(self, jobs: object) -> tuple[int, int]:
            return 0, 0

    listen(MarkovModel(), outer.jobs, Ear())
    replay = MarkovReplay(MarkovModel())
    for job in outer.jobs:
        (forced_TV,) = replay.logits([(job.prompt, job.tokens)])
        assert np.array_equal(forced_TV, np.stack(heard[job.index]))


def test_honest_answers_of_an_exact_model_raise_nothing() -> None:
    outer = served("honest")
    standard = Standard(vocab_size=1024)
    reading = examine(outer, MarkovReplay(MarkovModel()), standard, Fraction(1))
    assert reading.findings == ()
    assert not any(answer.tier_T.any() for answer in reading.answers)
    stop = stop_of(reading.answers, standard)
    assert not stop.alarmed
    assert stop.verified == sum(len(job.tokens) for job in outer.jobs)


def test_what_was_not_selected_is_charged_in_full() -> None:
    outer = served("unseen", answers=12)
    standard = Standard(vocab_size=1024)
    reading = examine(outer, MarkovReplay(MarkovModel()), standard, Fraction(1, 100))
    unseen = [answer for answer in reading.answers if not answer.verified]
    assert unseen
    assert all(answer.cost_T.tolist() == [10.0] * answer.tokens for answer in unseen)
    assert stop_of(reading.answers, standard).verified < sum(a.tokens for a in reading.answers)


def test_retries_are_counted_in_the_record() -> None:
    outer = Outer(MarkovModel(), "retries")
    jobs = [outer.ask((5, 6), SamplingParams(), 4) for _ in range(3)]
    assert [job.attempt for job in jobs] == [0, 1, 2]
    assert len({job.seed for job in jobs}) == 3


def test_a_prompt_for_random_characters_gets_nearly_even_ones() -> None:
    model = MarkovModel()
    logits_V = model.forward([(0, (RANDOM, 9, 10))])[0].astype(np.float64)
    shares_V = np.exp(logits_V - logits_V.max())
    shares_V /= shares_V.sum()
    assert float((shares_V**2).sum()) == pytest.approx(1 / 64, rel=0.05)
    assert shares_V[EOS] < 1e-6


def test_noise_moves_logits_by_about_its_width() -> None:
    plain_V = MarkovModel().forward([(0, (5, 6))])[0]
    noisy = NoisyModel(MarkovModel(), BF16)
    widths = [float((noisy.forward([(n, (5, 6))])[0] - plain_V).std()) for n in range(100)]
    assert np.median(widths) == pytest.approx(BF16.sigma, rel=0.3)
    assert max(widths) > 2 * min(widths)


def test_a_model_keeps_no_unknown_sequence() -> None:
    with pytest.raises(ModelError):
        MarkovModel().drop(3)
    with pytest.raises(ModelError):
        MarkovModel().fork(3, 4)


def test_an_unknown_noise_law_is_refused() -> None:
    with pytest.raises(ConfigError, match="fp32"):
        markov("fp8")


def test_a_longer_message_begins_with_a_shorter_one() -> None:
    whole = message(7, 64)
    assert [message(7, bits) for bits in range(1, 64)] == [whole >> 64 - b for b in range(1, 64)]


def test_errors_take_back_what_was_received() -> None:
    assert carried(100, 0) == 100
    assert carried(100, 50) == carried(100, 80) == 0
    assert 0 < carried(100, 11) < 60


def test_drawn_noise_is_normal() -> None:
    drawn_N = normals(b"x", 20_000)
    assert abs(float(drawn_N.mean())) < 0.03
    assert float(drawn_N.std()) == pytest.approx(1, rel=0.03)


def test_bits_are_counted_by_token() -> None:
    sent = Sent()
    job = Outer(MarkovModel(), "count").ask((5,), SamplingParams(), 2)
    assert isinstance(job, Job)
    sent.add(job, 1.5)
    sent.add(job, 2.0)
    assert sent.total() == 3.5
