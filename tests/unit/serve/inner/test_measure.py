from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_world import VOCABULARY, TableModel, TableTokenizer, job

from tidegate.sampling.finish import Rules
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import commitment
from tidegate.serve.inner.draw import TRACKS
from tidegate.serve.inner.measure import SHARPNESS, Measurer, Row, read
from tidegate.serve.lockstep import Voice, VoiceKey
from tidegate.serve.outer.link_stream import make_join

SLOT = 3
PROMPT = (5, 6, 7)
STRONG, WEAK = TableModel(), TableModel(blur=0.7)


def voice_of(params: SamplingParams, *, seed: int = 1, candidates: int = 1) -> Voice:
    join = make_join(
        job(params=params, prompt_ids=PROMPT, candidates=candidates),
        bytes([seed]) * 32,
        None,
        VOCABULARY,
    )
    tokenizer = TableTokenizer()
    rules = Rules(job().limits, tokenizer.eos_ids, tokenizer.decode)
    return Voice(VoiceKey(0, SLOT), join, rules, VOCABULARY)


class Stream:
    """Runs both remembered models as the engine does, and takes the tokens it is given."""

    def __init__(self, measurer: Measurer) -> None:
        self.measurer = measurer
        self.strong = measurer.strong(TableModel())
        self.weak = measurer.weak(TableModel(blur=0.7))

    def say(self, voice: Voice, tokens: list[int], *, weak: bool = True) -> None:
        for place, token in enumerate(tokens):
            fed = (*PROMPT, *tokens[:place]) if place == 0 else (tokens[place - 1],)
            self.strong.forward([(SLOT * TRACKS, fed)])
            if weak:
                self.weak.forward([(SLOT, fed)])
            self.measurer.said(voice, token, 65536 * 3)
            take(voice, token)

    def drop(self) -> None:
        self.strong.drop(SLOT * TRACKS)
        self.weak.drop(SLOT)


def take(voice: Voice, token: int) -> None:
    voice.tokens.append(token)
    if voice.penalties is not None:
        voice.penalties = voice.penalties.advance(token)


def log2_softmax(scores_V: np.ndarray) -> np.ndarray:
    shifted_V = scores_V - scores_V.max()
    with np.errstate(divide="ignore"):
        return (shifted_V - np.log(np.exp(shifted_V).sum())) / np.log(2)


def expected(params: SamplingParams, tokens: list[int]) -> tuple[list[float], float]:
    """Plain and KL sums in float64, from the definitions."""
    plain, kl = [0.0] * len(SHARPNESS), 0.0
    for place, token in enumerate(tokens):
        context = (*PROMPT, *tokens[:place])
        shifted = []
        for model in (STRONG, WEAK):
            scores_V = model.logits(context).astype(np.float64)
            for biased, bias in params.logit_bias:
                scores_V[biased] += bias
            for seen in set(context):
                divide = scores_V[seen] > 0
                penalty = params.repetition_penalty
                scores_V[seen] = scores_V[seen] / penalty if divide else scores_V[seen] * penalty
            for seen in set(tokens[:place]):
                scores_V[seen] -= params.frequency_penalty * tokens[:place].count(seen)
                scores_V[seen] -= params.presence_penalty
            shifted.append(scores_V / (params.temperature or 1.0))
        strong_V, weak_V = shifted
        if params.top_k:
            strong_V[strong_V < np.sort(strong_V)[-params.top_k]] = -np.inf
        for s, sharpness in enumerate(SHARPNESS):
            plain[s] -= log2_softmax(sharpness * weak_V)[token]
        log_q_V = log2_softmax(weak_V)
        if params.temperature == 0:
            kl -= log_q_V[token]
            continue
        log_p_V = log2_softmax(strong_V)
        alive_V = np.isfinite(log_p_V)
        kl += float(2 ** log_p_V[alive_V] @ (log_p_V - log_q_V)[alive_V])
    return plain, kl


def one(path: Path) -> Row:
    (row,) = read(path).values()
    return row


@given(
    tokens=st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=8),
    params=st.builds(
        SamplingParams,
        temperature=st.sampled_from((0.0, 0.6, 1.0)),
        top_k=st.sampled_from((0, 5)),
        presence_penalty=st.sampled_from((0.0, 0.5)),
        frequency_penalty=st.sampled_from((0.0, 1.0)),
        repetition_penalty=st.sampled_from((1.0, 1.3)),
        logit_bias=st.sampled_from(((), ((4, 2.5), (9, -3.0)))),
    ),
)
def test_sums_are_those_of_a_plain_float64_reference(
    tokens: list[int], params: SamplingParams, tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("rows") / "new" / "rows.jsonl"
    measurer, voice = Measurer(path), voice_of(params)
    Stream(measurer).say(voice, tokens)
    measurer.ended(voice)
    row, (plain, kl) = one(path), expected(params, tokens)
    assert row.seed == commitment(voice.join.seed).hex()
    assert row.tokens == tuple(tokens)
    assert row.coupled == 3 * len(tokens)
    assert row.plain == pytest.approx(plain, rel=1e-3, abs=1e-3)
    assert row.kl == pytest.approx(kl, rel=1e-3, abs=1e-3)


def test_what_a_resumed_session_says_again_is_counted_once(tmp_path: Path):
    path, params = tmp_path / "rows.jsonl", SamplingParams(temperature=0.7)
    measurer, voice = Measurer(path), voice_of(params)
    stream = Stream(measurer)
    stream.say(voice, [4, 5, 6])
    # Back to after the first token; the same symbols come again, without the models.
    del voice.tokens[1:]
    for token in (5, 6):
        measurer.said(voice, token, 65536 * 9)
        take(voice, token)
    measurer.ended(voice)
    # And again after its end.
    del voice.tokens[:]
    measurer.said(voice, 4, 65536)
    measurer.ended(voice)
    row, (plain, kl) = one(path), expected(params, [4, 5, 6])
    assert (row.tokens, row.coupled) == ((4, 5, 6), 9)
    assert row.plain == pytest.approx(plain, rel=1e-3)
    assert row.kl == pytest.approx(kl, rel=1e-3)


def test_a_stream_in_the_place_of_an_aborted_one_is_another(tmp_path: Path):
    path, params = tmp_path / "rows.jsonl", SamplingParams(temperature=0.7)
    measurer = Measurer(path)
    stream = Stream(measurer)
    stream.say(voice_of(params, seed=1), [4, 5])
    stream.drop()
    again = voice_of(params, seed=2)
    stream.say(again, [8])
    measurer.ended(again)
    assert one(path).tokens == (8,)


def test_without_the_weak_model_a_token_costs_its_raw_id(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    measurer, voice = Measurer(path), voice_of(SamplingParams(temperature=0.0))
    Stream(measurer).say(voice, [4, 5], weak=False)
    measurer.ended(voice)
    assert one(path).plain == pytest.approx([2 * np.log2(VOCABULARY)] * len(SHARPNESS))
    assert one(path).tokens == (4, 5)


def test_aborts_and_streams_of_several_candidates_leave_no_row(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    measurer = Measurer(path)
    aborted, several = voice_of(SamplingParams()), voice_of(SamplingParams(), seed=2, candidates=2)
    measurer.said(aborted, -1, 1)
    measurer.said(several, 5, 1)
    for voice in (aborted, several):
        measurer.ended(voice)
    assert read(path) == {}
