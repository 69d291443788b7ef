"""vLLM over HTTP behind `engine_port.DrawingEngine`: the plug-in inside it draws, we only ask.

What a request carries is `vllm_contract`. vLLM's own sampling stays greedy, its own end of sequence
is switched off, and every value is sent, so that no default of the server's can shape an answer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from tidegate.models.engine_http import REFUSALS, Http, refusal_in
from tidegate.models.engine_port import Ask, Drawn, EngineLostError, EngineRefusedError
from tidegate.models.engine_probe import LISTED, LogProbs
from tidegate.models.engine_replicas import About
from tidegate.models.vllm_contract import (
    ACCEPT_VARIABLE,
    Draw,
    RefusedError,
    extra_args,
    require_version,
)

COMPLETIONS: Final = "/v1/completions"

GREEDY: Final[Mapping[str, object]] = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
}
"""What vLLM itself is asked to do with the scores: nothing."""

_TOKEN: Final = "token_id:"  # noqa: S105
_BROKEN: Final = frozenset({"abort", "error"})


class _Version(msgspec.Struct):
    version: str


class _Card(msgspec.Struct):
    id: str
    max_model_len: int | None = None


class _Cards(msgspec.Struct):
    data: list[_Card]


class _LogProbs(msgspec.Struct):
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    token_ids: list[int] | None = None
    finish_reason: str | None = None
    logprobs: _LogProbs | None = None


class _Error(msgspec.Struct):
    code: int | str | None = None
    message: str = ""


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []
    error: _Error | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class Vllm:
    """`engine_replicas.Dialect` of vLLM's OpenAI server."""

    name = "vLLM"

    def __init__(self, model: str | None = None, *, accepted: str | None = None) -> None:
        """`model` is the served name, where a server has several. `accepted`: a version beyond the
        tested ones that the operator has measured; by default the environment says."""
        self._model = model
        self._accepted = os.environ.get(ACCEPT_VARIABLE, "") if accepted is None else accepted

    def about(self, http: Http, url: str) -> About:
        """See `engine_replicas.Dialect.about`."""
        version = http.get(url + "/version", _Version).version
        try:
            require_version(version, self._accepted)
        except RefusedError as error:
            raise EngineRefusedError(f"{url}: {error.message}", **error.details) from error
        cards = http.get(url + "/v1/models", _Cards).data
        served = [card for card in cards if self._model in (None, card.id)]
        if len(served) != 1 or served[0].max_model_len is None:
            names = ", ".join(card.id for card in cards) or "none"
            raise EngineRefusedError(
                f"{url} serves {names}; name one of them (an adapter is no model of its own)",
                model=self._model,
            )
        return About(version, served[0].id, served[0].max_model_len)

    def stream(self, about: About, ask: Ask) -> tuple[str, object]:
        """See `engine_replicas.Dialect.stream`."""
        try:
            args = extra_args(Draw(params=ask.params, seed=ask.seed))
        except RefusedError as error:
            raise EngineRefusedError(error.message, **error.details) from error
        body: dict[str, object] = {
            "model": about.model,
            "prompt": ask.prompt,
            "max_tokens": ask.max_tokens,
            "stop_token_ids": ask.ends,
            "ignore_eos": True,
            "stream": True,
            "return_token_ids": True,
            "skip_special_tokens": False,
            "vllm_xargs": args,
            **GREEDY,
        }
        if ask.logprobs:
            body["logprobs"] = 0
        return COMPLETIONS, body

    def tokens(self, data: bytes, taken: int) -> Sequence[Drawn]:
        """See `engine_replicas.Dialect.tokens`."""
        try:
            answer = _ANSWER.decode(data)
        except msgspec.MsgspecError as error:
            raise EngineLostError(f"vLLM sent an event that is none of its own: {error}") from (
                error
            )
        if answer.error is not None:
            # A stream has begun with 200 by the time that vLLM looks at the request.
            if answer.error.code in REFUSALS:
                raise EngineRefusedError(f"vLLM refuses{refusal_in(answer.error.message)}")
            raise EngineLostError("vLLM reported an error within an answer")
        drawn: list[Drawn] = []
        for choice in answer.choices:
            if choice.finish_reason in _BROKEN:
                raise EngineLostError("vLLM gave an answer up")
            if choice.token_ids is None:
                raise EngineLostError(
                    "vLLM sends no token ids (return_token_ids); is something rewriting requests?"
                )
            listed = None if choice.logprobs is None else choice.logprobs.token_logprobs
            if listed is not None and len(listed) != len(choice.token_ids):
                raise EngineLostError("vLLM sends other log-probabilities than tokens")
            values = listed or [None] * len(choice.token_ids)
            drawn += [Drawn(*pair) for pair in zip(choice.token_ids, values, strict=True)]
        return drawn

    def logprobs(
        self, http: Http, url: str, about: About, prompts: Sequence[Sequence[int]]
    ) -> Sequence[LogProbs]:
        """See `engine_replicas.Dialect.logprobs`."""
        body = {
            "model": about.model,
            "prompt": list(prompts),
            "max_tokens": 1,
            "logprobs": LISTED,
            "return_tokens_as_token_ids": True,
            "ignore_eos": True,
            **GREEDY,
        }
        answer = http.post(url + COMPLETIONS, body, _Answer)
        rows: dict[int, LogProbs] = {}
        for choice in answer.choices:
            listed = choice.logprobs and choice.logprobs.top_logprobs
            if not listed or listed[0] is None:
                raise EngineRefusedError(f"{url} gives no log-probabilities")
            if not all(name.startswith(_TOKEN) for name in listed[0]):
                raise EngineRefusedError(f"{url} names tokens by text (return_tokens_as_token_ids)")
            rows[choice.index] = {
                int(name[len(_TOKEN) :]): value for name, value in listed[0].items()
            }
        if sorted(rows) != list(range(len(prompts))):
            raise EngineRefusedError(f"{url} answers {len(rows)} of {len(prompts)} prompts")
        return [rows[index] for index in range(len(prompts))]
