"""Metrics and logs. Neither ever holds prompt text, answers, keys or token ids.

Metrics live in one `Metrics` object with its own registry. A logger comes from `make_logger`; what
other libraries log is written by `JsonFormatter`. Both write one JSON object a line.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from tidegate.clock import Clock
from tidegate.units import Bits, Seconds

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SLOW = (*_FAST[3:], 60.0, 120.0, 300.0, 600.0)


class Metrics:
    """Every metric Tidegate's halves export, in base units: bits, tokens, seconds.

    Labels are bounded by configuration (edges, principals, models) or by code (kinds, routes):
    nothing a client sends becomes a label.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._uploaded = self._counter(
            "upload_bits", "Bits charged for crossing an edge, padding included", "edge principal"
        )
        self._padding = self._counter("padding_bits", "Part of upload that is padding", "edge")
        self._frames = self._counter("frames", "Frames received over an edge", "edge kind")
        self._tokens = self._counter("tokens", "Tokens of prompts and answers", "kind principal")
        self._resends = self._counter("resends", "Blocks sent again after a mismatch", "edge")
        self._incidents = self._counter("incidents", "Events a person should look at", "kind")
        self._refusals = self._counter("refusals", "Requests refused, by error code", "code")
        self._requests = self._counter("requests", "HTTP requests", "route status")
        self._spent = self._gauge("budget_spent_bits", "Bits spent since the log began", "scope")
        self._reserved = self._gauge("budget_reserved_bits", "Bits reserved now", "scope")
        self._left = self._gauge("budget_left_bits", "Bits left by the tightest cap", "scope")
        self._ledger_up = self._gauge("ledger_up", "1 if the ledger could be read at this scrape")
        self._link_up = self._gauge("link_up", "1 while a link over an edge is in step", "edge")
        self._lanes_up: dict[tuple[str, str], bool] = {}
        self._lane_up = self._gauge("lane_up", "1 while a lane is in step", "lane")
        self._lane_draining = self._gauge(
            "lane_draining", "1 while a lane takes no jobs, or has ended them all", "lane"
        )
        self._lane_streams = self._gauge("lane_streams", "Jobs on a lane or waiting", "lane")
        self._lane_slots = self._gauge("lane_slots", "Streams that a lane has room for", "lane")
        self._lane_incidents = self._counter(
            "lane_incidents", "The incidents of one lane", "lane kind"
        )
        self._active = self._gauge("active_streams", "Streams that are being answered")
        self._duration = self._histogram(
            "request_duration_seconds", "Request's first byte in to answer's last byte out", _SLOW
        )
        self._first = self._histogram(
            "time_to_first_token_seconds", "Request's first byte in to first text out", _FAST
        )

    def uploaded(self, edge: str, principal: str, bits: Bits) -> None:
        """`bits` were charged to `principal` for crossing `edge`."""
        self._uploaded.labels(edge, principal).inc(bits)

    def padded(self, edge: str, bits: Bits) -> None:
        """`bits` of what crossed `edge` were padding."""
        self._padding.labels(edge).inc(bits)

    def frame(self, edge: str, kind: Literal["data", "dummy"]) -> None:
        """A frame crossed `edge`."""
        self._frames.labels(edge, kind).inc()

    def resent(self, edge: str, blocks: int = 1) -> None:
        """`blocks` were sent again over `edge` since the halves' tables differed."""
        self._resends.labels(edge).inc(blocks)

    def incident(self, kind: str, *, lane: str = "") -> None:
        """Something happened that a person should look at; `kind` is an error code."""
        self._incidents.labels(kind).inc()
        if lane:
            self._lane_incidents.labels(lane, kind).inc()

    def link(self, edge: str, *, up: bool, lane: str = "") -> None:
        """Whether the link over `edge` is in step; of several lanes one is enough."""
        self._lanes_up[edge, lane] = up
        if lane:
            self._lane_up.labels(lane).set(up)
        any_up = any(state for (over, _), state in self._lanes_up.items() if over == edge)
        self._link_up.labels(edge).set(any_up)

    def lane(self, lane: str, *, streams: int, slots: int, taking: bool) -> None:
        """How much a lane carries now."""
        self._lane_streams.labels(lane).set(streams)
        self._lane_slots.labels(lane).set(slots)
        self._lane_draining.labels(lane).set(not taking)

    def tokens(self, kind: Literal["prompt", "completion"], principal: str, count: int) -> None:
        """`count` tokens were read from, or delivered to, `principal`."""
        self._tokens.labels(kind, principal).inc(count)

    @contextmanager
    def active_stream(self) -> Iterator[None]:
        """Count a stream as active while the context is open."""
        with self._active.track_inprogress():
            yield

    def refused(self, code: str) -> None:
        """A request was refused; `code` is the error object's code."""
        self._refusals.labels(code).inc()

    def request(self, route: str, status: int, duration: Seconds) -> None:
        """A request ended."""
        self._requests.labels(route, str(status)).inc()
        self._duration.labels(route).observe(duration)

    def first_token(self, route: str, delay: Seconds) -> None:
        """The first text of an answer went out `delay` after its request came in."""
        self._first.labels(route).observe(delay)

    def budget(self, scope: str, *, spent: Bits, reserved: Bits, left: Bits | None) -> None:
        """One account of the ledger now; `left` None where nothing caps it."""
        self._spent.labels(scope).set(spent)
        self._reserved.labels(scope).set(reserved)
        self._left.labels(scope).set(float("inf") if left is None else left)

    def ledger(self, *, up: bool) -> None:
        """Whether the ledger could be read."""
        self._ledger_up.set(up)

    def render(self) -> bytes:
        """The exposition text, of type `METRICS_TYPE`."""
        return generate_latest(self.registry)

    def _counter(self, name: str, told: str, labels: str = "") -> Counter:
        return Counter(f"tidegate_{name}", told, labels.split(), registry=self.registry)

    def _gauge(self, name: str, told: str, labels: str = "") -> Gauge:
        return Gauge(f"tidegate_{name}", told, labels.split(), registry=self.registry)

    def _histogram(self, name: str, told: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(
            f"tidegate_{name}", told, ["route"], buckets=buckets, registry=self.registry
        )


WITHHELD = "[withheld]"
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+→{}-]{0,100}")
"""Ids, names, codes, routes: strings a person wrote have spaces sooner or later."""

_SECRET = frozenset({"authorization", "content", "key", "messages", "prompt", "text", "token_ids"})
_SENTENCES = frozenset({"event", "level", "logger", "reason", "timestamp"})
"""`event` is a constant in the code; `reason` is a `TidegateError.message`, which holds no text of
a user's by the rule of `tidegate.errors`."""


def make_logger(stream: TextIO, clock: Clock) -> FilteringBoundLogger:
    """A logger that writes JSON lines to `stream`.

    Values that are not numbers or plain words are withheld whatever their name, so that a prompt
    that strays into a log call does not reach the log.
    """

    def stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return {"timestamp": _iso(clock.now()), **event}

    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            stamp,
            _withhold,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    return logger


class JsonFormatter(logging.Formatter):
    """What other libraries log, as JSON lines, without anything that may quote a request.

    Of an exception only its type and place are told, of arguments only plain ones, and messages
    only of uvicorn, whose messages are constants; asyncio's, say, quote a task's exception.
    """

    def format(self, record: logging.LogRecord) -> str:
        arguments = record.args if isinstance(record.args, tuple) else ()
        event: dict[str, object] = {
            "timestamp": _iso(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.msg if record.name.startswith("uvicorn") else WITHHELD,
            "arguments": [_safe("argument", argument) for argument in arguments],
            "from": f"{record.filename}:{record.lineno}",
        }
        if record.exc_info and record.exc_info[1] is not None:
            event["exception"] = type(record.exc_info[1]).__name__
            event["at"] = place_of(record.exc_info[1])
        return json.dumps(event, sort_keys=True, default=lambda told: type(told).__name__)


def uvicorn_log_config(stream: TextIO) -> dict[str, object]:
    """`log_config` for `uvicorn.Config`: all that is not ours, through `JsonFormatter`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {
            "stream": {"class": "logging.StreamHandler", "formatter": "json", "stream": stream}
        },
        "root": {"handlers": ["stream"], "level": "WARNING"},
        "loggers": {"uvicorn": {"handlers": ["stream"], "level": "INFO", "propagate": False}},
    }


def place_of(error: BaseException) -> str:
    """Where an exception was raised, as `module.py:line`; safe to log."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "unknown"


def _withhold(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {name: _safe(name, value) for name, value in event.items()}


def _safe(name: str, value: object) -> object:
    if name in _SENTENCES:
        return value
    if name in _SECRET:
        return WITHHELD
    if value is None or isinstance(value, bool | int | float):
        return value
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else WITHHELD


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")
