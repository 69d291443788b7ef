"""SGLang over HTTP behind `engine_port.DrawingEngine`: the processor inside it draws.

What a request carries is `sglang_contract`. Whether the plug-in is there is asked first, by a
request that it alone refuses: a server without it would try to unpickle what seeded requests name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from tidegate.models.engine_http import REFUSALS, Http, refusal_in
from tidegate.models.engine_port import Ask, Drawn, EngineLostError, EngineRefusedError
from tidegate.models.engine_probe import LISTED, LogProbs
from tidegate.models.engine_replicas import About
from tidegate.models.sglang_contract import PROCESSOR, READ_VERSIONS, SERVER_NEEDS
from tidegate.models.vllm_contract import (
    VERSION_KEY,
    Draw,
    Refusal,
    RefusedError,
    extra_args,
)

GENERATE: Final = "/generate"

_GREEDY: Final = {"temperature": 0.0, "ignore_eos": True, "skip_special_tokens": False}
"""What SGLang itself is asked to do. It ends nowhere by itself: where `ignore_eos` is set it looks
at no end token, and where it is not, at its tokenizer's as well as ours."""

_NO_VERSION: Final = 0


class _Info(msgspec.Struct):
    version: str
    enable_deterministic_inference: bool | None = None


class _Card(msgspec.Struct):
    id: str
    max_model_len: int | None = None


class _Cards(msgspec.Struct):
    data: list[_Card]


class _Error(msgspec.Struct):
    code: int | str | None = None
    message: str = ""


class _Reason(msgspec.Struct):
    type: str = ""


class _Meta(msgspec.Struct):
    finish_reason: _Reason | None = None
    completion_tokens: int | None = None
    output_top_logprobs: list[list[tuple[float, int, str | None]]] | None = None


class _Answer(msgspec.Struct):
    output_ids: list[int] | None = None
    meta_info: _Meta | None = None
    error: _Error | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class Sglang:
    """`engine_replicas.Dialect` of SGLang's own server."""

    name = "SGLang"

    def __init__(self, *, accepted: str | None = None) -> None:
        """`accepted`: the one version that the operator has measured."""
        self._accepted = accepted

    def about(self, http: Http, url: str) -> About:
        """See `engine_replicas.Dialect.about`."""
        settings = http.get(url + "/server_info", dict[str, object])
        info = msgspec.convert(settings, _Info)
        if info.version != self._accepted:
            raise EngineRefusedError(
                f"{url} runs SGLang {info.version}, which has never been run with the plug-in "
                f"({', '.join(READ_VERSIONS)} was read). Measure it (docs/howto/engines.md) and "
                "name it in [engine] version",
                found=info.version,
            )
        for setting, (needed, what) in SERVER_NEEDS.items():
            found = settings.get(setting)
            if found != needed and not (not needed and not found):
                raise EngineRefusedError(f"{url}: {what}", setting=setting)
        cards = http.get(url + "/v1/models", _Cards).data
        longest = [card.max_model_len for card in cards if card.max_model_len is not None]
        if not longest:
            raise EngineRefusedError(f"{url} does not say how long a context it takes")
        self._require_plugin(http, url)
        sure = "deterministic" if info.enable_deterministic_inference else "as it was started"
        return About(info.version, cards[0].id, min(longest), f"SGLang {info.version}, {sure}")

    def stream(self, about: About, ask: Ask) -> tuple[str, object]:
        """See `engine_replicas.Dialect.stream`."""
        if ask.logprobs:
            raise EngineRefusedError(
                "SGLang takes log-probabilities after the processor, which leaves one token; "
                "answers that need them, as the best of several, cannot be drawn there"
            )
        try:
            args = extra_args(Draw(params=ask.params, seed=ask.seed))
        except RefusedError as error:
            raise EngineRefusedError(error.message, **error.details) from error
        sampling = {"custom_params": args, "max_new_tokens": ask.max_tokens, **_GREEDY}
        body = {
            "input_ids": ask.prompt,
            "sampling_params": sampling,
            "custom_logit_processor": PROCESSOR,
            "stream": True,
        }
        return GENERATE, body

    def tokens(self, data: bytes, taken: int) -> Sequence[Drawn]:
        """See `engine_replicas.Dialect.tokens`; an event brings all tokens so far."""
        try:
            answer = _ANSWER.decode(data)
        except msgspec.MsgspecError as error:
            raise EngineLostError(
                f"SGLang sent an event that is none of its own: {error}"
            ) from error
        if answer.error is not None:
            if answer.error.code in REFUSALS:
                raise EngineRefusedError(f"SGLang refuses{refusal_in(answer.error.message)}")
            raise EngineLostError("SGLang reported an error within an answer")
        meta = answer.meta_info or _Meta()
        if meta.finish_reason is not None and meta.finish_reason.type == "abort":
            raise EngineLostError("SGLang gave an answer up")
        if answer.output_ids is None or len(answer.output_ids) < taken:
            raise EngineLostError("SGLang does not send all token ids so far")
        return [Drawn(token) for token in answer.output_ids[taken:]]

    def logprobs(
        self, http: Http, url: str, about: About, prompts: Sequence[Sequence[int]]
    ) -> Sequence[LogProbs]:
        """See `engine_replicas.Dialect.logprobs`."""
        body = {
            "input_ids": list(prompts),
            "sampling_params": {"max_new_tokens": 1, **_GREEDY},
            "return_logprob": True,
            "top_logprobs_num": LISTED,
        }
        answers = http.post(url + GENERATE, body, list[_Answer])
        rows: list[LogProbs] = []
        for answer in answers:
            listed = answer.meta_info and answer.meta_info.output_top_logprobs
            if not listed:
                raise EngineRefusedError(f"{url} gives no log-probabilities")
            rows.append({token: value for value, token, _ in listed[0]})
        if len(rows) != len(prompts):
            raise EngineRefusedError(f"{url} answers {len(rows)} of {len(prompts)} prompts")
        return rows

    def _require_plugin(self, http: Http, url: str) -> None:
        sampling = {
            "custom_params": {VERSION_KEY: _NO_VERSION},
            "max_new_tokens": 1,
            **_GREEDY,
        }
        try:
            http.post(url + GENERATE, {"input_ids": [0], "sampling_params": sampling}, _Answer)
        except EngineRefusedError as error:
            if f"refuses {Refusal.CONTRACT_VERSION}" in error.message:
                return
            raise
        raise EngineRefusedError(
            f"{url} does not know what it should refuse: the plug-in is not installed there, or "
            "not loaded (SGLANG_PLUGINS)"
        )
