from __future__ import annotations

import math
from pathlib import Path

import float_models
import numpy as np
import pytest
import tiny_pair

from tidegate.bench import exact_accuracy
from tidegate.bench.exact_accuracy import Score, measure, perplexity_ratio, score, texts_of
from tidegate.bench.exact_task import LETTERS, Question, answers, compare, questions
from tidegate.models import tokenizer
from tidegate.models.cache import no_progress
from tidegate.models.exact.convert import Recipe, convert
from tidegate.models.tokenizer import FileTokenizer

LONG = float_models.config("qwen2", tied=False, max_position_embeddings=2_048)


@pytest.fixture
def words(tmp_path: Path) -> FileTokenizer:
    tiny_pair.write_tokenizer(tmp_path)
    return tokenizer.load(tmp_path)


def test_only_what_a_person_wrote_is_measured(words: FileTokenizer) -> None:
    for prompt in ("hello there", "us", "user", "e", ""):
        (text,) = texts_of([prompt], words, 1)
        assert words.decode(text.tokens[text.first : text.end]) == prompt


def test_texts_stop_when_enough_tokens_are_there(words: FileTokenizer) -> None:
    texts = texts_of(["abcd"] * 9, words, 10)
    assert [text.end - text.first for text in texts] == [4, 4, 4]


def test_a_score_is_the_surprise_of_the_right_tokens(words: FileTokenizer) -> None:
    texts = texts_of(["abcd", "xy"], words, 6)
    rng = np.random.default_rng(1)
    logits = [rng.standard_normal((len(t.tokens), 98)).astype(np.float32) for t in texts]
    found = score(iter(logits), texts, no_progress, "")
    want, best = [], []
    for text, logits_TV in zip(texts, logits, strict=True):
        for place in range(text.first, text.end):
            before_V = logits_TV[place - 1].astype(np.float64)
            want.append(math.log(np.exp(before_V).sum()) - before_V[text.tokens[place]])
            best.append(int(before_V.argmax()))
    assert found.nats == pytest.approx(want)
    assert found.best == best


def test_a_ratio_of_perplexities_is_paired() -> None:
    reference = Score(nats=[1.0, 5.0, 2.0, 9.0])
    ratio, error = perplexity_ratio(Score([n + 0.01 for n in reference.nats]), reference)
    assert ratio == pytest.approx(math.exp(0.01))
    assert error == pytest.approx(0, abs=1e-9)


def test_the_questions_have_answers_among_their_letters(words: FileTokenizer) -> None:
    asked = questions(words)
    assert len(asked) >= 70
    assert {question.answer for question in asked} == {0, 1, 2, 3}
    for question in asked:
        text = words.decode(question.tokens)
        assert all(f"({letter})" in text for letter in LETTERS)
        assert text.endswith("The answer is (")


def test_the_likeliest_letter_is_the_answer(words: FileTokenizer) -> None:
    logits_V = np.zeros(98, np.float32)
    logits_V[words.encode("C")[0]] = 1
    logits_V[words.encode("E")[0]] = 2
    assert answers(iter([logits_V]), words) == [2]


def test_a_difference_is_counted_in_standard_errors() -> None:
    asked = [Question((), 0)] * 100
    verdict = compare([0] * 40 + [1] * 60, [0] * 50 + [1] * 50, asked)
    assert (verdict.share, verdict.reference) == (0.4, 0.5)
    assert verdict.standard_errors == pytest.approx(2)
    assert compare([1] * 9, [1] * 9, asked[:9]).standard_errors == 0


def test_a_small_model_is_measured_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_accuracy, "questions", lambda words: questions(words)[:6])
    calm = np.full(float_models.WIDTH, 0.25, np.float32)  # trained models are not so sure
    source = float_models.write(tmp_path / "source", LONG, model__norm__weight=calm)
    convert(source, tmp_path / "out", Recipe(max_context=2_048, tokens=160))
    prompts = ["a first one", "and another"]
    figures = measure("tiny", source, tmp_path / "out", prompts, tokens=20, progress=no_progress)
    ratio = figures["tiny_perplexity_over_fp32"]
    assert ratio.n == 22
    assert ratio.value == pytest.approx(1, abs=0.02)
    assert figures["tiny_greedy_agreement"].value > 0.5
    assert figures["tiny_mmlu_standard_errors"].n == 6
