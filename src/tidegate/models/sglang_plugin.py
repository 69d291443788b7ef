"""What hangs the plug-in into SGLang's processes, through its entry point for plug-ins.

1. Where SGLang would unpickle a request's processor, ours is handed out for the one text we know;
   any other is refused unread.
2. Requests are checked when they come, where a refusal is an answer and not a dead scheduler.

SGLang's own registry of hooks does both. Nothing here imports sglang before `install` is called.
"""

from __future__ import annotations

import os
from typing import Any, Final

from tidegate.models.sglang_contract import (
    PROCESSOR,
    UNSEEDED_VARIABLE,
    SglangRefusedError,
    check_request,
)
from tidegate.models.vllm_contract import Refusal, RefusedError

FROM_TEXT: Final = "sglang.srt.sampling.custom_logit_processor.CustomLogitProcessor.from_str"
CHECK: Final = "sglang.srt.managers.tokenizer_manager.TokenizerManager._validate_one_request"


def install() -> None:
    """Register both hooks; SGLang applies them in each of its processes."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    HookRegistry.register(FROM_TEXT, processor_of, HookType.REPLACE)
    HookRegistry.register(CHECK, check, HookType.BEFORE)


def processor_of(_: object, text: str) -> Any:
    """The processor of a request's text. Raises SglangRefusedError for any but ours."""
    from tidegate.models.sglang_processor import Seeded

    if text != PROCESSOR:
        raise SglangRefusedError(Refusal.OTHER_PROCESSORS)
    return Seeded()


def check(_: object, request: Any, *__: object) -> None:
    """Raise ValueError, which SGLang answers with 400, for a request that is refused."""
    if not hasattr(request, "custom_logit_processor"):
        return  # it asks for an embedding
    sampling = request.sampling_params or {}
    unseeded = os.environ.get(UNSEEDED_VARIABLE) == "allow"
    try:
        check_request(request.custom_logit_processor, sampling, unseeded=unseeded)
    except RefusedError as error:
        raise ValueError(error.message) from error
