from __future__ import annotations

from pathlib import Path

import exact_models
import numpy as np
import pytest

from tidegate.bench import exact_identity
from tidegate.bench.exact_identity import beginning, measure, row_hash, ways
from tidegate.bench.exact_passes import Runner, Schedule, decode, prefill
from tidegate.errors import ModelError
from tidegate.models.cache import no_progress
from tidegate.models.exact import format as folders
from tidegate.models.exact.backends import names
from tidegate.models.exact.ops_numpy import NumpyOps

SHAPE = exact_models.shape_of(context_length=160)
TEXTS = [[(7 * n + 3 * place) % SHAPE.vocab_size for place in range(5 + 30 * n)] for n in range(3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exact") / "model"
    folders.write(
        path,
        SHAPE,
        exact_models.tensors(SHAPE).items(),
        name="seeded",
        licence="none",
        provenance="a seed",
        source_sha256="",
        made_with="a test",
        settings={},
        files={},
    )
    return path


@pytest.mark.parametrize(
    "schedule", [prefill(1), prefill(3), prefill(32), decode(1), decode(2), Schedule(3, 7)]
)
def test_every_schedule_gives_the_logits_after_every_token_once(
    folder: Path, schedule: Schedule
) -> None:
    model = exact_models.model_of(SHAPE, "numpy")
    found: dict[tuple[int, int], np.ndarray] = {}
    for piece in Runner(folders.read(folder), "numpy", 1).run(TEXTS, schedule):
        for offset, logits_V in enumerate(piece.logits_TV):
            assert (piece.text, piece.first + offset) not in found
            found[piece.text, piece.first + offset] = logits_V.copy()
    assert sorted(found) == [
        (n, place) for n, text in enumerate(TEXTS) for place in range(len(text))
    ]
    for number, text in enumerate(TEXTS):
        want_V = model.forward([(number, text)])[0]
        assert np.array_equal(found[number, len(text) - 1], want_V)


def test_a_text_beyond_the_context_is_refused(folder: Path) -> None:
    runner = Runner(folders.read(folder), "numpy", 1)
    with pytest.raises(ModelError, match="160 tokens"):
        next(runner.run([[1] * 161], prefill()))


def test_the_bench_sees_that_all_ways_of_running_agree(folder: Path) -> None:
    figures = measure(folder, TEXTS, no_progress)
    share = figures["bit_identical_share"]
    assert share.value == 1
    assert share.holds
    assert share.n == sum(f.n for key, f in figures.items() if key.startswith("identical."))
    assert figures["bit_identical_tokens"].holds is False  # so few tokens prove little
    backends = {key.split(".")[1] for key in figures if key.startswith("identical.")}
    assert backends == set(names())


def test_the_bench_sees_one_back_end_that_is_off_by_a_bit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = NumpyOps.logits

    def wrong(self: NumpyOps, *arguments: object) -> np.ndarray:
        logits_LV = right(self, *arguments)  # type: ignore[arg-type]
        logits_LV.view(np.int32)[0, 3] ^= 1
        return logits_LV

    monkeypatch.setattr(NumpyOps, "logits", wrong)
    monkeypatch.setattr(exact_identity, "names", lambda: ["native-portable", "numpy"])
    figures = measure(folder, TEXTS, no_progress)
    assert figures["bit_identical_share"].holds is False
    off = {key for key, figure in figures.items() if figure.value < 1 and key.startswith("iden")}
    assert off == {key for key in figures if key.startswith("identical.numpy")}


def test_all_that_must_agree_is_compared() -> None:
    seen = ways("native-avx2")
    shapes = {(way.schedule.batch, way.schedule.step > 1, way.threads) for way in seen}
    assert {(b, p, t) for b in (1, 8, 32) for p in (True, False) for t in (1, 2)} <= shapes | {
        (1, True, 1)  # the reference itself
    }
    assert {way.backend for way in seen} == set(names())


def test_a_hash_covers_every_logit() -> None:
    logits_V = np.arange(7, dtype=np.float32)
    seen = {row_hash(logits_V)}
    for place in range(7):
        changed_V = logits_V.copy()
        changed_V.view(np.int32)[place] ^= 1
        seen.add(row_hash(changed_V))
    assert len(seen) == 8


def test_the_beginning_of_some_texts_holds_enough_tokens() -> None:
    assert beginning(TEXTS, 6) == TEXTS[:2]
    assert beginning(TEXTS, 0) == []
    assert beginning(TEXTS, 10**9) == TEXTS
