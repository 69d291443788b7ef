"""Through either of vLLM's interfaces, each seeded row keeps exactly the token that we draw."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import vllm_modules
from vllm_modules import (
    BatchUpdate,
    MoveDirectionality,
    SamplingParams,
    VllmConfig,
    context,
    second_state,
)

from tidegate.errors import EngineError
from tidegate.models.vllm_contract import Draw, RefusedError, extra_args
from tidegate.sampling.filters import process_logits
from tidegate.sampling.gumbel import sample
from tidegate.sampling.params import SamplingParams as Ours

VOCAB = 64
SAMPLER = "tidegate.models.vllm_sampler"


@pytest.fixture
def kind() -> Iterator[Any]:
    """The sampler's class, imported as if vLLM were there."""
    stand_ins = vllm_modules.modules()
    kept = {name: sys.modules.pop(name, None) for name in (*stand_ins, SAMPLER)}
    sys.modules.update(stand_ins)
    yield importlib.import_module(SAMPLER).Sampler
    for name, module in kept.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


def first(kind: Any) -> Any:
    """As the first runner makes it."""
    return kind(VllmConfig(vocab_size=VOCAB), torch.device("cpu"), False)


def draw_of(number: int, **fields: Any) -> Draw:
    return Draw(params=Ours(**fields), seed=bytes([number]) * 32)


def asked(draw: Draw | None) -> SamplingParams:
    return SamplingParams(extra_args=None if draw is None else dict(extra_args(draw)))


def logits_of(step: int, rows: int) -> torch.Tensor:
    rng = np.random.default_rng(step)
    return torch.from_numpy((rng.normal(size=(rows, VOCAB)) * 2).astype(np.float32))


def ours(logits_V: torch.Tensor, draw: Draw, prompt: Sequence[int], output: Sequence[int]) -> int:
    scores_V = process_logits(logits_V.numpy(), draw.params, prompt, output)
    if draw.params.temperature == 0.0:
        return int(scores_V.argmax())
    return sample(scores_V, draw.seed, len(output))


def test_rows_keep_their_draws_while_the_batch_changes(kind: Any) -> None:
    sampler = first(kind)
    assert not sampler.is_argmax_invariant()
    draws = {
        "a": draw_of(1, temperature=0.7, top_p=0.8),
        "b": draw_of(2, top_k=5),
        "c": draw_of(3, temperature=0.0),
        "d": draw_of(4, temperature=1.5, min_p=0.05),
        "e": None,
    }
    outputs: dict[str, list[int]] = {name: [] for name in draws}

    def added(index: int, name: str) -> tuple[int, SamplingParams, list[int], list[int]]:
        return index, asked(draws[name]), [1, 2], outputs[name]

    one_way, swap = MoveDirectionality.UNIDIRECTIONAL, MoveDirectionality.SWAP
    steps: list[tuple[list[str], BatchUpdate | None]] = [
        (["a", "b"], BatchUpdate(2, added=[added(0, "a"), added(1, "b")])),
        (["a", "b"], None),
        (["a", "b", "e", "c"], BatchUpdate(4, added=[added(2, "e"), added(3, "c")])),
        (["c", "b", "e", "a"], BatchUpdate(4, moved=[(0, 3, swap)])),
        (["c", "a", "e"], BatchUpdate(3, removed=[1], moved=[(3, 1, one_way)])),
        (["d", "a", "e"], BatchUpdate(3, added=[added(0, "d")])),
        (["e", "a", "d"], BatchUpdate(3, moved=[(2, 0, swap)])),
        (["e"], BatchUpdate(1, removed=[1, 2])),
    ]
    for step, (batch, update) in enumerate(steps):
        sampler.update_state(update)
        logits_NV = logits_of(step, len(batch))
        masked_NV = sampler.apply(logits_NV.clone())
        for place, name in enumerate(batch):
            draw = draws[name]
            if draw is None:
                assert torch.equal(masked_NV[place], logits_NV[place])
                token = int(logits_NV[place].argmax())
            else:
                token = ours(logits_NV[place], draw, [1, 2], outputs[name])
                live = (masked_NV[place] > -torch.inf).nonzero().flatten().tolist()
                assert live == [token]
            outputs[name].append(token)


def test_penalties_count_tokens_that_vllm_has_not_read_back_yet(kind: Any) -> None:
    sampler = first(kind)
    draw = draw_of(5, presence_penalty=1.5, frequency_penalty=0.5, repetition_penalty=1.4)
    output: list[int] = []
    known: list[int] = []
    sampler.update_state(BatchUpdate(1, added=[(0, asked(draw), [7, 9], output)]))
    for step in range(6):
        logits_NV = logits_of(step, 1)
        token = ours(logits_NV[0], draw, [7, 9], known)
        assert int(sampler.apply(logits_NV.clone())[0].argmax()) == token
        known.append(token)
        # Asynchronous scheduling: the last one is still on the device.
        output[:] = [*known[:-1], -1] if step % 2 else [-1] * len(known)


def test_a_token_that_nobody_told_stops_the_engine(kind: Any) -> None:
    sampler = first(kind)
    draw = draw_of(5, presence_penalty=1.0)
    sampler.update_state(BatchUpdate(1, added=[(0, asked(draw), [7], [3, -1])]))
    with pytest.raises(EngineError):
        sampler.apply(logits_of(0, 1))


def test_the_second_runners_slots_are_drawn(kind: Any) -> None:
    prompts = {0: [1, 2, 3], 2: [4], 3: [5, 6, 7, 8]}
    state = second_state(prompts, VOCAB)
    sampler = kind(VllmConfig(vocab_size=VOCAB), state)
    draws = {
        0: draw_of(1, temperature=0.7, top_p=0.8),
        2: draw_of(2, temperature=0.9, frequency_penalty=0.7, repetition_penalty=1.2),
        3: None,
    }
    for slot, draw in draws.items():
        assert sampler.add_request(slot, asked(draw)) is (draw is not None)
    outputs: dict[int, list[int]] = {slot: [] for slot in prompts}
    for step, slots in enumerate(([2, 0, 3], [0, 3, 2], [3, 2], [2, 3, 0])):
        lengths = [len(prompts[slot]) + len(outputs[slot]) for slot in slots]
        logits_NV = logits_of(step, len(slots))
        masked_NV = sampler.apply(logits_NV.clone(), context(slots, lengths))
        for place, slot in enumerate(slots):
            draw = draws[slot]
            if draw is None:
                assert torch.equal(masked_NV[place], logits_NV[place])
                token = int(logits_NV[place].argmax())
            else:
                token = ours(logits_NV[place], draw, prompts[slot], outputs[slot])
                assert (masked_NV[place] > -torch.inf).nonzero().flatten().tolist() == [token]
            outputs[slot].append(token)
            state.all_token_ids.gpu[slot, lengths[place]] = token


def test_a_slot_forgets_who_had_it_before(kind: Any) -> None:
    sampler = kind(VllmConfig(vocab_size=VOCAB), second_state({0: [1]}, VOCAB))
    sampler.add_request(0, asked(draw_of(1)))
    sampler.add_request(0, asked(None))
    logits_NV = logits_of(0, 1)
    assert torch.equal(sampler.apply(logits_NV.clone(), context([0], [1])), logits_NV)


def test_a_prompt_read_in_pieces_draws_nothing_before_its_end(kind: Any) -> None:
    sampler = kind(VllmConfig(vocab_size=VOCAB), second_state({0: [1] * 9}, VOCAB))
    sampler.add_request(0, asked(draw_of(1)))
    logits_NV = logits_of(0, 1)
    assert torch.equal(sampler.apply(logits_NV.clone(), context([0], [4])), logits_NV)


def test_several_rows_of_one_request_stop_the_engine(kind: Any) -> None:
    sampler = kind(VllmConfig(vocab_size=VOCAB), second_state({0: [1]}, VOCAB))
    sampler.add_request(0, asked(draw_of(1)))
    with pytest.raises(EngineError):
        sampler.apply(logits_of(0, 3), context([0], [1]))


def test_a_bias_on_a_token_that_there_is_not_changes_nothing(kind: Any) -> None:
    draw = draw_of(1, logit_bias=((3, 2.0), (VOCAB, 50.0)))
    sampler = first(kind)
    sampler.update_state(BatchUpdate(1, added=[(0, asked(draw), [1], [])]))
    logits_NV = logits_of(0, 1)
    expected = ours(logits_NV[0], draw_of(1, logit_bias=((3, 2.0),)), [1], [])
    assert int(sampler.apply(logits_NV.clone())[0].argmax()) == expected


def test_what_slipped_past_the_front_stops_at_the_batch(kind: Any) -> None:
    unsound = SamplingParams(extra_args=dict(extra_args(draw_of(1))), min_tokens=2)
    with pytest.raises(RefusedError):
        first(kind).update_state(BatchUpdate(1, added=[(0, unsound, [1], [])]))
    with pytest.raises(RefusedError):
        kind(VllmConfig(vocab_size=VOCAB), second_state({0: [1]}, VOCAB)).add_request(0, unsound)


def test_a_refusal_is_an_error_that_vllm_answers_with_400(kind: Any) -> None:
    kind.validate_params(asked(draw_of(1)))
    with pytest.raises(ValueError, match="tidegate refuses unseeded"):
        kind.validate_params(SamplingParams(temperature=1.0))


def test_an_engine_that_cannot_be_replayed_gets_no_sampler(kind: Any) -> None:
    with pytest.raises(RefusedError):
        kind(VllmConfig(speculative_config=object()), torch.device("cpu"), False)
