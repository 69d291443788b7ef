"""What a request to SGLang carries for the plug-in there, and what is refused, each by name.

SGLang takes a logit processor with each request, as text that its servers unpickle: whoever reaches
such a server may run code in it. The plug-in puts a look-up in that place which knows one text,
`PROCESSOR`, and refuses any other unread. Parameters and seeds travel as `custom_params`, in
`vllm_contract`'s form.

Read with SGLang 0.5.23; never run with it, since it needs a GPU. So no version is accepted unless
its operator names it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from tidegate.errors import TidegateError
from tidegate.models.vllm_contract import Draw, Refusal, read

READ_VERSIONS: Final = ("0.5.23",)
"""Versions whose source was read; what none was is run with."""

ENTRY_POINT_GROUP: Final = "sglang.srt.plugins"

UNSEEDED_VARIABLE: Final = "TIDEGATE_SGLANG_UNSEEDED"
"""Environment variable: `allow` leaves sampled requests without a seed to SGLang's own sampler."""

_BY_NAME: Final = b"ctidegate.models.sglang_processor\nSeeded\n."
"""A class by module and name in the oldest form that SGLang reads; written out, never loaded. It is
what a server without the plug-in's look-up would need to find the class."""

PROCESSOR: Final = json.dumps({"callable": _BY_NAME.hex()})
"""The one `custom_logit_processor` that is served."""

_GREEDY_BELOW: Final = 1e-6
"""What SGLang takes for temperature 0."""

SERVER_NEEDS: Final[Mapping[str, tuple[object, str]]] = {
    "enable_custom_logit_processor": (True, "start it with --enable-custom-logit-processor"),
    "disable_overlap_schedule": (
        True,
        "start it with --disable-overlap-schedule, or tokens are counted late and share noise",
    ),
    "speculative_algorithm": (None, "start it without speculative decoding"),
    "incremental_streaming_output": (False, "start it without --incremental-streaming-output"),
    "enable_lora": (None, "start it without LoRA; re-execution does not apply adapters"),
    "dllm_algorithm": (None, "a diffusion model draws no tokens one after the other"),
}
"""Settings of a server, what they must be (None: unset or false), and what to do."""

_UNSOUND: Final[Mapping[str, Refusal]] = {
    "frequency_penalty": Refusal.PENALTIES,
    "presence_penalty": Refusal.PENALTIES,
    "min_new_tokens": Refusal.MIN_TOKENS,
    "logit_bias": Refusal.LOGIT_BIAS,
    "json_schema": Refusal.STRUCTURED_OUTPUT,
    "regex": Refusal.STRUCTURED_OUTPUT,
    "ebnf": Refusal.STRUCTURED_OUTPUT,
    "structural_tag": Refusal.STRUCTURED_OUTPUT,
    "min_p": Refusal.ENGINE_SAMPLING,
    "sampling_seed": Refusal.ENGINE_SAMPLING,
}
"""Sampling parameters of a seeded request that must be left out."""

_NEUTRAL: Final[Mapping[str, tuple[object, Refusal]]] = {
    "repetition_penalty": (1.0, Refusal.PENALTIES),
    "n": (1, Refusal.SEVERAL_CHOICES),
    "top_p": (1.0, Refusal.ENGINE_SAMPLING),
}
"""Parameters of a seeded request that may be there with one value."""

_MEANING: Final[Mapping[Refusal, str]] = {
    Refusal.OTHER_PROCESSORS: "this server reads no logit processor but tidegate's; any other is "
    "code of whoever sends it",
    Refusal.UNSEEDED: "a sampled request needs tidegate's processor and a seed. Set "
    f"{UNSEEDED_VARIABLE}=allow to leave such requests to SGLang's sampler",
    Refusal.ENGINE_SAMPLING: "SGLang must be asked for greedy decoding, with temperature 0; the "
    "real values travel as custom_params",
    Refusal.PENALTIES: "SGLang's own penalties come before the processor; send them as "
    "custom_params",
    Refusal.LOGIT_BIAS: "SGLang's own logit_bias would be applied twice; send it as custom_params",
    Refusal.MIN_TOKENS: "min_new_tokens masks end tokens, which re-execution does not",
    Refusal.STRUCTURED_OUTPUT: "a grammar masks tokens, which re-execution does not",
    Refusal.SEVERAL_CHOICES: "each choice needs a seed of its own; send n requests with n = 1",
    Refusal.CONTRACT_VERSION: "custom_params carry nothing for tidegate's processor",
}


class SglangRefusedError(TidegateError, ValueError):
    """The plug-in does not serve this. A ValueError, which SGLang answers with 400."""

    code = "sglang_refused"

    def __init__(self, refusal: Refusal, **details: str | int | float | bool | None) -> None:
        TidegateError.__init__(
            self, f"tidegate refuses {refusal}: {_MEANING[refusal]}", refusal=refusal, **details
        )
        self.refusal = refusal


def check_request(
    processor: str | None, sampling: Mapping[str, Any], *, unseeded: bool = False
) -> Draw | None:
    """What a request asks of the plug-in; None for one that is SGLang's own.

    `sampling` are its sampling parameters as they came. With `unseeded`, sampled requests without a
    seed are let pass. Raises SglangRefusedError, or RefusedError for malformed arguments.
    """
    if processor is not None and processor != PROCESSOR:
        raise SglangRefusedError(Refusal.OTHER_PROCESSORS)
    temperature = sampling.get("temperature", 1.0)
    greedy = isinstance(temperature, int | float) and 0 <= temperature < _GREEDY_BELOW
    # Read first, so that whoever looks whether the plug-in is here gets an answer from it.
    draw = read(sampling.get("custom_params"))
    if processor is None:
        if not (greedy or unseeded):
            raise SglangRefusedError(Refusal.UNSEEDED)
        return None
    if draw is None:
        raise SglangRefusedError(Refusal.CONTRACT_VERSION)
    if not greedy:
        raise SglangRefusedError(Refusal.ENGINE_SAMPLING)
    for name, refusal in _UNSOUND.items():
        if sampling.get(name):
            raise SglangRefusedError(refusal, parameter=name)
    for name, (value, refusal) in _NEUTRAL.items():
        if sampling.get(name) not in (None, value):
            raise SglangRefusedError(refusal, parameter=name)
    return draw
