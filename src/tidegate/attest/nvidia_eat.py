"""NVIDIA's detached EAT: what NVIDIA's service says of devices that it appraised. Pure.

A token (JWT, RFC 7519) names the digests of further tokens, one a device (RFC 9711, 4.2.18). All
are signed with a key that the service publishes on the network and that no root certifies, so that
nobody can verify it offline: what can be looked at is looked at, and it never passes.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec

from tidegate.attest.appraisal import Appraisal, Claim, Setting, Sheet, freshness, in_date
from tidegate.attest.errors import EvidenceError
from tidegate.attest.json_file import decoded

KIND: Final = "nvidia-eat"

_Moment = Annotated[int, msgspec.Meta(ge=0, le=1 << 36)]
_Digest = tuple[Literal["DIGEST"], tuple[Literal["SHA-256"], str]]


class _File(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    overall: tuple[Literal["JWT"], str]
    devices: dict[str, str]


class _Header(msgspec.Struct, frozen=True):
    kid: str
    alg: Literal["ES384"]


class _Overall(msgspec.Struct, frozen=True):
    iss: str
    nonce: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})+$")] = msgspec.field(
        name="eat_nonce"
    )
    nbf: _Moment
    exp: _Moment
    submods: dict[str, _Digest]
    result: bool = msgspec.field(name="x-nvidia-overall-att-result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Eat:
    """A detached EAT. `parts`: of each device's token its name, the digest that the overall token
    gives it, and its own; None where one of the two is missing."""

    issuer: str
    key_id: str
    nonce: bytes
    start: datetime
    end: datetime
    result: bool
    parts: tuple[tuple[str, str | None, str | None], ...]


def parse_eat(data: bytes) -> Eat:
    """An EAT from the JSON that the service answers with. Raises `EvidenceError`."""
    file = decoded(data, _File, KIND)
    header, claims = _opened(file.overall[1])
    said = {name: digest for name, (_, (_, digest)) in claims.submods.items()}
    names = sorted(said.keys() | file.devices.keys())
    own = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in file.devices.items()}
    return Eat(
        issuer=claims.iss,
        key_id=header.kid,
        nonce=bytes.fromhex(claims.nonce),
        start=datetime.fromtimestamp(claims.nbf, UTC),
        end=datetime.fromtimestamp(claims.exp, UTC),
        result=claims.result,
        parts=tuple((name, said.get(name), own.get(name)) for name in names),
    )


def _opened(token: str) -> tuple[_Header, _Overall]:
    parts = token.split(".")
    if len(parts) != 3:
        raise EvidenceError(KIND, "token", f"has {len(parts)} parts, not 3")
    try:
        header, claims = (base64.urlsafe_b64decode(part + "==") for part in parts[:2])
    except ValueError as error:
        raise EvidenceError(KIND, "token", "is no base64") from error
    return decoded(header, _Header, KIND), decoded(claims, _Overall, KIND)


def appraise_eat(eat: Eat, setting: Setting) -> Appraisal:
    """Look at what can be looked at without the service. Never a pass."""
    sheet = Sheet()
    wrong = [name for name, said, own in eat.parts if said is None or said != own]
    sheet.need(
        "devices' tokens have the digests that were signed",
        bool(eat.parts) and not wrong,
        ", ".join(name for name, _, _ in eat.parts),
        f"not so: {', '.join(wrong) or 'there is none'}",
    )
    sheet.add("token is in date", in_date(eat.start, eat.end, setting.now, "the token"))
    sheet.need("the service said yes", eat.result, eat.issuer, f"{eat.issuer} said no")
    sheet.unknown(
        "the service signed the token",
        f"key {eat.key_id} is published on the network alone; appraise the devices' own reports",
    )
    sheet.add("binds the nonce", freshness(eat.nonce, setting))
    return Appraisal(
        kind=KIND,
        checks=sheet.done(),
        claims=(Claim("issuer", eat.issuer), Claim("key", eat.key_id)),
        bound=eat.nonce,
        device="",
        at=setting.now,
        until=eat.end,
        not_covered=("everything the service says: its signature cannot be verified offline",),
    )
