"""Telling people: what needs their approval, what was refused, and broken glass.

A hook that fails stops nothing, or else whoever can break it could hold up a revocation. What it
should have said is in the journal, in the log and in the broker's own log.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Protocol

import structlog

from tidegate.vault.grant_decide import Notify

HOOK_TIMEOUT_S = 5.0
"""A hook that hangs is ended; the next notification starts a new one."""

_log = structlog.get_logger()


class Notifier(Protocol):
    """Passes news on, or drops it; never raises."""

    def tell(self, news: Notify) -> None: ...


class Quiet:
    """Writes news to the broker's own log, and nowhere else."""

    def tell(self, news: Notify) -> None:
        _log.info("grant_news", level=news.level, about=news.event, grant=news.grant)


class Hook:
    """Runs a program once for each piece of news, with it as one JSON object on its input.

    The object has `level` (info, warning, alarm), `event`, `grant` and `text`. The text holds what
    requesters wrote: a hook must not run it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)

    def tell(self, news: Notify) -> None:
        body = {"level": news.level, "event": news.event, "grant": news.grant, "text": news.text}
        try:
            subprocess.run(  # noqa: S603  the operator's own program, from his settings
                self._command,
                input=json.dumps(body).encode(),
                timeout=HOOK_TIMEOUT_S,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except (OSError, subprocess.SubprocessError) as error:
            _log.error(
                "grant_news_lost",
                level=news.level,
                about=news.event,
                grant=news.grant,
                error=type(error).__name__,
            )
