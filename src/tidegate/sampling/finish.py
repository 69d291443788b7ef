"""When a stream ends, and what of its text may be shown: one function for both halves.

A stream ends at a token that the tokens up to it determine, so no finish flag crosses the link.
The outer half also takes the text from here: whole characters only, and nothing that may yet turn
out to be the beginning of a stop string. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]

Detokenise = Callable[[Sequence[int]], str]
"""Text of token ids; an unfinished UTF-8 sequence at the end becomes U+FFFD."""

_UNFINISHED = "\ufffd"
_MAX_UNFINISHED = 3
"""Characters at the end that may still change: a UTF-8 sequence lacks at most its fourth byte."""
_MAX_WINDOW = 8
"""Tokens decoded together. Detokenisers look back a token or two; more only costs time."""
_MAX_GARBAGE = 32
"""Tokens after which bytes that never become a character are shown as they are."""
_OVERLAP = 2
"""Tokens kept when the window moves on, so that the next ones are decoded in their context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a stream ends; both halves evaluate it on the same tokens."""

    max_tokens: int
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What ends a stream. With `text` false the text is worked out only if `limits` need it."""

    limits: Limits
    eos_ids: frozenset[int]
    detokenise: Detokenise
    text: bool = True


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a stream stands after `count` tokens.

    `shown` characters of the text of the tokens in `window` have been taken; `held` is taken but
    not given out, since it may be the beginning of a stop string.
    """

    count: int = 0
    window: tuple[int, ...] = ()
    shown: int = 0
    held: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The state after a token, the text it lets out, and why the stream ends if it does."""

    progress: Progress
    text: str
    reason: FinishReason | None


def decide(progress: Progress, token: int, rules: Rules) -> Decision:
    """What `token` does to a stream.

    As in OpenAI's API: an end-of-sequence token or a stop string ends it with `stop`, the last
    allowed token with `length`; the stop string is not part of the text. Of several stop strings
    the one that begins first counts.
    """
    limits = rules.limits
    count = progress.count + 1
    if token in rules.eos_ids and not limits.ignore_eos:
        return _end(progress, count, "stop", rules)
    if not (rules.text or limits.stop):
        reason: FinishReason | None = "length" if count >= limits.max_tokens else None
        return Decision(Progress(count), "", reason)
    window, shown, fresh = _take((*progress.window, token), progress.shown, rules.detokenise)
    text = progress.held + fresh
    cut = _first_stop(text, limits.stop)
    if cut is not None:
        return Decision(Progress(count), text[:cut], "stop")
    if count >= limits.max_tokens:
        return _end(Progress(count, window, shown, text), count, "length", rules)
    keep = _held_length(text, limits.stop)
    out = text[: len(text) - keep]
    return Decision(Progress(count, window, shown, text[len(text) - keep :]), out, None)


def _end(progress: Progress, count: int, reason: FinishReason, rules: Rules) -> Decision:
    """Nothing follows, so what was held back or unfinished is text as it stands."""
    rest = rules.detokenise(progress.window)[progress.shown :] if progress.window else ""
    return Decision(Progress(count), progress.held + rest, reason)


def _take(
    window: tuple[int, ...], shown: int, detokenise: Detokenise
) -> tuple[tuple[int, ...], int, str]:
    """The new window, how much of it is taken, and the characters taken now."""
    text = detokenise(window)
    stable = len(text)
    if len(window) <= _MAX_GARBAGE:
        stable = max(stable - _MAX_UNFINISHED, len(text.rstrip(_UNFINISHED)))
    fresh = text[shown:stable]
    shown = max(shown, stable)
    if len(window) > _MAX_WINDOW and stable == len(text):
        window = window[-_OVERLAP:]
        shown = len(detokenise(window))
    return window, shown, fresh


def _first_stop(text: str, stops: tuple[str, ...]) -> int | None:
    starts = [start for stop in stops if (start := text.find(stop)) >= 0]
    return min(starts, default=None)


def _held_length(text: str, stops: tuple[str, ...]) -> int:
    """Characters at the end of `text` that a stop string may begin with."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    for length in range(min(longest, len(text)), 0, -1):
        tail = text[len(text) - length :]
        if any(len(stop) > length and stop.startswith(tail) for stop in stops):
            return length
    return 0
