"""How the outer half runs the link, what it counts, and the two ways in which it breaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tidegate.errors import LinkError
from tidegate.serve.schedule import PullPolicy
from tidegate.units import Seconds

_LATE: Final = Seconds(120.0)


class LinkClosedError(LinkError):
    """The inner half closed the connection, its one way to say that something is wrong."""

    code = "link_closed"


class LateFrameError(LinkError):
    """A pull was not answered in time; when an answer comes is not for the inner half to choose."""

    code = "late_frame"


class LaneLostError(LinkError):
    """The lane broke before the job joined it: nothing of the job crossed, another may take it."""

    code = "lane_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """How the link is run. `edge` names it in metrics.

    `lane` is its name where there are several; jobs that wait for one that broke are then given
    back as LaneLostError instead of waiting for its return.

    `slots` bounds the streams and `tracks` what the inner half drafts for them; it has the same.

    With `pace` a frame of `pace_bytes` is pulled every `pace` seconds, dummies included, and what
    `policy` says of pulls does not matter. A frame later than `late_after` ends the session.
    `max_reasoning` is what the inner half allows; reservations count on it.
    """

    edge: str = "inner"
    lane: str = ""
    slots: int = 64
    tracks: int = 128
    policy: PullPolicy = field(default_factory=PullPolicy)
    pace: Seconds | None = None
    pace_bytes: int = 16
    late_after: Seconds = _LATE
    max_reasoning: int = 4096
    max_resumes: int = 6
    max_failures: int = 6


@dataclass(slots=True)
class LinkTotals:
    """What crossed and what it was. `ideal` is the code length of all symbols in bits."""

    bits: int = 0
    frames: int = 0
    padding: int = 0
    tokens: int = 0
    steps: int = 0
    ideal: float = 0.0
    incidents: int = 0
    resumes: int = 0
