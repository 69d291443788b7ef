"""What the plug-in refuses: at vLLM's start by its configuration, later request by request.

vLLM 0.32.0 leaves out plugged-in logits processors where speculative decoding is on (its first
runner), and says nothing. So the check at start hangs on the configuration itself, through the
entry point `vllm.general_plugins`, and again on the sampler's construction. vLLM's objects are read
by attribute; nothing here imports vllm before `install` is called.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from importlib.metadata import entry_points
from typing import Any, Final

from tidegate.models.vllm_contract import (
    ACCEPT_VARIABLE,
    ENTRY_POINT,
    ENTRY_POINT_GROUP,
    UNSEEDED_VARIABLE,
    Draw,
    Refusal,
    RefusedError,
    read,
    require_version,
)

SAMPLER: Final = "tidegate.models.vllm_sampler:Sampler"

_GREEDY_BELOW: Final = 1e-5
"""What vLLM takes for temperature 0."""

Unsound = tuple[Refusal, Callable[[Any], object]]

AT_START: Final[tuple[Unsound, ...]] = (
    (Refusal.SPECULATIVE_DECODING, lambda config: config.speculative_config),
    (Refusal.LORA, lambda config: config.lora_config),
    (Refusal.WATERMARK, lambda config: config.watermark_config),
    (Refusal.DIFFUSION, lambda config: config.diffusion_config),
    (Refusal.PROMPT_EMBEDS, lambda config: config.model_config.enable_prompt_embeds),
)
"""Features refused where their part of the configuration is set."""

OF_A_REQUEST: Final[tuple[Unsound, ...]] = (
    (Refusal.SEVERAL_CHOICES, lambda params: params.n != 1),
    (Refusal.ENGINE_SAMPLING, lambda params: params.temperature >= _GREEDY_BELOW),
    (
        Refusal.PENALTIES,
        lambda params: (
            params.presence_penalty or params.frequency_penalty or params.repetition_penalty != 1.0
        ),
    ),
    (Refusal.LOGIT_BIAS, lambda params: params.logit_bias),
    (Refusal.MIN_TOKENS, lambda params: params.min_tokens),
    (Refusal.BAD_WORDS, lambda params: params.bad_words),
    (Refusal.ALLOWED_TOKENS, lambda params: params.allowed_token_ids),
    (Refusal.STRUCTURED_OUTPUT, lambda params: params.structured_outputs),
    (Refusal.THINKING_BUDGET, lambda params: params.thinking_token_budget is not None),
    (Refusal.FORCED_TOKENS, lambda params: params.trace_decode_token_ids),
    (Refusal.REPETITION_DETECTION, lambda params: params.repetition_detection),
)
"""Features of a seeded request that its replay would not follow."""


def check_start(config: Any, version: str) -> None:
    """Raise RefusedError for a `VllmConfig`, or a version, whose answers cannot be replayed.

    Models that draw no tokens are none of the plug-in's business and pass.
    """
    model = config.model_config
    if model is None or model.runner_type == "pooling":
        return
    require_version(version, os.environ.get(ACCEPT_VARIABLE, ""))
    for refusal, is_on in AT_START:
        if is_on(config):
            raise RefusedError(refusal)
    for name in _other_processors(model.logits_processors or ()):
        raise RefusedError(Refusal.OTHER_PROCESSORS, processor=name)


def check_request(params: Any) -> Draw | None:
    """What vLLM's `SamplingParams` ask of the plug-in; None for a request that is not ours.

    Raises RefusedError for a seeded request with anything that its replay would not follow, and for
    a sampled one without a seed, unless the environment allows those.
    """
    draw = read(params.extra_args)
    if draw is None:
        sampled = params.temperature >= _GREEDY_BELOW
        if sampled and os.environ.get(UNSEEDED_VARIABLE) != "allow":
            raise RefusedError(Refusal.UNSEEDED)
        return None
    for refusal, is_on in OF_A_REQUEST:
        if is_on(params):
            raise RefusedError(refusal)
    return draw


def install() -> None:
    """The entry point `vllm.general_plugins`: every configuration is checked when it is made.

    vLLM calls it in each of its processes, and may call it twice.
    """
    from vllm import __version__
    from vllm.config import VllmConfig

    made = VllmConfig.__post_init__
    if getattr(made, "checked_by_tidegate", False):
        return

    @wraps(made)
    def checked(config: Any, *rest: Any) -> None:
        made(config, *rest)
        check_start(config, __version__)

    checked.checked_by_tidegate = True  # type: ignore[attr-defined]
    VllmConfig.__post_init__ = checked


def _other_processors(named: Any) -> list[str]:
    """Logits processors besides ours: named to vLLM, or plugged in."""
    shown = [one if isinstance(one, str) else f"{one.__module__}:{one.__name__}" for one in named]
    plugged = entry_points(group=ENTRY_POINT_GROUP)
    others = [point.value for point in plugged if point.name != ENTRY_POINT]
    return sorted(set(shown + others) - {SAMPLER})
