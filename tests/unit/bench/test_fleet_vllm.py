"""The vLLM part of the fleet's bench, without vLLM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tidegate.bench.fleet import Options
from tidegate.bench.fleet_vllm import SETTINGS, TOKENS, Answer, equal_answers, measure, run_engine
from tidegate.bench.fleet_vllm_engine import Line, Work
from tidegate.errors import ConfigError, EngineError
from tidegate.models.draw import Drawer, Row
from tidegate.models.vllm_contract import Draw

WORK = Work(folder="model", max_context=64, answers=[], pairs={}, repeats=1)
VOCAB = 90


def silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def pretender(folder: Path, script: str) -> Path:
    """A Python that runs `script` instead of what it is told; $3 is the descriptor."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
    path.chmod(0o755)
    return path


def test_without_vllm_it_says_how_to_get_it() -> None:
    with pytest.raises(ConfigError, match=r"tools/vllm_environment\.py"):
        measure(silent, Options())


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        run_engine(tmp_path / "nowhere", WORK, silent)


def test_progress_is_passed_on_and_the_result_ends_it(tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    said = '{"stage":"answers","done":1,"total":2}\\n{"version":"0.32.0","tokens":[[4,5]]}\\n'
    python = pretender(tmp_path, f"echo noise; printf '{said}' > /dev/fd/$3")
    result = run_engine(python, WORK, lambda *told: heard.append(told))
    assert result == Line(version="0.32.0", tokens=[[4, 5]])
    assert heard == [("answers", 1, 2)]


def test_an_engine_that_dies_leaves_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no memory"):
        run_engine(pretender(tmp_path, "echo no memory >&2; exit 3"), WORK, silent)


def test_an_engine_that_dies_before_it_is_told_anything_too(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such module >&2\nexit 1\n")
    python.chmod(0o755)
    heavy = Work(folder="x" * 10**6, max_context=64, answers=[], pairs={}, repeats=1)
    with pytest.raises(EngineError, match="no such module"):
        run_engine(python, heavy, silent)


class Flat:
    """A replay whose logits depend on the place alone."""

    vocab_size = VOCAB

    def logits(self, sequences: Sequence[Any]) -> Iterator[np.ndarray[Any, Any]]:
        for _, output in sequences:
            yield (
                np.random.default_rng(5)
                .normal(size=(TOKENS, VOCAB))
                .astype(np.float32)[: len(output)]
            )


def test_only_answers_that_are_ours_to_the_last_token_count() -> None:
    replay: Any = Flat()
    answers = [
        Answer((1, 2), Draw(params=params, seed=bytes([number]) * 32))
        for number, params in enumerate(SETTINGS.values())
    ]
    (logits_TV,) = replay.logits([((1,), range(TOKENS))])
    tokens = [
        Drawer(VOCAB)
        .tokens(
            torch.from_numpy(logits_TV),
            [Row(one.draw.params, one.draw.seed, place) for place in range(TOKENS)],
        )
        .tolist()
        for one in answers
    ]
    assert equal_answers(replay, answers, tokens, silent) == len(answers)
    tokens[0][-1] = (tokens[0][-1] + 1) % VOCAB
    tokens[1] = tokens[1][:-1]
    assert equal_answers(replay, answers, tokens, silent) == len(answers) - 2
