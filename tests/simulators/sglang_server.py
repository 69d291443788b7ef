"""SGLang's own server as far as `engine_sglang` speaks to it, with the real plug-in in it.

What SGLang 0.5.23 does round the plug-in is written after its source: requests are checked, a
processor is found by its text, gets a batch's rows with each request among its parameters, and the
largest score is taken. SGLang itself has not been run; it needs a GPU.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from link_world import VOCABULARY, TableModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tidegate.models import sglang_plugin
from tidegate.models.engine_model import logprob_of

Json = dict[str, Any]


@dataclass
class SglangServer:
    """A server that runs until it is closed; `settings` and the rest may be changed."""

    blur: float = 0.0
    plugin: bool = True
    version: str = "0.5.23"
    context: int = 600
    abort_after: int | None = None
    short_ids: bool = False
    settings: Json = field(
        default_factory=lambda: {
            "enable_custom_logit_processor": True,
            "disable_overlap_schedule": True,
            "speculative_algorithm": None,
            "incremental_streaming_output": False,
            "enable_deterministic_inference": True,
        }
    )
    url: str = ""
    asked: list[Json] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.table = TableModel(1.5, self.blur, context=self.context)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/server_info", self._info),
                Route("/v1/models", self._models),
                Route("/generate", self._generate, methods=["POST"]),
            ]
        )

    async def _info(self, _: Request) -> Response:
        return JSONResponse({**self.settings, "version": self.version})

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"data": [{"id": "table", "max_model_len": self.context}]})

    async def _generate(self, request: Request) -> Response:
        body: Json = await request.json()
        self.asked.append(body)
        obj = SimpleNamespace(
            custom_logit_processor=body.get("custom_logit_processor"),
            sampling_params=body["sampling_params"],
        )
        if self.plugin:
            try:
                sglang_plugin.check(None, obj, body["input_ids"])
            except ValueError as error:
                refused = {"error": {"message": str(error), "code": 400}}
                if not body.get("stream"):
                    return JSONResponse(refused, 400)
                text = f"data: {json.dumps(refused)}\n\ndata: [DONE]\n\n"
                return Response(text, media_type="text/event-stream")
        if body.get("stream"):
            return StreamingResponse(self._events(body), media_type="text/event-stream")
        if isinstance(body["input_ids"][0], list):
            return JSONResponse([self._one(body, prompt) for prompt in body["input_ids"]])
        return JSONResponse(self._one(body, body["input_ids"]))

    async def _events(self, body: Json) -> AsyncIterator[str]:
        req = SimpleNamespace(origin_input_ids=list(body["input_ids"]), output_ids=[])
        sampling = body["sampling_params"]
        processor = None
        if self.plugin and body.get("custom_logit_processor"):
            processor = sglang_plugin.processor_of(None, body["custom_logit_processor"])
        for count in range(1, sampling["max_new_tokens"] + 1):
            logits_V = self.table.logits([*req.origin_input_ids, *req.output_ids])
            logits_1V = torch.from_numpy(logits_V.copy())[None]
            if processor is not None:
                params = sampling["custom_params"] | {"__req__": req}
                logits_1V = processor(logits_1V, [params])
            req.output_ids.append(int(torch.argmax(logits_1V, -1)[0]))
            done = count == sampling["max_new_tokens"]
            meta: Json = {"finish_reason": {"type": "length"} if done else None}
            if count == self.abort_after:
                meta["finish_reason"] = {"type": "abort"}
            shown = req.output_ids[-1:] if self.short_ids else req.output_ids
            event = {"text": "?", "output_ids": shown, "meta_info": meta}
            yield f"data: {json.dumps(event)}\n\n"
        yield "data: [DONE]\n\n"

    def _one(self, body: Json, prompt: Sequence[int]) -> Json:
        logits_V = self.table.logits(prompt)
        order = np.argsort(-logits_V, kind="stable")[: body.get("top_logprobs_num", 1)]
        row = [[logprob_of(logits_V, int(token)), int(token), None] for token in order]
        assert len(logits_V) == VOCABULARY
        return {"output_ids": [row[0][1]], "meta_info": {"output_top_logprobs": [row]}}
