"""What is said of serving engines in the compatibility matrix, each with the test that says so.

A claim whose check passes stands as it is; one whose evidence is not here becomes *unknown*, and
so is every feature that nobody claims anything of. Evidence is what a real engine did, recorded
(`tests/contract/models/vllm_*.json`, `tests/unit/models/engine/`), or our own code's refusal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Literal

from tidegate.models.engine_port import Ask, EngineRefusedError
from tidegate.models.engine_replicas import About
from tidegate.models.engine_sglang import Sglang
from tidegate.models.sglang_contract import (
    PROCESSOR,
    SERVER_NEEDS,
    SglangRefusedError,
    check_request,
)
from tidegate.models.vllm_contract import (
    Draw,
    Refusal,
    RefusedError,
    extra_args,
    require_version,
)
from tidegate.models.vllm_guard import OF_A_REQUEST
from tidegate.openai_api.errors import ApiError
from tidegate.openai_api.requests import Caps, parse_chat
from tidegate.sampling.params import SamplingParams

ROOT: Final = Path(__file__).resolve().parents[1]
RECORDED: Final = ROOT / "tests/contract/models/vllm_0_32_0.json"
SECOND: Final = ROOT / "tests/contract/models/vllm_0_32_0_second.json"
FEATURES: Final = ROOT / "tests/contract/models/vllm_features.json"
SPOKEN: Final = ROOT / "tests/unit/models/engine/vllm-0.32.0.json"
STATES: Final = ROOT / "tests/unit/models/engine/vllm-0.32.0-states.json"

Status = Literal["supported", "refused", "unknown"]

VLLM, OTHER_VLLM, SGLANG = "vLLM 0.32.0", "vLLM, other versions", "SGLang 0.5.23"
ENGINES: Final = (VLLM, OTHER_VLLM, SGLANG)

SEEDED: Final = "seeded sampling: temperature, top-p, top-k, min-p"
PENALTIES: Final = "penalties and logit_bias, sent to the plug-in"
NATIVE: Final = "the engine's own penalties, logit_bias, min_tokens, bad_words, allowed tokens"
CHUNKED: Final = "chunked prefill"
PREFIX: Final = "prefix cache"
PREEMPTION: Final = "requests put back when memory runs out"
PARALLEL: Final = "tensor parallel"
QUANTISED: Final = "quantised weights or caches"
LORA: Final = "LoRA adapters"
SPECULATIVE: Final = "speculative decoding"
GRAMMAR: Final = "structured output"
TOOLS: Final = "tool calls"
BEST: Final = "best of several answers"
SEVERAL: Final = "n > 1 in one request"
PROCESSORS: Final = "other logits processors"
EMBEDS: Final = "prompts of embeddings"
OVERLAP: Final = "overlapping schedule"
SECOND_RUNNER: Final = "second model runner"
STATES_OUT: Final = "hidden states for verification"

ROWS: Final = (
    SEEDED,
    PENALTIES,
    NATIVE,
    CHUNKED,
    PREFIX,
    PREEMPTION,
    PARALLEL,
    QUANTISED,
    LORA,
    SPECULATIVE,
    GRAMMAR,
    TOOLS,
    BEST,
    SEVERAL,
    PROCESSORS,
    EMBEDS,
    OVERLAP,
    SECOND_RUNNER,
    STATES_OUT,
)


class NoEvidenceError(Exception):
    """What would show the claim is not here."""


@dataclass(frozen=True, slots=True)
class Claim:
    """`status` of `feature` on `engine`; `check` raises AssertionError where it is not so."""

    engine: str
    feature: str
    status: Status
    how: str
    check: Callable[[], None]


def claims() -> tuple[Claim, ...]:
    """Everything that is claimed."""
    return (*_vllm(), *_other_vllm(), *_sglang(), *_outside())


def outcome(claim: Claim) -> Status:
    """The claim's status, or unknown without evidence. Raises AssertionError where it is wrong."""
    try:
        claim.check()
    except NoEvidenceError:
        return "unknown"
    return claim.status


def require(true: bool, what: str) -> None:
    """Raise AssertionError unless `true`."""
    if not true:
        raise AssertionError(what)


def _vllm() -> list[Claim]:
    replayed = "recorded; `tests/contract/models/test_vllm.py` draws each token again"
    compared = "six answers equal to ours (`tools/record_features.py`)"
    no_start = "vLLM does not start"
    coming = "when a seeded request comes"
    table: list[tuple[str, Status, str, Callable[[], None]]] = [
        (SEEDED, "supported", replayed, _answered("plain", "top-p", "top-k", "all filters")),
        (PENALTIES, "supported", replayed, _answered("penalties", "bias")),
        (NATIVE, "refused", coming, _refused(_NATIVE)),
        (CHUNKED, "supported", compared, _ran("chunked_prefill", "max-num-batched-tokens 64")),
        (PREFIX, "supported", compared, _ran("prefix_cache", counter="vllm:prefix_cache_hits")),
        (PREEMPTION, "supported", replayed, _put_back),
        (
            PARALLEL,
            "supported",
            f"{compared}; three processes, CPU",
            _ran("tensor_parallel", "tensor-parallel-size 3"),
        ),
        (LORA, "refused", no_start, _no_start("LoRA", Refusal.LORA)),
        (
            SPECULATIVE,
            "refused",
            no_start,
            _no_start("speculative decoding", Refusal.SPECULATIVE_DECODING),
        ),
        (
            PROCESSORS,
            "refused",
            no_start,
            _no_start("another processor", Refusal.OTHER_PROCESSORS),
        ),
        (EMBEDS, "refused", no_start, _no_start("prompts of embeddings", Refusal.PROMPT_EMBEDS)),
        (GRAMMAR, "refused", coming, _refused({"a grammar": Refusal.STRUCTURED_OUTPUT})),
        (SEVERAL, "refused", coming, _several),
        (BEST, "supported", "asked for one by one, with log-probabilities; recorded", _spoken),
        (
            SECOND_RUNNER,
            "supported",
            f"{replayed}; its kernels ran in Triton's interpreter, on no GPU",
            _second,
        ),
        (STATES_OUT, "supported", "recorded; logits within 0.001 of ours", _states),
    ]
    return [Claim(VLLM, *row) for row in table]


def _other_vllm() -> list[Claim]:
    def unknown_version() -> None:
        try:
            require_version("0.33.0")
        except RefusedError:
            return
        raise AssertionError("another version is accepted")

    how = "neither the plug-in nor the inner half starts, unless its operator names the version"
    features = [feature for feature in ROWS if feature != TOOLS]
    return [Claim(OTHER_VLLM, feature, "refused", how, unknown_version) for feature in features]


def _sglang() -> list[Claim]:
    coming = "when a seeded request comes"
    by_settings = "by the server's settings, before it is asked"
    table: list[tuple[str, Status, str, Callable[[], None]]] = [
        (NATIVE, "refused", coming, _sglang_refuses({"logit_bias": {"3": 1.0}}, "logit_bias")),
        (GRAMMAR, "refused", coming, _sglang_refuses({"regex": "a"}, "structured_output")),
        (SEVERAL, "refused", coming, _sglang_refuses({"n": 2}, "several_choices")),
        (LORA, "refused", by_settings, _sglang_needs("enable_lora")),
        (SPECULATIVE, "refused", by_settings, _sglang_needs("speculative_algorithm")),
        (OVERLAP, "refused", by_settings, _sglang_needs("disable_overlap_schedule")),
        (PROCESSORS, "refused", "unread, when a request comes", _sglang_foreign),
        (BEST, "refused", "its log-probabilities come after the processor", _sglang_best),
    ]
    return [Claim(SGLANG, *row) for row in table]


def _outside() -> list[Claim]:
    def check() -> None:
        caps = Caps(context_length=99, vocab_size=99, max_tokens=9, max_choices=1, max_best_of=1)
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": [{}]}
        try:
            parse_chat(json.dumps(body).encode(), caps)
        except ApiError as error:
            require("tool" in str(error), "tools are refused for another reason")
            return
        raise AssertionError("tools are served")

    return [Claim(one, TOOLS, "refused", "by the outer half", check) for one in ENGINES]


_NATIVE: Final = {
    "vLLM's penalties": Refusal.PENALTIES,
    "vLLM's biases": Refusal.LOGIT_BIAS,
    "min_tokens": Refusal.MIN_TOKENS,
    "bad_words": Refusal.BAD_WORDS,
    "allowed tokens": Refusal.ALLOWED_TOKENS,
}
_SEED: Final = bytes(32)


def _load(path: Path) -> Any:
    if not path.exists():
        raise NoEvidenceError(str(path.name))
    return json.loads(path.read_bytes())


def _answered(*notes: str) -> Callable[[], None]:
    def check() -> None:
        found = {one["note"] for one in _load(RECORDED)["answers"]}
        require(found >= set(notes), f"nothing was answered of {set(notes) - found}")

    return check


def _ran(feature: str, *flags: str, counter: str = "") -> Callable[[], None]:
    def check() -> None:
        found = _load(FEATURES).get(feature)
        if found is None:
            raise NoEvidenceError(feature)
        require(found["asked"] == found["equal"] > 0, f"{feature}: answers differ")
        require(all(flag in found["flags"] for flag in flags), f"{feature}: other flags")
        counted = [value for name, value in found["counters"].items() if name.startswith(counter)]
        require(not counter or sum(counted) > 0, f"{feature}: it was not at work")

    return check


def _second() -> None:
    found = _load(SECOND)
    require(found["runner"] == "second" and bool(found["answers"]), "no second runner")


def _put_back() -> None:
    require(_load(RECORDED)["preemptions"] > 0, "nothing was put back")


def _no_start(note: str, refusal: Refusal) -> Callable[[], None]:
    said = f"tidegate refuses {refusal}:"
    return lambda: require(_load(RECORDED)["starts"][note].startswith(said), note)


def _refused(notes: Mapping[str, Refusal]) -> Callable[[], None]:
    def check() -> None:
        for note, refusal in notes.items():
            said = _load(RECORDED)["refusals"][note]
            require(said.startswith(f"tidegate refuses {refusal}:"), note)

    return check


def _several() -> None:
    is_on = dict(OF_A_REQUEST)[Refusal.SEVERAL_CHOICES]
    require(bool(is_on(SimpleNamespace(n=2))), "n > 1 is let pass")


def _spoken() -> None:
    asked = [json.loads(one["asked"]) for one in _load(SPOKEN)["exchanges"] if one["asked"]]
    require(any(body.get("logprobs") == 0 for body in asked), "no log-probabilities")


def _states() -> None:
    paths = {one["path"] for one in _load(STATES)["exchanges"]}
    require("/pooling" in paths, "no hidden states")


def _sglang_refuses(change: dict[str, Any], refusal: str) -> Callable[[], None]:
    args = extra_args(Draw(params=SamplingParams(), seed=_SEED))

    def check() -> None:
        try:
            check_request(PROCESSOR, {"temperature": 0, "custom_params": args} | change)
        except SglangRefusedError as error:
            require(error.refusal == refusal, f"{change}: {error.message}")
            return
        raise AssertionError(f"{change} is let pass")

    return check


def _sglang_needs(setting: str) -> Callable[[], None]:
    return lambda: require(setting in SERVER_NEEDS, setting)


def _sglang_foreign() -> None:
    _sglang_is_refused(lambda: check_request("{}", {"temperature": 0}))


def _sglang_best() -> None:
    ask = Ask(prompt=(1,), seed=_SEED, params=SamplingParams(), max_tokens=1, logprobs=True)
    _sglang_is_refused(lambda: Sglang().stream(About("", "", 9), ask))


def _sglang_is_refused(work: Callable[[], object]) -> None:
    try:
        work()
    except (SglangRefusedError, EngineRefusedError):
        return
    raise AssertionError("it is let pass")
