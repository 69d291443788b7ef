"""Whatever an engine sends, what comes of it is tokens or one of two errors by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tidegate.models.engine_port import Drawn, EngineLostError, EngineRefusedError
from tidegate.models.engine_replicas import Dialect
from tidegate.models.engine_sglang import Sglang
from tidegate.models.engine_vllm import Vllm

NUMBERS = st.integers() | st.floats(allow_nan=False) | st.none()
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "token_ids": st.lists(st.integers(), max_size=4) | ANYTHING,
        "finish_reason": st.sampled_from(["stop", "length", "abort", "error"]) | ANYTHING,
        "logprobs": st.fixed_dictionaries({"token_logprobs": st.lists(NUMBERS, max_size=4)})
        | ANYTHING,
    },
)
EVENT = st.fixed_dictionaries(
    {},
    optional={
        "choices": st.lists(CHOICE, max_size=2) | ANYTHING,
        "error": st.fixed_dictionaries({"code": NUMBERS, "message": st.text()}) | ANYTHING,
        "output_ids": st.lists(st.integers(), max_size=6) | ANYTHING,
        "meta_info": st.fixed_dictionaries({"finish_reason": ANYTHING}) | ANYTHING,
    },
)


@settings(max_examples=40)
@pytest.mark.parametrize("dialect", [Vllm(accepted=""), Sglang()], ids=lambda one: one.name)
@given(
    data=EVENT.map(lambda event: json.dumps(event).encode()) | st.binary(max_size=64),
    taken=st.integers(0, 3),
)
@example(
    data=b'{"choices": [{"token_ids": [1, 2], "logprobs": {"token_logprobs": [0.5]}}]}', taken=0
)
@example(data=b'{"output_ids": [1]}', taken=2)
@example(data=b"\xff\xfe", taken=0)
def test_an_event_gives_tokens_or_is_refused(dialect: Dialect, data: bytes, taken: int):
    try:
        drawn = dialect.tokens(data, taken)
    except (EngineLostError, EngineRefusedError):
        return
    assert all(isinstance(one, Drawn) and isinstance(one.token, int) for one in drawn)
    told: Any = json.loads(data)
    assert not told.get("error")
