"""Requests for weights at the broker, and an approver's verdict carried to it.

The console adds nothing to a verdict: the approver's own hardware key signs, over the hash of the
exact request that his browser showed. The broker's token only says in whose name the call is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from tidegate.console.errors import SourceError
from tidegate.console.picture import Grants, Lease, Waiting
from tidegate.errors import TidegateError
from tidegate.vault.api_bodies import GrantView
from tidegate.vault.api_client import BrokerClient
from tidegate.vault.grant_entries import Assertion


class VerdictAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the browser sends: the verdict for one team, and the hardware key's assertion."""

    verdict: Literal["approve", "deny"]
    team: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    reason: Annotated[str, msgspec.Meta(max_length=256)] = ""
    assertion: Assertion


class Broker:
    """The broker as each approver may use it. `client_of`: nothing for whom it has no token."""

    def __init__(self, reader: BrokerClient, client_of: Callable[[str], BrokerClient | None]):
        self._reader, self._client_of = reader, client_of

    def read(self) -> Grants:
        """Raises SourceError: the broker cannot be asked."""
        try:
            grants = self._reader.grants()
        except TidegateError as error:
            raise SourceError(error.message) from error
        return Grants(
            waiting=tuple(_waiting(one) for one in grants if one.status == "pending"),
            leases=tuple(
                Lease(
                    id=one.request.id,
                    who=one.request.requester,
                    host=one.request.host,
                    until=(one.until or 0) / 1000,
                )
                for one in grants
                if one.status == "leased"
            ),
        )

    def exact(self, grant: str) -> dict[str, object]:
        """The request's canonical bytes, which are what is signed over, and the keys that may sign.

        Raises SourceError.
        """
        try:
            view = self._reader.grant(grant)
            policy = self._reader.policy()
        except TidegateError as error:
            raise SourceError(error.message) from error
        return {
            "request": msgspec.json.encode(view.request).decode(),
            "missing": view.missing,
            "rp": policy.rp_id,
            "keys": {
                person.name: [msgspec.to_builtins(c.id) for c in person.credentials]
                for person in policy.people
            },
            "teams": {team.name: list(team.members) for team in policy.teams},
        }

    def judge(self, who: str, grant: str, asked: VerdictAsked) -> GrantView:
        """Carry a verdict. Raises SourceError: refused, or the broker cannot be asked."""
        client = self._client_of(who)
        if client is None:
            raise SourceError(f"the console has no token of {who}'s for the broker")
        try:
            return client.judge(grant, asked.verdict, asked.team, asked.assertion, asked.reason)
        except TidegateError as error:
            raise SourceError(error.message) from error


def _waiting(view: GrantView) -> Waiting:
    request = view.request
    have: dict[str, int] = {}
    for approval in view.approvals:
        have[approval.team] = have.get(approval.team, 0) + 1
    teams = have.keys() | view.missing.keys()
    return Waiting(
        id=request.id,
        who=request.requester,
        why=request.why,
        shards=f"{len(request.shards)} shards of {request.model}",
        lasts_s=float(request.seconds),
        asked=request.time / 1000,
        have=have,
        need={team: have.get(team, 0) + view.missing.get(team, 0) for team in sorted(teams)},
        digest=view.digest,
        break_glass=request.break_glass,
    )
