from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from typer.testing import CliRunner

from tidegate.bench.exact_speed import BATCHES, PREFILL, STEPS, measure
from tidegate.cli import bench_exact
from tidegate.cli.main import app
from tidegate.errors import ConfigError
from tidegate.models.cache import no_progress


class Watched:
    """A model that does nothing but write down what it is asked."""

    def __init__(self) -> None:
        self.lengths: dict[int, int] = {}
        self.calls: Counter[tuple[int, int]] = Counter()
        self.beginnings: list[tuple[int, ...]] = []

    def forward(self, batch: Sequence[tuple[int, Sequence[int]]]) -> np.ndarray:
        self.calls[len(batch), len(batch[0][1])] += 1
        for number, tokens in batch:
            if number not in self.lengths:
                self.beginnings.append(tuple(tokens))
            self.lengths[number] = self.lengths.get(number, 0) + len(tokens)
        return np.zeros((len(batch), 3), np.float32)

    def drop(self, sequence_id: int) -> None:
        del self.lengths[sequence_id]


def test_all_engines_do_the_same_work_in_turns() -> None:
    engines = {name: Watched() for name in ("exact", "bf16", "fp32")}
    figures = measure(engines, list(range(977)), turns=2, progress=no_progress)
    assert engines["exact"].calls == engines["bf16"].calls == engines["fp32"].calls
    for batch in BATCHES:
        assert engines["exact"].calls[batch, 1] == 3 * STEPS[batch]
        assert figures[f"decode_over_bf16.{batch}"].n == 2
        assert f"speed.decode{batch}_over_fp32" in figures
    assert figures["decode_over_bf16"].value == min(
        figures[f"decode_over_bf16.{batch}"].value for batch in BATCHES
    )
    assert figures["prefill_over_bf16"].target == ">= 0.5"
    assert not any(engine.lengths for engine in engines.values())


def test_no_prefill_can_be_answered_from_memory() -> None:
    engine = Watched()
    engines = {"exact": engine, "bf16": Watched()}
    measure(engines, list(range(977)), turns=4, progress=no_progress)
    whole = [tokens[:64] for tokens in engine.beginnings if len(tokens) == PREFILL]
    assert len(whole) == len(set(whole)) == 5


def test_a_part_that_does_not_exist_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(
        bench_exact, "PARTS", {"speed": lambda prompts, progress: ran.append("speed") or {}}
    )
    done = CliRunner().invoke(app, ["bench", "exact", "--only", "speed", "--only", "spede"])
    assert isinstance(done.exception, ConfigError)
    assert ran == []
    done = CliRunner().invoke(app, ["bench", "exact", "--only", "speed", "--json"])
    assert done.exit_code == 0
    assert ran == ["speed"]
