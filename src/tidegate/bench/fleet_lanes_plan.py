"""What `fleet_lanes` tells its processes, and what the outer one tells it."""

from __future__ import annotations

import logging
import sys
from typing import Final, Literal

import msgspec
import structlog

MODEL: Final = "smollm2"
"""Whose tokenizer and vocabulary all of them use, and the real engine's weights."""


def log_to_stderr() -> None:
    """Warnings only, and not between the lines that these processes tell each other."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


class InnerPlan(msgspec.Struct, frozen=True):
    """`step_s` is the stand-in's; 0 for the real engine."""

    address: str
    secret: bytes
    slots: int
    step_s: float = 0.0


class OuterPlan(msgspec.Struct, frozen=True):
    """With `throughput`: `streams` a lane for `seconds`, after `warm_s`. Otherwise so many streams
    are opened at once over a single lane, and memory is read before and after."""

    addresses: tuple[str, ...]
    secret: bytes
    slots: int
    streams: int
    what: Literal["throughput", "memory"] = "throughput"
    seconds: float = 0.0
    warm_s: float = 0.0
    tokens: int = 48


class Found(msgspec.Struct, frozen=True):
    """What came of it. `cpu_s` is the outer process's in the window, `bits` what crossed in it;
    `bytes_each` what a stream took of the outer process's memory."""

    tokens: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    bits: int = 0
    bytes_each: float = 0.0
