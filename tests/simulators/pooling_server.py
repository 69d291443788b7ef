"""vLLM as a pooling model, as far as `replay_vllm` speaks to it, over a transformers model."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.models.transformers_torch import TransformersModel


@dataclass
class PoolingServer:
    """Gives the states after the final norm; `scale` and `lost` make them wrong."""

    model: TransformersModel
    url: str = ""
    version: str = "0.32.0"
    lost: int = 0
    """Places left out at the end."""
    scale: float = 1.0
    status: int | None = None
    pooled: int = 0

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/version", self._version),
                Route("/v1/models", self._models),
                Route("/pooling", self._pooling, methods=["POST"]),
            ]
        )

    async def _version(self, _: Request) -> Response:
        return JSONResponse({"version": self.version})

    async def _models(self, _: Request) -> Response:
        card = {"id": "tiny", "max_model_len": self.model.context_length}
        return JSONResponse({"data": [card]})

    async def _pooling(self, request: Request) -> Response:
        if self.status is not None:
            return JSONResponse({"error": {"message": "no"}}, self.status)
        body = await request.json()
        self.pooled += 1
        wanted = {"task": "token_embed", "use_activation": False, "endianness": "little"}
        if any(body[name] != value for name, value in wanted.items()):
            return JSONResponse({"error": {"message": "this is not what vLLM needs"}}, 400)
        with torch.inference_mode():
            inside = self.model.module.model(input_ids=torch.tensor([body["input"]]))
        states_TD = inside.last_hidden_state[0].float().numpy() * self.scale
        kept_TD = states_TD[: len(states_TD) - self.lost]
        data = base64.b64encode(kept_TD.astype("<f4").tobytes()).decode()
        return JSONResponse({"object": "list", "data": [{"index": 0, "data": data}]})
