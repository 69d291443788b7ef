"""Refusals in the shape OpenAI clients expect: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from types import MappingProxyType

import msgspec

from tidegate.errors import TidegateError

INVALID = "invalid_request_error"
Headers = tuple[tuple[str, str], ...]

NO_RETRY: Headers = (("x-should-retry", "false"),)
"""Official clients retry 429 and 5xx by default. Sent where a retry cannot help, or where upload
bits were already spent, so that a failing link cannot make clients spend their budget for it."""

LEDGER_BACK_S = 5.0
"""When to look again whether the ledger can be written, where nobody knows: a failover's time."""

RETRY_SOON: Headers = (("retry-after", "1"),)


class ErrorObject(msgspec.Struct, frozen=True):
    """What `error` holds. `param` is a path such as `messages[0].content`."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ApiError(TidegateError):
    """A request is refused, or its answer failed: an HTTP status, headers and an error object."""

    code = "api_error"

    def __init__(self, status: int, error: ErrorObject, headers: Headers = ()) -> None:
        super().__init__(error.message, status=status, param=error.param)
        self.status = status
        self.error = error
        self.headers = headers
        self.code = error.code or error.type

    def body(self) -> bytes:
        """The JSON body; also the `data` of an error chunk."""
        return msgspec.json.encode({"error": self.error})


def invalid(
    message: str,
    *,
    param: str | None = None,
    code: str | None = "invalid_value",
    status: int = 400,
    headers: Headers = (),
) -> ApiError:
    """The client's mistake; 400 unless told otherwise."""
    return ApiError(status, ErrorObject(message, INVALID, param, code), headers)


@dataclass(frozen=True, slots=True)
class _Outcome:
    status: int
    kind: str
    code: str
    message: str
    headers: Headers


_LINK_DOWN = _Outcome(
    500,
    "server_error",
    "link_error",
    "The answer was aborted: the upload link failed its checks and is being re-synchronised.",
    NO_RETRY,
)

_OUTCOMES: Mapping[str, _Outcome] = MappingProxyType(
    {
        "budget_exceeded": _Outcome(
            429,
            "insufficient_quota",
            "upload_budget_exceeded",
            "The upload budget for this key is spent. Ask the operator to raise it, or wait until"
            " its window moves on.",
            NO_RETRY,
        ),
        "too_many_streams": _Outcome(
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
            "Too many streams are open for this key; wait for one to finish.",
            RETRY_SOON,
        ),
        "overloaded": _Outcome(
            503,
            "server_error",
            "overloaded",
            "No stream can be accepted now; try again shortly.",
            RETRY_SOON,
        ),
        "ledger_error": _Outcome(
            503,
            "server_error",
            "ledger_unavailable",
            "The upload ledger cannot be written, so nothing may be sent.",
            NO_RETRY,
        ),
        "ledger_busy": _Outcome(
            503,
            "server_error",
            "ledger_busy",
            "The upload ledger's database is slow or gone, so nothing may be sent. Nothing was"
            " charged; try again shortly.",
            (),
        ),
        "record_error": _Outcome(
            503,
            "server_error",
            "record_unavailable",
            "The record of answers cannot be written, so nothing may be sent.",
            NO_RETRY,
        ),
        "not_verified": _Outcome(
            503,
            "server_error",
            "not_verified",
            "The answer was held back: nobody has verified it. Ask the operator.",
            NO_RETRY,
        ),
        "weights_in_answer": _Outcome(
            403,
            "permission_error",
            "answer_withheld",
            "The answer was withheld: it looks like a model's weights. Ask the operator.",
            NO_RETRY,
        ),
        "invalid_job": _Outcome(
            400,
            "invalid_request_error",
            "invalid_value",
            "Something in the request is out of the model's range.",
            NO_RETRY,
        ),
        "link_error": _LINK_DOWN,
        "link_closed": _LINK_DOWN,
        "late_frame": _LINK_DOWN,
        "protocol_violation": _LINK_DOWN,
        "non_canonical": _LINK_DOWN,
        "slow_reader": _Outcome(
            503,
            "server_error",
            "slow_reader",
            "The answer was cancelled: too much of it was waiting to be read.",
            NO_RETRY,
        ),
        "engine_error": _Outcome(
            500,
            "server_error",
            "engine_error",
            "The model failed while it was generating this answer.",
            NO_RETRY,
        ),
    }
)

_UNKNOWN = _Outcome(500, "server_error", "internal_error", "Something went wrong here.", NO_RETRY)


def of_failure(code: str, retry_after_s: float | None = None) -> ApiError:
    """What a user is told about a failure with this `TidegateError.code`.

    The text is fixed per code: messages from inside name internals, and are for operators.
    `retry_after_s` is when a spent budget has room again; people read it, clients do not retry.
    """
    ledger = code.startswith("ledger_")
    known = "ledger_error" if ledger and code not in _OUTCOMES else code
    told = _OUTCOMES.get(known, _UNKNOWN)
    if ledger and retry_after_s is None:
        retry_after_s = LEDGER_BACK_S
    later = () if retry_after_s is None else (("retry-after", str(ceil(retry_after_s))),)
    return ApiError(
        told.status, ErrorObject(told.message, told.kind, None, told.code), told.headers + later
    )
