"""Costs are parted into an answer's and a token's as they were made, and coding really decodes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from tidegate.bench.capacity import (
    Rows,
    Used,
    halves,
    kernels,
    ledger_figure,
    processor_seconds,
    weak_figure,
)


def rows(count: int = 6, size: int = 500) -> Rows:
    places = np.arange(count * size, dtype=np.float32).reshape(count, size)
    strong_NV = np.sin(places * 0.7) * np.float32(6)
    return Rows(strong_NV, strong_NV + np.cos(places * 1.3), 0.002)


def test_every_stage_of_a_token_is_there_and_took_time() -> None:
    found = kernels(rows(), "49k")
    assert found.keys() == {"pick_49k_us", "encode_49k_us", "decode_49k_us"}
    for figure in found.values():
        assert (figure.unit, figure.n) == ("core·µs/token", 6)
        assert figure.value > 0


def test_what_the_weak_model_takes_is_told_a_token() -> None:
    assert weak_figure(rows()).value == pytest.approx(2000)


def test_two_lengths_tell_an_answer_from_a_token() -> None:
    """10 ms an answer and 2 ms a token; 1,000 bytes and 50."""

    def used(tokens: int) -> Used:
        return Used(
            4, tokens, 0.04 + 0.002 * tokens, 0.001 * tokens, 4000 + 50 * tokens, 8 * tokens
        )

    found = halves(used(20), used(200))
    assert found["outer_answer_us"].value == pytest.approx(10_000)
    assert found["outer_token_us"].value == pytest.approx(2_000)
    assert found["inner_link_us"].value == pytest.approx(1_000)
    assert found["record_answer_bytes"].value == pytest.approx(1_000)
    assert found["record_token_bytes"].value == pytest.approx(50)
    assert found["link_bits"].value == pytest.approx(8)


def test_a_ledgers_row_has_a_size(tmp_path: Path) -> None:
    figure = ledger_figure(tmp_path)
    assert figure.n >= 4_000
    assert 64 < figure.value < 1_000


def test_a_processs_time_is_the_systems_own() -> None:
    before = processor_seconds(os.getpid())
    assert before == pytest.approx(time.process_time(), abs=0.5)
    assert processor_seconds(os.getpid(), main_thread=True) <= before + 0.02
