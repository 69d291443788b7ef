"""What a request to vLLM carries for the plug-in, and what the plug-in refuses, each by name.

Both sides read this file: whoever sends requests (`extra_args` over Python, `vllm_xargs` over HTTP)
and the plug-in inside vLLM. Pure, and light enough for vLLM's own environment: nothing here imports
vLLM, torch or numpy.

vLLM itself is asked for greedy decoding (`temperature` 0, no filters), so that it takes the token
that the plug-in leaves standing; what shapes the distribution travels beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tidegate.errors import TidegateError
from tidegate.sampling.params import InvalidParamsError, SamplingParams

VERSION: Final = 1
"""Of this contract. A plug-in refuses any other."""

PREFIX: Final = "tidegate_"
"""Every key of ours begins with it; one that is not known is refused, never ignored."""

VERSION_KEY: Final = PREFIX + "version"
SEED_KEY: Final = PREFIX + "seed"
"""Hex of the 32 bytes of a draw's seed (`sampling.seed`)."""

BIAS_IDS_KEY: Final = PREFIX + "bias_ids"
BIAS_VALUES_KEY: Final = PREFIX + "bias_values"
"""`logit_bias` as two lists, since the values of `vllm_xargs` are numbers, strings or lists."""

NUMBERS: Final = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)
"""Fields of `SamplingParams` that travel as `PREFIX + name`; one that is off may be left out."""

ENTRY_POINT_GROUP: Final = "vllm.logits_processors"
ENTRY_POINT: Final = "tidegate"

SEED_BYTES: Final = 32
_SEED_HEX: Final = re.compile(f"[0-9a-f]{{{2 * SEED_BYTES}}}")

TESTED_VERSIONS: Final = ("0.32.0",)
"""Versions of vLLM (without what follows a `+`) whose order of steps was read and measured."""

ACCEPT_VARIABLE: Final = "TIDEGATE_VLLM_ACCEPT"
"""Environment variable: one exact version that its operator has measured himself."""

UNSEEDED_VARIABLE: Final = "TIDEGATE_VLLM_UNSEEDED"
"""Environment variable: `allow` leaves sampled requests without a seed to vLLM's own sampler."""


class Refusal(StrEnum):
    """Why the plug-in does not serve a request, or lets vLLM not start."""

    # At start.
    ENGINE_VERSION = "engine_version"
    SPECULATIVE_DECODING = "speculative_decoding"
    OTHER_PROCESSORS = "other_processors"
    LORA = "lora"
    WATERMARK = "watermark"
    PROMPT_EMBEDS = "prompt_embeds"
    DIFFUSION = "diffusion"
    # When a request comes.
    CONTRACT_VERSION = "contract_version"
    UNSEEDED = "unseeded"
    SEED = "seed"
    UNKNOWN_ARGUMENT = "unknown_argument"
    PARAMETER = "parameter"
    ENGINE_SAMPLING = "engine_sampling"
    PENALTIES = "penalties"
    LOGIT_BIAS = "logit_bias"
    MIN_TOKENS = "min_tokens"
    BAD_WORDS = "bad_words"
    ALLOWED_TOKENS = "allowed_tokens"
    STRUCTURED_OUTPUT = "structured_output"
    SEVERAL_CHOICES = "several_choices"
    THINKING_BUDGET = "thinking_budget"
    FORCED_TOKENS = "forced_tokens"
    REPETITION_DETECTION = "repetition_detection"


MEANING: Final[Mapping[Refusal, str]] = {
    Refusal.ENGINE_VERSION: "this version of vLLM has not been measured; the order of its sampling "
    f"steps may differ. Install {' or '.join(TESTED_VERSIONS)}, or run `tidegate bench fleet "
    f"--only vllm` against it and name it in {ACCEPT_VARIABLE}",
    Refusal.SPECULATIVE_DECODING: "speculative decoding accepts tokens by its own random numbers, "
    "which cannot be drawn again; start vLLM without it",
    Refusal.OTHER_PROCESSORS: "another logits processor would change the scores unseen by "
    "re-execution; remove it",
    Refusal.LORA: "re-execution does not apply adapters; start vLLM without LoRA",
    Refusal.WATERMARK: "a watermark draws tokens by its own key; start vLLM without it",
    Refusal.PROMPT_EMBEDS: "a prompt of embeddings cannot be replayed from token ids; start vLLM "
    "without --enable-prompt-embeds",
    Refusal.DIFFUSION: "a diffusion model does not draw one token after the other",
    Refusal.CONTRACT_VERSION: f"{VERSION_KEY} must be {VERSION}; the two sides run different "
    "versions of tidegate",
    Refusal.UNSEEDED: f"a sampled request needs {SEED_KEY}; without it nobody can draw its tokens "
    f"again. Set {UNSEEDED_VARIABLE}=allow to leave such requests to vLLM's sampler",
    Refusal.SEED: f"{SEED_KEY} must be {2 * SEED_BYTES} lower-case hexadecimal digits",
    Refusal.UNKNOWN_ARGUMENT: f"an argument beginning with {PREFIX} is not known",
    Refusal.PARAMETER: "a sampling parameter is not a number, or outside its range",
    Refusal.ENGINE_SAMPLING: "vLLM must be asked for greedy decoding: send temperature 0 and no "
    f"top_p, top_k, min_p or seed, and the real values as {PREFIX}temperature and so on",
    Refusal.PENALTIES: "vLLM's own penalties run after the plug-in; send them as "
    f"{PREFIX}presence_penalty and so on",
    Refusal.LOGIT_BIAS: "vLLM's own logit_bias would be applied twice; send it as "
    f"{BIAS_IDS_KEY} and {BIAS_VALUES_KEY}",
    Refusal.MIN_TOKENS: "min_tokens masks end tokens, which re-execution does not",
    Refusal.BAD_WORDS: "bad_words masks tokens, which re-execution does not",
    Refusal.ALLOWED_TOKENS: "allowed_token_ids masks tokens, which re-execution does not",
    Refusal.STRUCTURED_OUTPUT: "a grammar masks tokens, which re-execution does not",
    Refusal.SEVERAL_CHOICES: "each choice needs a seed of its own; send n requests with n = 1",
    Refusal.THINKING_BUDGET: "a thinking budget forces tokens, which re-execution does not",
    Refusal.FORCED_TOKENS: "trace_decode_token_ids says the tokens instead of the model",
    Refusal.REPETITION_DETECTION: "repetition_detection ends answers by a rule of its own",
}


class RefusedError(TidegateError):
    """The plug-in does not serve this; `refusal` in the details names why."""

    code = "vllm_refused"

    def __init__(self, refusal: Refusal, **details: str | int | float | bool | None) -> None:
        named = "".join(f" ({key}: {value})" for key, value in details.items())
        super().__init__(
            f"tidegate refuses {refusal}: {MEANING[refusal]}{named}", refusal=refusal, **details
        )
        self.refusal = refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How one request's tokens are drawn: what shapes the distribution, and the seed.

    `seed` has 32 bytes; it may be empty where `params.temperature` is 0.
    """

    params: SamplingParams
    seed: bytes


def extra_args(draw: Draw) -> dict[str, str | int | float | list[int] | list[float]]:
    """What to send as `extra_args` or `vllm_xargs`; `read` gives `draw` back.

    Raises RefusedError for a seed of another length, or none where there is something to draw.
    """
    params = draw.params
    if len(draw.seed) != SEED_BYTES and (draw.seed or params.temperature > 0):
        raise RefusedError(Refusal.SEED, seed_bytes=len(draw.seed))
    args: dict[str, str | int | float | list[int] | list[float]] = {VERSION_KEY: VERSION}
    if draw.seed:
        args[SEED_KEY] = draw.seed.hex()
    args |= {PREFIX + name: getattr(params, name) for name in NUMBERS}
    if params.logit_bias:
        args[BIAS_IDS_KEY] = [token for token, _ in params.logit_bias]
        args[BIAS_VALUES_KEY] = [bias for _, bias in params.logit_bias]
    return args


def read(args: Mapping[str, object] | None) -> Draw | None:
    """What a request asks of the plug-in; None where no argument is ours.

    Raises RefusedError for anything that is not exactly what `extra_args` may give.
    """
    ours = {key: value for key, value in (args or {}).items() if key.startswith(PREFIX)}
    if not ours:
        return None
    version = ours.pop(VERSION_KEY, None)
    if version != VERSION or isinstance(version, bool):
        raise RefusedError(Refusal.CONTRACT_VERSION, found=_shown(version))
    seed = _seed(ours.pop(SEED_KEY, ""))
    biases = _biases(ours.pop(BIAS_IDS_KEY, []), ours.pop(BIAS_VALUES_KEY, []))
    numbers = {name: ours.pop(PREFIX + name) for name in NUMBERS if PREFIX + name in ours}
    if ours:
        raise RefusedError(Refusal.UNKNOWN_ARGUMENT, argument=min(ours))
    for name, value in numbers.items():
        whole = name == "top_k"
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise RefusedError(Refusal.PARAMETER, parameter=name)
    try:
        params = SamplingParams(logit_bias=biases, **numbers)  # type: ignore[arg-type]
    except InvalidParamsError as error:
        raise RefusedError(
            Refusal.PARAMETER, parameter=error.details["parameter"], reason=error.message
        ) from error
    if params.temperature > 0 and not seed:
        raise RefusedError(Refusal.SEED, seed_bytes=0)
    return Draw(params=params, seed=seed)


def require_version(version: str, accepted: str = "") -> None:
    """Raise RefusedError unless vLLM's `version` was measured, by us or by its operator."""
    measured = version.partition("+")[0] in TESTED_VERSIONS
    if not (measured or (accepted and version == accepted)):
        raise RefusedError(Refusal.ENGINE_VERSION, found=version)


def _seed(value: object) -> bytes:
    # Not `bytes.fromhex`, which lets spaces in.
    if value == "" or (isinstance(value, str) and _SEED_HEX.fullmatch(value)):
        return bytes.fromhex(str(value))
    raise RefusedError(Refusal.SEED)


def _biases(ids: object, values: object) -> tuple[tuple[int, float], ...]:
    if not (isinstance(ids, list) and isinstance(values, list) and len(ids) == len(values)):
        raise RefusedError(Refusal.PARAMETER, parameter="logit_bias")
    for token, bias in zip(ids, values, strict=True):
        numbers = isinstance(token, int) and isinstance(bias, (int, float))
        if not numbers or isinstance(token, bool) or isinstance(bias, bool):
            raise RefusedError(Refusal.PARAMETER, parameter="logit_bias")
    return tuple((token, float(bias)) for token, bias in zip(ids, values, strict=True))


def _shown(value: object) -> str:
    return str(value)[:40]
