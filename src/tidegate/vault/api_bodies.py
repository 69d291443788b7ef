"""What crosses the broker's API, as closed JSON objects; binary is base64. Pure."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from tidegate.errors import ConfigError
from tidegate.ledger.budgets import Name
from tidegate.vault.grant_entries import Assertion, Request, Shards
from tidegate.vault.grant_policy import Hash, Seconds
from tidegate.vault.grant_state import Grant, State, missing

MAX_BODY = 1 << 20
"""Bytes: evidence with its certificates and a boot log has some hundred thousand."""

Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
Evidence = Annotated[bytes, Meta(max_length=MAX_BODY)]


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class AskBody(_Body, frozen=True):
    """A request for shards of the current manifest, or of the one that is named."""

    why: Name
    model: Name
    shards: Shards
    host: Name
    seconds: Seconds
    break_glass: bool = False
    manifest: Hash | None = None


class VerdictBody(_Body, frozen=True):
    """An approval or a denial."""

    verdict: Literal["approve", "deny"]
    team: Name
    assertion: Assertion
    reason: Annotated[str, Meta(max_length=256)] = ""


class EmptyBody(_Body, frozen=True):
    """For calls that say all in their path."""


class NonceBody(_Body, frozen=True):
    """32 bytes in hex."""

    nonce: Hash


class ReleaseBody(_Body, frozen=True):
    """Evidence, and the HPKE public key that it binds."""

    evidence: Evidence
    key: Key


class PackageBody(_Body, frozen=True):
    """The shards' keys, sealed."""

    package: bytes


class RenewBody(_Body, frozen=True):
    """Fresh evidence."""

    evidence: Evidence


class LeftBody(_Body, frozen=True):
    """How long the lease goes on, in milliseconds."""

    left_ms: Annotated[int, Meta(ge=0)]


class RevokeBody(_Body, frozen=True):
    """Why."""

    reason: Annotated[str, Meta(min_length=1, max_length=256)]


class ManifestBody(_Body, frozen=True):
    """Of `model`, this manifest with so many shards is the current one."""

    model: Name
    manifest: Hash
    shards: Annotated[int, Meta(ge=1, lt=2**32)]


class ApprovalView(_Body, frozen=True):
    """Who agreed for which team, and when (milliseconds)."""

    by: str
    team: str
    time: int


class GrantView(_Body, frozen=True):
    """A grant as it stands. `digest` is for comparing only: work it out from `request` yourself."""

    request: Request
    digest: Hash
    status: str
    approvals: tuple[ApprovalView, ...]
    missing: dict[str, int]
    ends: int | None
    until: int | None
    ending: str | None


class GrantsView(_Body, frozen=True):
    """Several, oldest first."""

    grants: tuple[GrantView, ...]


class RefusalBody(_Body, frozen=True):
    """Why a call was refused: a code, a sentence, and the rule's number and name if one said no."""

    code: str
    message: str
    what: str = ""
    check: int = 0
    rule: str = ""
    reason: str = ""


T = TypeVar("T", bound=msgspec.Struct)


def decoded(raw: bytes, kind: type[T]) -> T:
    """A body. Raises ConfigError, naming the field."""
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"The body cannot be taken: {error}") from error


def view(state: State, grant: Grant) -> GrantView:
    """What the API shows of a grant."""
    pending = grant.status.value == "pending"
    return GrantView(
        request=grant.request,
        digest=grant.digest.hex(),
        status=grant.status.value,
        approvals=tuple(ApprovalView(by=a.by, team=a.team, time=a.time) for a in grant.approvals),
        missing=missing(state.policy, grant) if pending else {},
        ends=grant.ends,
        until=grant.until,
        ending=grant.ending,
    )
