"""What re-execution can find, by name, beside what is wrong with the record itself."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from tidegate.verify.record_findings import Finding, Kind

KEPT: Final = 1_000
"""Findings kept in full; beyond it they are only counted."""


class ReplayKind(StrEnum):
    """What re-execution found."""

    OTHER_TOKEN = "other_token"  # noqa: S105  a kind of finding, no secret
    """An exact model gives another token here, or there is no such token."""
    OTHER_END = "other_end"
    """By the finish rules the answer ends elsewhere, or for another reason."""
    ALARM = "alarm"
    """More tokens deviate than honest machines' do."""
    WORKER_LOST = "worker_lost"
    """The replay of an answer died, twice."""
    REPLAY_FAILED = "replay_failed"
    """The model cannot run the answer: too long, or its numbers blow up."""
    NOT_FOLLOWED = "not_followed"
    """What the answer was drawn from is not in the record: reasoning that stayed inside."""

    @property
    def conclusive(self) -> bool:
        """Whether it shows that somebody failed; otherwise it only keeps from verifying."""
        return self in (ReplayKind.OTHER_TOKEN, ReplayKind.OTHER_END, ReplayKind.ALARM)


class Found(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong. `kind` is a `Kind` or a `ReplayKind`.

    `entry`: of the record; `response`: the answer, by the entry that began it; `token`: place in
    the answer, from 0. `reason` holds nothing that a user or the model wrote.
    """

    kind: str
    conclusive: bool
    reason: str
    entry: int | None = None
    response: int | None = None
    token: int | None = None

    def where(self) -> str:
        """The place, for people; empty where none is known."""
        named = (("entry", self.entry), ("answer", self.response), ("token", self.token))
        return ", ".join(f"{name} {value}" for name, value in named if value is not None)


def found(
    kind: ReplayKind | Kind, reason: str, response: int | None = None, token: int | None = None
) -> Found:
    """A finding about an answer."""
    return Found(
        kind=kind.value, conclusive=kind.conclusive, reason=reason, response=response, token=token
    )


def of_record(finding: Finding) -> Found:
    """A reader's finding as one of ours."""
    return Found(
        kind=finding.kind.value,
        conclusive=finding.kind.conclusive,
        reason=finding.reason,
        entry=finding.entry,
        response=finding.response,
    )
