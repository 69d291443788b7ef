from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_world import EOS, VOCABULARY, TableModel

from tidegate.bench import coding, coding_figures
from tidegate.bench.coding import SHARPNESS, Tally, _Pricing
from tidegate.bench.figures import Result
from tidegate.bench.prompts import Prompt

Table = list[list[float]]
LOGITS = st.integers(2, 12).flatmap(
    lambda size: st.lists(
        st.lists(st.floats(-12, 12, width=32), min_size=size, max_size=size),
        min_size=2,
        max_size=4,
    )
)


@given(
    strong=LOGITS,
    temperature=st.sampled_from((0.0, 0.3, 0.7, 1.0)),
    data=st.data(),
)
def test_prices_are_those_of_a_plain_float64_sum(
    strong: Table, temperature: float, data: st.DataObject
):
    size = len(strong[0])
    row = st.lists(st.floats(-12, 12, width=32), min_size=size, max_size=size)
    weak = [data.draw(row) for _ in strong]
    tokens = [data.draw(st.integers(0, size - 1)) for _ in strong]
    tally = Tally()
    scores_NV = coding.scaled(np.asarray(strong, np.float32), temperature)
    _Pricing(scores_NV, tokens, temperature).add(tally, np.asarray(weak, np.float32))

    divisor = temperature or 1.0
    entropy = kl = 0.0
    plain = [0.0] * len(SHARPNESS)
    for strong_row, weak_row, token in zip(strong, weak, tokens, strict=True):
        log_p_V = log2_softmax(np.asarray(strong_row) / divisor)
        log_q_V = log2_softmax(np.asarray(weak_row) / divisor)
        for s, sharpness in enumerate(SHARPNESS):
            plain[s] -= log2_softmax(sharpness * np.asarray(weak_row) / divisor)[token]
        # One token has no distribution to differ from another.
        if temperature > 0:
            entropy -= float(2**log_p_V @ log_p_V)
            kl += float(2**log_p_V @ (log_p_V - log_q_V))
    assert tally.plain_S == pytest.approx(plain, rel=1e-4, abs=1e-4)
    assert tally.plain() == tally.plain_S.min()
    assert tally.kl == pytest.approx(kl, rel=1e-4, abs=1e-4)
    assert tally.entropy == pytest.approx(entropy, rel=1e-4, abs=1e-4)


def log2_softmax(scores_V: np.ndarray) -> np.ndarray:
    shifted_V = scores_V - scores_V.max()
    return (shifted_V - np.log(np.exp(shifted_V).sum())) / np.log(2)


class Tokens:
    """Prompts of a few tokens, another one for each."""

    def chat(self, messages: list[dict[str, str]]) -> list[int]:
        return [ord(letter) % (VOCABULARY - 1) + 1 for letter in messages[0]["content"]]


PROMPTS = [Prompt(str(i), f"prompt {i}", "made up", "none", "chat") for i in range(40)]


@pytest.fixture(scope="module")
def tallies() -> dict[tuple[str, float], Tally]:
    models = {"close": TableModel(blur=0.4), "far": TableModel(blur=3.0)}
    progress: list[tuple[int, int]] = []
    found = coding.run(
        TableModel(eos_logit=2.0),
        models,
        Tokens(),  # type: ignore[arg-type]
        PROMPTS,
        temperatures=(0.0, 0.5, 1.0),
        max_tokens=12,
        key=bytes(32),
        progress=lambda _, done, total: progress.append((done, total)),
    )
    assert all(not model.sequences for model in models.values())
    assert all(done <= total for done, total in progress)
    return found


def test_every_token_is_decoded_and_every_frame_replayed(
    tallies: dict[tuple[str, float], Tally],
):
    assert len(tallies) == 6
    for tally in tallies.values():
        assert tally.exact == tally.tokens > 40
        assert tally.refused_frames == 0
        assert tally.coupled > 0
    # The same answers were sent under both weak models, and under the closer one they cost less.
    for temperature in (0.0, 0.5, 1.0):
        close, far = tallies["close", temperature], tallies["far", temperature]
        assert close.tokens == far.tokens
        assert close.coupled < far.coupled
        assert close.kl < far.kl or temperature == 0


def test_any_temperature_makes_figures_that_are_json(tallies: dict[tuple[str, float], Tally]):
    main = {key: tally for key, tally in tallies.items() if key[0] == "close"}
    more = {key: tally for key, tally in tallies.items() if key[0] == "far"}
    result = Result("coding", coding_figures.figures(main, more, VOCABULARY))
    assert b"NaN" not in result.to_json()
    assert result.figures["exact_share"].holds
    assert "far.t05.coupled" in result.figures
    assert result.figures["t1.coupled_over_kl"].value > 0


def test_one_token_that_was_not_exact_is_seen(tallies: dict[tuple[str, float], Tally]):
    spoilt = Tally(tokens=1000, exact=999, coupled=1.0, kl=1.0, refused_frames=1)
    spoilt.plain_S += 1.0
    figures = coding_figures.figures(tallies, {("bad", 1.0): spoilt}, VOCABULARY)
    assert figures["exact_share"].holds is False
    assert figures["refused_frames"].holds is False
    assert not Result("coding", figures).holds()


def test_the_model_table_ends_streams():
    assert TableModel().eos_ids == {EOS}
