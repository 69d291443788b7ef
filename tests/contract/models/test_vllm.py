"""What a real vLLM did with the plug-in, recorded once, and done again where there is one.

`tools/record_vllm.py` makes the recording. Its answers were given in an engine too small for them,
so that prompts were read in pieces and rows came, went, moved and were put back.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import vllm_modules

from tidegate.models.draw import Drawer, Row
from tidegate.models.port import F32Array
from tidegate.models.prepared import prepare
from tidegate.models.replay_port import Replay
from tidegate.models.vllm_contract import MEANING, TESTED_VERSIONS, Draw, Refusal, read
from tidegate.sampling.filters import PenaltyState

ROOT = Path(__file__).resolve().parents[3]


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    note: str
    prompt: list[int]
    args: dict[str, Any]
    tokens: list[int]


class Recording(msgspec.Struct, forbid_unknown_fields=True):
    vllm: str
    runner: str
    interfaces: dict[str, list[str]]
    refusals: dict[str, str]
    starts: dict[str, str]
    preemptions: int
    answers: list[Answer]


FILES = {"first": "vllm_0_32_0.json", "second": "vllm_0_32_0_second.json"}
RUNNERS = tuple(FILES)
RECORDINGS = {
    runner: msgspec.json.decode(Path(__file__).with_name(name).read_bytes(), type=Recording)
    for runner, name in FILES.items()
}
RECORDED = RECORDINGS["first"]
SETTINGS = sorted({answer.note for answer in RECORDED.answers})


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_recording_is_of_a_version_that_we_accept(runner: str) -> None:
    assert RECORDINGS[runner].runner == runner
    assert RECORDINGS[runner].vllm in TESTED_VERSIONS


@pytest.mark.parametrize("runner", RUNNERS)
def test_rows_were_put_back_while_it_was_recorded(runner: str) -> None:
    assert RECORDINGS[runner].preemptions > 0


def test_both_runners_answer_and_refuse_alike() -> None:
    first, second = RECORDINGS.values()
    assert first.answers == second.answers
    assert first.refusals == second.refusals
    assert first.starts == second.starts


@pytest.mark.parametrize("note", RECORDED.refusals)
def test_vllm_passed_on_each_refusal_by_name(note: str) -> None:
    assert named(RECORDED.refusals[note]) is not None


def test_vllm_did_not_start_with_what_cannot_be_replayed() -> None:
    assert {note: named(said) for note, said in RECORDED.starts.items()} == {
        "speculative decoding": Refusal.SPECULATIVE_DECODING,
        "LoRA": Refusal.LORA,
        "prompts of embeddings": Refusal.PROMPT_EMBEDS,
        "another processor": Refusal.OTHER_PROCESSORS,
        "ours named twice": None,
    }


def named(said: str) -> Refusal | None:
    """The refusal that a message is of."""
    return next((one for one in Refusal if said.startswith(refusal_text(one))), None)


def refusal_text(refusal: Refusal) -> str:
    return f"tidegate refuses {refusal}: {MEANING[refusal]}"


def test_the_stand_ins_have_vllms_names() -> None:
    import dataclasses
    import inspect

    kinds = {
        "first": vllm_modules.FirstLogitsProcessor,
        "second": vllm_modules.SecondLogitsProcessor,
    }
    for name, parameters in RECORDED.interfaces.items():
        owner, _, method = name.partition(".")
        if owner in kinds:
            found = list(inspect.signature(getattr(kinds[owner], method)).parameters)
        elif owner == "MoveDirectionality":
            found = [one.name for one in vllm_modules.MoveDirectionality]
        else:
            found = [field.name for field in dataclasses.fields(getattr(vllm_modules, owner))]
        if owner == "SamplingParams":
            # Only what the plug-in reads.
            assert set(found) <= set(parameters)
        else:
            assert found == parameters, name


@pytest.fixture(scope="module")
def replay() -> Replay:
    pytest.importorskip("transformers", reason="needs tidegate[torch]")
    from tidegate.models import transformers_torch
    from tidegate.models.replay_transformers import TransformersReplay

    folder = prepare("smollm2", dtype="float32")
    return TransformersReplay(transformers_torch.load(folder, dtype="float32", threads=1))


@pytest.mark.models
@pytest.mark.parametrize("note", SETTINGS)
def test_what_vllm_answered_is_what_we_draw(note: str, replay: Replay) -> None:
    answers = [answer for answer in RECORDED.answers if answer.note == note]
    assert [redrawn(answer, replay) for answer in answers] == [one.tokens for one in answers]


def redrawn(answer: Answer, replay: Replay) -> list[int]:
    """Our tokens, each after the tokens that vLLM said."""
    draw = read(answer.args)
    assert draw is not None
    logits: F32Array = np.concatenate(list(replay.pieces(answer.prompt, answer.tokens)))
    rows = [row_of(draw, answer, place) for place in range(len(answer.tokens))]
    tokens = Drawer(replay.vocab_size).tokens(torch.from_numpy(logits), rows)
    return [int(token) for token in tokens]


def row_of(draw: Draw, answer: Answer, place: int) -> Row:
    state = PenaltyState.of(answer.prompt, answer.tokens[:place])
    return Row(draw.params, draw.seed, place, state)


@pytest.mark.models
@pytest.mark.parametrize("runner", RUNNERS)
def test_a_vllm_that_is_here_does_the_same(runner: str, replay: Replay) -> None:
    python = os.environ.get("TIDEGATE_VLLM_PYTHON")
    if not python:
        pytest.skip(
            "VLLM ITSELF IS NOT TESTED HERE, only its recording: make an environment with "
            "tools/vllm_environment.py and set TIDEGATE_VLLM_PYTHON"
        )
    done = subprocess.run(
        [python, ROOT / "tools" / "record_vllm.py", prepare("smollm2", dtype="float32"), runner],
        check=True,
        capture_output=True,
    )
    now = msgspec.json.decode(done.stdout, type=Recording)
    assert (now.vllm, now.runner) == (RECORDED.vllm, runner)
    assert now.interfaces == RECORDED.interfaces
    assert now.refusals == RECORDED.refusals
    assert now.starts == RECORDED.starts
    assert [redrawn(one, replay) for one in now.answers] == [one.tokens for one in now.answers]
