"""Honest answers out of a record, scored in full: what `calibrate.measure` makes a profile of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from tidegate.errors import ConfigError
from tidegate.models.replay_port import Replay
from tidegate.record.entries import Stack
from tidegate.sampling.params import SamplingParams
from tidegate.verify.calibrate import HonestAnswer
from tidegate.verify.record_findings import Finding
from tidegate.verify.record_reader import Reader
from tidegate.verify.record_seal import Opener
from tidegate.verify.replay_answer import Task
from tidegate.verify.replay_findings import Found
from tidegate.verify.replay_task import task_of
from tidegate.verify.scores import score_tokens
from tidegate.verify.scores_margins import Scoring
from tidegate.verify.scores_rows import Draws

MARGINS: Final = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Nats of logit at which points are measured."""
RANKS: Final = (2, 8, 64)


def recorded_tasks(
    reader: Reader, vocab_size: int, opener: Opener | None = None
) -> Iterator[tuple[Task, Stack]]:
    """Every answer of a sound record, with what served it. Raises ConfigError at a finding."""
    for item in reader.read():
        if isinstance(item, Finding):
            raise _unsound(item.reason)
        task = task_of(item, vocab_size=vocab_size, opener=opener)
        if isinstance(task, Found):
            raise _unsound(task.reason)
        if task.tokens:
            yield task, item.stack
    for finding in reader.finish():
        raise _unsound(finding.reason)


def honest_answers(
    reader: Reader, replay: Replay, opener: Opener | None = None
) -> Iterator[tuple[HonestAnswer, Stack, SamplingParams]]:
    """Every answer of a record, with what served it and how it was sampled.

    Raises ConfigError at the first finding: nothing is calibrated on a record that is not sound.
    """
    for task, stack in recorded_tasks(reader, replay.vocab_size, opener):
        params = SamplingParams.from_canonical(task.params)
        yield _answer(task, replay, params), stack, params


def _answer(task: Task, replay: Replay, params: SamplingParams) -> HonestAnswer:
    (logits_TV,) = replay.logits([(task.prompt, task.tokens)])
    scores = score_tokens(
        logits_TV,
        task.tokens,
        params,
        Draws.along(task.seed, len(task.tokens)),
        scoring=Scoring(margins=MARGINS),
        prompt_ids=task.prompt,
    )
    return HonestAnswer(task.digest.hex(), np.array(task.tokens), scores)


def _unsound(reason: str) -> ConfigError:
    return ConfigError(f"nothing is measured on a record that is not sound: {reason}")
