from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import exact_models
import numpy as np
import pytest

from tidegate.bench.prompts import Prompt
from tidegate.bench.verify_answers import (
    HONEST,
    LONGEST_PROMPT,
    Pool,
    Serving,
    generate,
    jobs,
    prompts_of,
    serve,
)
from tidegate.bench.verify_replayed import MARGINS, by_prompt, replay_blocks, score
from tidegate.bench.verify_work import Answer, Work
from tidegate.errors import ConfigError
from tidegate.models.cache import no_progress
from tidegate.models.replay_exact import ExactReplay

SHAPE = exact_models.shape_of()
PROMPTS = tuple((f"p{n}", tuple(range(3 + n, 9 + n))) for n in range(5))
POOL = Pool(name="tiny", engine="exact", batch=3, tokens=120)


@pytest.fixture(scope="module")
def model() -> exact_models.ExactModel:
    return exact_models.model_of(SHAPE)


class Flat:
    """A model that is never sure: its logits hang on the last token alone."""

    vocab_size = 64
    eos_ids = frozenset({2})
    table_VV = np.random.default_rng(5).standard_normal((64, 64)).astype(np.float32)

    def forward(self, batch: Sequence[tuple[int, Sequence[int]]]) -> np.ndarray:
        return self.table_VV[[tokens[-1] for _, tokens in batch]]

    def drop(self, sequence_id: int) -> None:
        pass

    def logits(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Iterator[Any]:
        for prompt, outputs in sequences:
            yield self.table_VV[[prompt[-1], *outputs[:-1]]]


def answers(model: Any, serving: Serving = HONEST) -> list[Answer]:
    todo = islice(jobs(POOL, PROMPTS, 1.0, 0), 8)
    return generate(model, todo, batch=3, tokens=100, max_tokens=30, serving=serving)


def matches(replay: Any, made: list[Answer]) -> float:
    scores = list(score(made, replay))
    same = [
        one.expected_T == np.array(answer.output_ids)
        for one, answer in zip(scores, made, strict=True)
    ]
    return float(np.concatenate(same).mean())


def test_an_exact_model_draws_every_honest_token_again(model: exact_models.ExactModel) -> None:
    made = answers(model)
    assert matches(ExactReplay(model), made) == 1
    assert 100 <= sum(len(one.output_ids) for one in made) < 100 + POOL.batch
    assert max(len(one.output_ids) for one in made) <= 30


def test_every_answer_has_a_seed_of_its_own() -> None:
    several = [*islice(jobs(POOL, PROMPTS, 1.0, 0), 12), *islice(jobs(POOL, PROMPTS, 0.7, 0), 12)]
    assert len({job.seed for job in several}) == 24
    assert [job.prompt for job in several[:6]] == ["p0", "p1", "p2", "p3", "p4", "p0"]


def test_cheats_deviate_as_often_as_they_say() -> None:
    flat = Flat()
    assert matches(flat, answers(flat)) == 1
    full = matches(flat, answers(flat, Serving(deviating=1.0)))
    some = matches(flat, answers(flat, Serving(deviating=0.2)))
    warm = matches(flat, answers(flat, Serving(temperature=2.0)))
    assert full < 0.2
    assert 0.65 < some < 0.95
    assert 0.3 < warm < 0.95


def test_a_run_goes_on_where_it_was_interrupted(
    model: exact_models.ExactModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(tmp_path)
    first = serve(POOL, model, PROMPTS, work, no_progress)
    scored = replay_blocks("tiny", first, ExactReplay(model), work, no_progress)
    monkeypatch.setattr(model, "forward", None)
    monkeypatch.setattr(model, "forced", None)
    again = serve(POOL, model, PROMPTS, work, no_progress)
    assert again == first
    stored = replay_blocks("tiny", again, ExactReplay(model), work, no_progress)
    for one, other in zip(scored, stored, strict=True):
        assert np.array_equal(one.scores.admissible_MT, other.scores.admissible_MT)
        assert np.array_equal(one.scores.margin_T, other.scores.margin_T)
        assert one.scores.admissible_MT.shape == (len(MARGINS), len(one.answer.output_ids))


def test_another_pool_is_not_answered_from_the_cache(
    model: exact_models.ExactModel, tmp_path: Path
) -> None:
    work = Work(tmp_path)
    honest = serve(POOL, model, PROMPTS, work, no_progress)
    cheat = Pool(name="tiny", engine="exact", batch=3, tokens=120, serving=Serving(deviating=1))
    assert serve(cheat, model, PROMPTS, work, no_progress) != honest


def test_a_damaged_piece_is_named(model: exact_models.ExactModel, tmp_path: Path) -> None:
    work = Work(tmp_path)
    blocks = serve(POOL, model, PROMPTS, work, no_progress)
    replay_blocks("tiny", blocks, ExactReplay(model), work, no_progress)
    for pattern in ("scores-*.npz", "answers-*.json"):
        piece = next(tmp_path.glob(pattern))
        piece.write_bytes(piece.read_bytes()[:-30])
        with pytest.raises(ConfigError, match="delete it"):
            replay_blocks(
                "tiny",
                serve(POOL, model, PROMPTS, work, no_progress),
                ExactReplay(model),
                work,
                no_progress,
            )


def test_all_answers_to_a_prompt_are_one_sequence(
    model: exact_models.ExactModel, tmp_path: Path
) -> None:
    work = Work(tmp_path)
    pool = Pool(name="tiny", engine="exact", batch=5, tokens=2_600)
    blocks = serve(pool, model, PROMPTS, work, no_progress)
    assert {one.temperature for block in blocks for one in block.answers} == {0.7, 1.0}
    scored = replay_blocks("tiny", blocks, ExactReplay(model), work, no_progress)
    grouped = by_prompt(scored)
    assert [one.sequence for one in grouped] == sorted(name for name, _ in PROMPTS)
    tokens = sum(len(one.answer.output_ids) for one in scored)
    assert sum(one.served_T.size for one in grouped) == tokens
    assert sum(one.scores.share_T.size for one in grouped) == tokens


def test_long_prompts_are_left_out() -> None:
    class Words:
        def chat(self, messages: list[dict[str, str]]) -> list[int]:
            return [len(messages[0]["content"])]

    rows = [
        Prompt(id=f"{n}", prompt="x" * n, source="", licence="", category="")
        for n in (5, LONGEST_PROMPT, LONGEST_PROMPT + 1)
    ]
    found = prompts_of(rows, Words())  # type: ignore[arg-type]
    assert sorted(found) == [("5", (5,)), (str(LONGEST_PROMPT), (LONGEST_PROMPT,))]
