"""Answers as re-execution scores them, in the shape that calibration takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tidegate.bench.verify_answers import Block
from tidegate.bench.verify_work import Answer, Work, joined_scores
from tidegate.models.cache import Progress
from tidegate.models.replay_port import Replay
from tidegate.sampling.params import SamplingParams
from tidegate.verify.calibrate import HonestAnswer
from tidegate.verify.scores import TokenScores, score_tokens
from tidegate.verify.scores_margins import Scoring
from tidegate.verify.scores_rows import Draws

# From half a grain of the scores' own integers to a nat; four steps a decade where bf16 lies.
MARGINS = (
    *(1e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
    *(0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 1.0),
)
SCORING = Scoring(margins=MARGINS)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One answer and its scores."""

    answer: Answer
    scores: TokenScores


def replay_blocks(
    name: str, blocks: Sequence[Block], replay: Replay, work: Work, progress: Progress
) -> list[Scored]:
    """Every answer of the blocks, scored; from `work` as far as it is there. Raises ModelError."""
    found: list[Scored] = []
    for done, block in enumerate(blocks):
        progress(f"replay, {name}", done, len(blocks))
        key = (*block.key, replay.fingerprint, replay.describe().numerics, MARGINS, SCORING.sigma)
        scores = work.scores(
            name,
            key,
            partial(score, block.answers, replay),
        )
        found += [Scored(*pair) for pair in zip(block.answers, scores, strict=True)]
    progress(f"replay, {name}", len(blocks), len(blocks))
    return found


def score(answers: Sequence[Answer], replay: Replay) -> Iterator[TokenScores]:
    """Scores of each answer, with its own seed and the temperature that was logged."""
    logits = replay.logits([(answer.prompt_ids, answer.output_ids) for answer in answers])
    for answer, logits_TV in zip(answers, logits, strict=True):
        yield score_tokens(
            logits_TV,
            answer.output_ids,
            SamplingParams(temperature=answer.temperature),
            Draws.along(answer.seed, len(answer.output_ids)),
            scoring=SCORING,
        )


def by_prompt(scored: Sequence[Scored]) -> list[HonestAnswer]:
    """All answers to a prompt as one sequence, so that no prompt is in both halves of a split."""
    groups: defaultdict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        groups[one.answer.prompt].append(one)
    return [
        HonestAnswer(
            prompt,
            np.concatenate([np.array(one.answer.output_ids) for one in group]),
            joined_scores([one.scores for one in group]),
        )
        for prompt, group in sorted(groups.items())
    ]
