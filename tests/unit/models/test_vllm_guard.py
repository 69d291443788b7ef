"""What cannot be replayed is refused by name, at vLLM's start or when the request comes."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import vllm_modules
from vllm_modules import SamplingParams, VllmConfig

from tidegate.models import vllm_guard
from tidegate.models.vllm_contract import (
    ACCEPT_VARIABLE,
    UNSEEDED_VARIABLE,
    Draw,
    Refusal,
    RefusedError,
    extra_args,
)
from tidegate.models.vllm_guard import SAMPLER, check_request, check_start
from tidegate.sampling.params import SamplingParams as Ours

DRAW = Draw(params=Ours(temperature=0.7, top_p=0.9), seed=bytes(range(32)))
ARGS: dict[str, Any] = dict(extra_args(DRAW))


def test_a_plain_start_passes() -> None:
    check_start(VllmConfig(), "0.32.0+cpu")
    check_start(VllmConfig(model={"logits_processors": [SAMPLER]}), "0.32.0")


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"speculative_config": object()}, Refusal.SPECULATIVE_DECODING),
        ({"lora_config": object()}, Refusal.LORA),
        ({"watermark_config": object()}, Refusal.WATERMARK),
        ({"diffusion_config": object()}, Refusal.DIFFUSION),
        ({"model": {"enable_prompt_embeds": True}}, Refusal.PROMPT_EMBEDS),
        ({"model": {"logits_processors": ["a.b:C"]}}, Refusal.OTHER_PROCESSORS),
        ({"model": {"logits_processors": [SamplingParams]}}, Refusal.OTHER_PROCESSORS),
    ],
)
def test_vllm_does_not_start_with_what_cannot_be_replayed(
    changed: dict[str, Any], refusal: Refusal
) -> None:
    with pytest.raises(RefusedError) as caught:
        check_start(VllmConfig(**changed), "0.32.0")
    assert caught.value.refusal is refusal


def test_every_unsound_feature_has_a_name_of_its_own() -> None:
    named = [refusal for refusal, _ in (*vllm_guard.AT_START, *vllm_guard.OF_A_REQUEST)]
    assert len(named) == len(set(named))


def test_vllm_does_not_start_in_an_unmeasured_version(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusedError) as caught:
        check_start(VllmConfig(), "0.33.0")
    assert caught.value.refusal is Refusal.ENGINE_VERSION
    monkeypatch.setenv(ACCEPT_VARIABLE, "0.33.0")
    check_start(VllmConfig(), "0.33.0")
    with pytest.raises(RefusedError):
        check_start(VllmConfig(), "0.33.1")


def test_somebody_elses_plugged_in_processor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("other", "some.body:Processor", "vllm.logits_processors")
    monkeypatch.setattr(vllm_guard, "entry_points", lambda group: [point])
    with pytest.raises(RefusedError, match=r"some\.body:Processor"):
        check_start(VllmConfig(), "0.32.0")


def test_a_model_that_draws_nothing_is_left_alone() -> None:
    check_start(VllmConfig(model={"runner_type": "pooling"}, lora_config=object()), "0.99")


def test_a_seeded_request_is_read() -> None:
    assert check_request(SamplingParams(extra_args=ARGS)) == DRAW


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"n": 2}, Refusal.SEVERAL_CHOICES),
        ({"temperature": 0.7}, Refusal.ENGINE_SAMPLING),
        ({"presence_penalty": 0.1}, Refusal.PENALTIES),
        ({"frequency_penalty": -0.1}, Refusal.PENALTIES),
        ({"repetition_penalty": 1.1}, Refusal.PENALTIES),
        ({"logit_bias": {3: 1.0}}, Refusal.LOGIT_BIAS),
        ({"min_tokens": 1}, Refusal.MIN_TOKENS),
        ({"bad_words": ["tide"]}, Refusal.BAD_WORDS),
        ({"allowed_token_ids": [1]}, Refusal.ALLOWED_TOKENS),
        ({"structured_outputs": object()}, Refusal.STRUCTURED_OUTPUT),
        ({"thinking_token_budget": 0}, Refusal.THINKING_BUDGET),
        ({"trace_decode_token_ids": [1]}, Refusal.FORCED_TOKENS),
        ({"repetition_detection": object()}, Refusal.REPETITION_DETECTION),
    ],
)
def test_a_seeded_request_with_what_replay_would_not_follow_is_refused(
    changed: dict[str, Any], refusal: Refusal
) -> None:
    with pytest.raises(RefusedError) as caught:
        check_request(SamplingParams(extra_args=ARGS, **changed))
    assert caught.value.refusal is refusal


def test_sampling_without_a_seed_is_refused_unless_it_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(UNSEEDED_VARIABLE, raising=False)
    assert check_request(SamplingParams(extra_args={"other": 1}, min_tokens=3)) is None
    with pytest.raises(RefusedError) as caught:
        check_request(SamplingParams(temperature=0.5))
    assert caught.value.refusal is Refusal.UNSEEDED
    monkeypatch.setenv(UNSEEDED_VARIABLE, "allow")
    assert check_request(SamplingParams(temperature=0.5)) is None


def test_every_configuration_is_checked_once_the_plug_in_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, module in vllm_modules.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    vllm_guard.install()
    vllm_guard.install()
    config = sys.modules["vllm.config"].VllmConfig
    config()
    with pytest.raises(RefusedError) as caught:
        config(speculative_config=object())
    assert caught.value.refusal is Refusal.SPECULATIVE_DECODING


def test_the_plug_in_needs_only_what_vllm_brings() -> None:
    program = (
        "import sys, tomllib, pathlib, re, vllm_modules\n"
        "vllm_modules.put_in_place()\n"
        "wanted = tomllib.loads(pathlib.Path('pyproject.toml').read_text())['project']\n"
        "for need in wanted['dependencies']:\n"
        "    name = re.split('[><=]', need)[0].replace('-', '_')\n"
        "    if name not in ('numpy', 'cffi'): sys.modules[name] = None\n"
        "sys.modules['yaml'] = sys.modules['transformers'] = None\n"
        "import tidegate.models.vllm_sampler, tidegate.models.vllm_guard\n"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env={"PYTHONPATH": str(root / "tests" / "simulators"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
