"""What the plug-in imports of vLLM, with the names of vLLM 0.32.0 and nothing behind them.

`tests/contract/models/test_vllm.py` holds the names against what a real vLLM recorded.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from enum import Enum, auto
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

FIRST = "vllm.v1.sample.logits_processor.interface"
SECOND = "vllm.v1.worker.gpu.sample.logits_processor.interface"


class MoveDirectionality(Enum):
    """How two places of the batch change."""

    UNIDIRECTIONAL = auto()
    SWAP = auto()


@dataclass(frozen=True)
class BatchUpdate:
    """Who came, went and moved."""

    batch_size: int
    removed: Any = ()
    added: Any = ()
    moved: Any = ()


class FirstLogitsProcessor(ABC):
    """The first runner's interface."""

    @classmethod  # noqa: B027
    def validate_params(cls, sampling_params: Any) -> None:
        """Nothing to say."""

    @abstractmethod
    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None: ...

    @abstractmethod
    def apply(self, logits: Any) -> Any: ...

    @abstractmethod
    def is_argmax_invariant(self) -> bool: ...

    @abstractmethod
    def update_state(self, batch_update: Any) -> None: ...


class SecondLogitsProcessor(ABC):
    """The second runner's interface."""

    def __init__(self, vllm_config: Any, req_states: Any) -> None: ...  # noqa: B027

    @classmethod  # noqa: B027
    def validate_params(cls, sampling_params: Any) -> None:
        """Nothing to say."""

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """Every request is of interest."""
        return True

    def apply_staged_writes(self) -> None: ...  # noqa: B027

    @abstractmethod
    def apply(self, logits: Any, ctx: Any) -> Any: ...


@dataclass(frozen=True)
class LogitsContext:
    """One step's layout for the second runner's processors."""

    expanded_idx_mapping: Any
    idx_mapping: Any
    idx_mapping_np: Any
    expanded_local_pos: Any
    input_ids: Any
    pos: Any
    seq_lens_upper_bound_np: Any


@dataclass(frozen=True)
class LogitsProcRequestState:
    """The second runner's requests, by slot."""

    device: Any
    max_num_reqs: int
    vocab_size: int
    all_token_ids: Any
    prompt_len: Any
    prefill_len: Any
    total_len: Any


@dataclass(kw_only=True)
class SamplingParams:
    """The fields that the plug-in reads, as vLLM leaves them when nothing is asked for."""

    n: int = 1
    temperature: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] | None = None
    min_tokens: int = 0
    bad_words: list[str] = field(default_factory=list)
    allowed_token_ids: list[int] | None = None
    structured_outputs: object | None = None
    thinking_token_budget: int | None = None
    trace_decode_token_ids: list[int] | None = None
    repetition_detection: object | None = None
    extra_args: dict[str, Any] | None = None


class VllmConfig:
    """A configuration, checked by vLLM in `__post_init__`."""

    def __init__(self, **changed: Any) -> None:
        model = {
            "runner_type": "generate",
            "logits_processors": None,
            "enable_prompt_embeds": False,
            "get_vocab_size": lambda: changed.get("vocab_size", 64),
        }
        self.speculative_config = changed.get("speculative_config")
        self.lora_config = changed.get("lora_config")
        self.watermark_config = changed.get("watermark_config")
        self.diffusion_config = changed.get("diffusion_config")
        self.model_config = SimpleNamespace(**(model | changed.get("model", {})))
        self.__post_init__()

    def __post_init__(self) -> None: ...


def modules(version: str = "0.32.0") -> dict[str, ModuleType]:
    """All of it, for `sys.modules`."""
    found = {
        "vllm": SimpleNamespace(__version__=version),
        "vllm.config": SimpleNamespace(VllmConfig=type("VllmConfig", (VllmConfig,), {})),
        FIRST: SimpleNamespace(
            LogitsProcessor=FirstLogitsProcessor, MoveDirectionality=MoveDirectionality
        ),
        SECOND: SimpleNamespace(LogitsProcessor=SecondLogitsProcessor),
    }
    made: dict[str, ModuleType] = {}
    for name, values in found.items():
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            made.setdefault(".".join(parts[:count]), ModuleType(".".join(parts[:count])))
        vars(made[name]).update(vars(values))
    return made


def second_state(prompts: dict[int, list[int]], vocab_size: int) -> LogitsProcRequestState:
    """The second runner's requests with these prompts by slot, and room for 64 tokens each."""
    slots = max(prompts) + 1
    tokens = torch.zeros((slots, 64), dtype=torch.int32)
    lengths = np.zeros(slots, np.int32)
    for slot, prompt in prompts.items():
        tokens[slot, : len(prompt)] = torch.tensor(prompt)
        lengths[slot] = len(prompt)
    return LogitsProcRequestState(
        device=torch.device("cpu"),
        max_num_reqs=slots,
        vocab_size=vocab_size,
        all_token_ids=SimpleNamespace(gpu=tokens),
        prompt_len=SimpleNamespace(np=lengths),
        prefill_len=None,
        total_len=None,
    )


def context(slots: list[int], lengths: list[int]) -> LogitsContext:
    """A step in which each slot has one row and `lengths` tokens before the one that is drawn."""
    unread = {one.name: None for one in fields(LogitsContext)}
    read = {"idx_mapping_np": np.array(slots), "seq_lens_upper_bound_np": np.array(lengths)}
    return LogitsContext(**(unread | read))


def put_in_place() -> None:
    """For a process of its own: as if vLLM were installed."""
    sys.modules |= modules()
