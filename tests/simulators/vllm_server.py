"""vLLM's OpenAI server as far as `engine_vllm` speaks to it, over table logits.

It answers as vLLM 0.32.0 does (the recorded transcripts in `tests/unit/models/engine` hold it to
that) and can be told to do it badly: without the plug-in, with another version, without token ids,
or breaking off in the middle.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn
from link_world import TableModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tidegate.models.engine_model import ModelEngine, logprob_of
from tidegate.models.engine_port import Ask
from tidegate.models.port import F32Array, Model
from tidegate.models.vllm_contract import VERSION_KEY, RefusedError, read
from tidegate.sampling.params import SamplingParams

Json = dict[str, Any]
_ONCE = 1 << 40
"""The sequence id of prompts that are read once."""


@dataclass
class VllmFaults:
    """What a server does otherwise than it should; may be changed while it runs."""

    version: str = "0.32.0"
    plugin: bool = True
    model: str = "table"
    context: int = 600
    token_ids: bool = True
    break_after: int | None = None
    """Tokens after which a stream's connection breaks."""
    report_after: int | None = None
    """Tokens after which an answer ends with an error event."""
    garbage: bool = False
    status: int | None = None
    """What every request is answered with."""
    bundle: int = 1
    """Tokens in one event."""
    contract: int | None = None
    """The version of the contract that the plug-in there speaks, if another."""
    other_noise: bool = False
    """Seeds are used the wrong way round."""


@dataclass
class VllmServer:
    """A server that runs until `close`."""

    sharpness: float = 1.5
    blur: float = 0.0
    model: Model | None = None
    """What it serves, in place of a table of logits."""
    faults: VllmFaults = field(default_factory=VllmFaults)
    url: str = ""
    asked: list[Json] = field(default_factory=list)
    hung_up: int = 0

    def __post_init__(self) -> None:
        self.table = TableModel(self.sharpness, self.blur, context=self.faults.context)
        self.engine = ModelEngine(self.model or self.table)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/version", self._version),
                Route("/v1/models", self._models),
                Route("/v1/completions", self._completions, methods=["POST"]),
            ]
        )

    async def _version(self, _: Request) -> Response:
        return self._or_fault({"version": self.faults.version})

    async def _models(self, _: Request) -> Response:
        card = {"id": self.faults.model, "max_model_len": self.faults.context, "object": "model"}
        return self._or_fault({"object": "list", "data": [card]})

    def _or_fault(self, body: Json) -> Response:
        if self.faults.status is not None:
            return JSONResponse({"error": {"message": "no"}}, self.faults.status)
        return JSONResponse(body)

    async def _completions(self, request: Request) -> Response:
        body: Json = await request.json()
        self.asked.append(body)
        if self.faults.status is not None:
            return self._or_fault({})
        if body["temperature"] != 0.0:
            return _refused("this server is only asked greedily")
        if body.get("stream"):
            try:
                ask = self._ask(body, body["prompt"])
            except RefusedError as error:
                return _refused_in_stream(error.message)
            return StreamingResponse(self._events(body, ask), media_type="text/event-stream")
        prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
        choices = [self._choice(index, body, prompt) for index, prompt in enumerate(prompts)]
        return JSONResponse({"object": "text_completion", "choices": choices})

    def _ask(self, body: Json, prompt: Sequence[int]) -> Ask:
        args = dict(body.get("vllm_xargs") or {})
        if args and self.faults.contract is not None:
            args[VERSION_KEY] = -1
        draw = read(args)
        params, seed = SamplingParams(temperature=0.0), b"\0" * 32
        if draw is not None and self.faults.plugin:
            params, seed = draw.params, draw.seed or seed
            seed = bytes(reversed(seed)) if self.faults.other_noise else seed
        return Ask(
            prompt=tuple(prompt),
            seed=seed,
            params=params,
            max_tokens=body["max_tokens"],
            ends=tuple(body.get("stop_token_ids") or ()),
            logprobs=body.get("logprobs") is not None,
        )

    async def _events(self, body: Json, ask: Ask) -> AsyncIterator[str]:
        drawing = self.engine.start(ask)
        count, held = 0, []
        try:
            while True:
                drawn = drawing.take()
                count += 1
                held.append(drawn)
                ended = drawn.token in ask.ends or count == ask.max_tokens
                if len(held) == self.faults.bundle or ended:
                    reason = None if not ended else "stop" if drawn.token in ask.ends else "length"
                    yield self._event(body, held, reason)
                    held = []
                if ended:
                    break
                if count == self.faults.break_after:
                    raise RuntimeError("the simulator breaks off")
                if count == self.faults.report_after:
                    yield 'data: {"error": {"message": "engine died", "code": 500}}\n\n'
                    break
            yield "data: [DONE]\n\n"
        except GeneratorExit:
            self.hung_up += 1
            raise
        finally:
            drawing.close()

    def _event(self, body: Json, drawn: Sequence[Any], reason: str | None) -> str:
        if self.faults.garbage:
            return "data: {{{\n\n"
        choice: Json = {"index": 0, "text": "?" * len(drawn), "finish_reason": reason}
        choice["token_ids"] = [d.token for d in drawn] if self.faults.token_ids else None
        choice["logprobs"] = None
        if body.get("logprobs") is not None:
            choice["logprobs"] = {
                "token_logprobs": [d.logprob for d in drawn],
                "tokens": [f"token_id:{d.token}" for d in drawn],
            }
        event = {"id": "cmpl-1", "object": "text_completion", "choices": [choice]}
        return f"data: {json.dumps(event)}\n\n"

    def _logits(self, prompt: Sequence[int]) -> F32Array:
        model = self.model or self.table
        logits_V: F32Array = model.forward([(_ONCE, prompt)])[0]
        model.drop(_ONCE)
        return logits_V

    def _choice(self, index: int, body: Json, prompt: Sequence[int]) -> Json:
        choice: Json = {"index": index, "text": "?", "finish_reason": "length"}
        logits_V = self._logits(prompt)
        if body.get("logprobs"):
            top = [f"token_id:{t}" for t in np.argsort(-logits_V, kind="stable")]
            row = {name: logprob_of(logits_V, int(name[9:])) for name in top[: body["logprobs"]]}
            choice["logprobs"] = {
                "tokens": top[:1],
                "token_logprobs": [row[top[0]]],
                "top_logprobs": [row],
            }
        return choice


def _refused_in_stream(message: str) -> Response:
    event = {"error": {"message": message, "type": "BadRequestError", "code": 400}}
    text = f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n"
    return Response(text, media_type="text/event-stream")


def _refused(message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "BadRequestError"}}, 400)


@contextmanager
def running(*servers: Any) -> Any:
    """Serve each of `servers` (with `app` and `url`) on a port of its own, in threads."""
    closers = [_serve(server) for server in servers]
    try:
        yield servers[0] if len(servers) == 1 else servers
    finally:
        for close in closers:
            close()


def _serve(server: Any) -> Callable[[], None]:
    config = uvicorn.Config(server.app(), host="127.0.0.1", port=0, log_config=None, lifespan="off")
    running_server = uvicorn.Server(config)
    thread = threading.Thread(target=running_server.run, daemon=True)
    thread.start()
    for _ in itertools.count():
        if running_server.started:
            break
        thread.join(0.005)
    port = running_server.servers[0].sockets[0].getsockname()[1]
    server.url = f"http://127.0.0.1:{port}"

    def close() -> None:
        running_server.should_exit = running_server.force_exit = True
        thread.join()

    return close
