"""`replay_port.Replay` over a vLLM that hands out hidden states; the last product is made here.

The server is `vllm serve MODEL --runner pooling --convert embed --pooler-config.task token_embed`,
which gives the state after the final norm at every place of a prompt: `width` numbers a token where
a row of log-probabilities has one a word, and raw logits come of it, which penalties need. The head
is read from the model's folder. The states feed activation fingerprints too
(`verify.scores_fingerprint`).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from tidegate.errors import ModelError
from tidegate.models.engine_http import Http
from tidegate.models.engine_port import EngineRefusedError
from tidegate.models.engine_vllm import Vllm
from tidegate.models.exact.tensorfile import open_tensors
from tidegate.models.port import F32Array, ModelInfo
from tidegate.models.prepared import Dtype, content_hash, manifest_of
from tidegate.models.replay_forced import ForcedReplay
from tidegate.models.replay_port import PIECE_ROWS
from tidegate.models.tokenizer import eos_ids_of

POOLING: Final = "/pooling"

SERVED_WITH: Final = "--runner pooling --convert embed --pooler-config.task token_embed"

_HEADS: Final = ("lm_head.weight", "model.embed_tokens.weight")
_AFTER_THE_HEAD: Final = frozenset(
    {
        "final_logit_softcapping",
        "logit_scale",
        "logits_scaling",
        "lm_head_multiplier",
        "mup_width_multiplier",
    }
)
"""Settings of models that change logits after the last product; none of them is followed."""


class _States(msgspec.Struct):
    data: str


class _Pooled(msgspec.Struct):
    data: list[_States]


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """weight_VD float32, what logits are made with, and the model folder's names for it."""

    weight_VD: F32Array
    fingerprint: str
    eos_ids: frozenset[int]
    info: ModelInfo
    brain: bool

    def logits(self, states_LD: F32Array) -> F32Array:
        """logits_LV float32; rounded to bfloat16 where the engine's product is."""
        logits_LV: F32Array = states_LD @ self.weight_VD.T
        return _brain(logits_LV) if self.brain else logits_LV


def open_head(folder: Path, dtype: Dtype) -> Head:
    """The head of a model folder, every file hashed first; `dtype` is the one vLLM runs it in.

    Raises ModelError or IntegrityError naming file and tensor.
    """
    manifest = manifest_of(folder)
    config = _config(folder / "config.json")
    for name in sorted(_AFTER_THE_HEAD & config.keys()):
        if config[name] not in (None, 1, 1.0):
            raise ModelError(f"{folder}: {name} changes logits after the head; not supported")
    tensors = {
        name: stored
        for path in sorted(folder.glob("*.safetensors"))
        for name, stored in open_tensors(path).items()
    }
    heads = [tensors[name] for name in _HEADS if name in tensors]
    if not heads:
        raise ModelError(f"{folder} has none of the tensors {', '.join(_HEADS)}")
    weight_VD = heads[0].float32()
    brain = dtype == "bfloat16"
    return Head(
        weight_VD=_brain(weight_VD) if brain else weight_VD,
        fingerprint=content_hash(manifest, dtype),
        eos_ids=eos_ids_of(folder),
        info=ModelInfo(
            name=manifest.name,
            parameters=manifest.parameters,
            licence=manifest.licence,
            provenance=manifest.provenance,
            numerics=dtype,
        ),
        brain=brain,
    )


@dataclass(frozen=True, slots=True)
class _Served:
    """What a server and the folder beside it say of the model."""

    vocab_size: int
    context_length: int
    eos_ids: frozenset[int]
    fingerprint: str
    info: ModelInfo
    exact: bool = False

    def describe(self) -> ModelInfo:
        return self.info


class VllmReplay(ForcedReplay):
    """Scores answers by the hidden states of one server; `close` hangs up."""

    def __init__(
        self,
        url: str,
        head: Head,
        *,
        model: str | None = None,
        key: str | None = None,
        accepted: str | None = None,
    ) -> None:
        """`model` is the served name, where a server has several; `accepted` as in `engine_vllm`.

        Raises EngineRefusedError for a version that was not tested, a server that gives no states,
        or another model's; EngineLostError where nobody answers.
        """
        self._http = Http(key=key)
        self._url = url.rstrip("/")
        self._head = head
        try:
            about = Vllm(model, accepted=accepted).about(self._http, self._url)
            self._name = about.model
            # One token says whether states come at all, and of which width.
            self.hidden_states([0])
        except BaseException:
            self._http.close()
            raise
        info = replace(head.info, numerics=f"{head.info.numerics}, vLLM {about.version}")
        size = int(head.weight_VD.shape[0])
        super().__init__(_Served(size, about.context_length, head.eos_ids, head.fingerprint, info))

    def hidden_states(self, tokens: Sequence[int]) -> F32Array:
        """states_TD, float32, after the final norm, one row a token.

        Raises EngineRefusedError or EngineLostError.
        """
        body = {
            "model": self._name,
            "input": list(tokens),
            "task": "token_embed",
            "use_activation": False,
            "encoding_format": "base64",
            "embed_dtype": "float32",
            "endianness": "little",
            "add_special_tokens": False,
        }
        try:
            answer = self._http.post(self._url + POOLING, body, _Pooled)
        except EngineRefusedError as error:
            raise EngineRefusedError(
                f"{error.message}; a server gives states when started with {SERVED_WITH}"
            ) from error
        width = self._head.weight_VD.shape[1]
        try:
            states_N = np.frombuffer(base64.b64decode(answer.data[0].data, validate=True), "<f4")
            states_TD: F32Array = states_N.reshape(len(tokens), width).astype(np.float32)
        except (IndexError, ValueError) as error:
            raise EngineRefusedError(
                f"{self._url} does not give a state of {width} numbers for each of {len(tokens)} "
                f"tokens; serve the same model, with {SERVED_WITH}"
            ) from error
        return states_TD

    def close(self) -> None:
        """Hang up; the object is unusable afterwards."""
        self._http.close()

    def _forced(self, tokens: Sequence[int], first: int) -> Iterator[F32Array]:
        states_LD = self.hidden_states(tokens)[first:]
        for start in range(0, len(states_LD), PIECE_ROWS):
            yield self._head.logits(states_LD[start : start + PIECE_ROWS])


def _brain(values: F32Array) -> F32Array:
    """Rounded to bfloat16, half to even, still as float32. `values` are finite."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(
        0xFFFF0000
    )
    result: F32Array = rounded.view(np.float32)
    return result


def _config(path: Path) -> Mapping[str, object]:
    try:
        config = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise ModelError(f"cannot read {path}; is it a model folder?", file=str(path)) from error
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path} is not JSON: {error}", file=str(path)) from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} is not a JSON object", file=str(path))
    return config
