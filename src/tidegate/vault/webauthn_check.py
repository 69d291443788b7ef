"""A WebAuthn assertion held against the exact request: the verifying side (WebAuthn level 3, 7.2).

The challenge is no random number but the hash of the request and the verdict: what the hardware key
signs can be used for nothing else, and whoever reads the log can check it again. A request's id is
random, so no two challenges are equal. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from fido2 import cbor
from fido2.cose import CoseKey
from fido2.server import Fido2Server
from fido2.utils import websafe_encode
from fido2.webauthn import (
    Aaguid,
    AttestedCredentialData,
    AuthenticationResponse,
    AuthenticatorAssertionResponse,
    AuthenticatorData,
    CollectedClientData,
    PublicKeyCredentialRpEntity,
)

from tidegate.vault.errors import VaultError
from tidegate.vault.grant_entries import Assertion
from tidegate.vault.grant_policy import Credential, Person, Policy

_MALFORMED = (
    *(ValueError, LookupError, TypeError, EOFError, RecursionError, AttributeError),
    *(struct.error, OverflowError),
)
"""What fido2 raises for bytes that are no assertion, besides its own."""


class AssertionRefusedError(VaultError):
    """The assertion is not this person's, not over this challenge, or not well formed."""

    code = "assertion_refused"


def verified(policy: Policy, person: Person, challenge: bytes, given: Assertion) -> int:
    """The signature counter of an assertion by one of `person`'s hardware keys over `challenge`.

    Checked: type, challenge, origin (of the policy's, and not from within another page), relying
    party, user present, **user verified** (PIN or finger), credential, signature.

    Raises:
        AssertionRefusedError: any of it does not hold.
    """
    server = Fido2Server(
        PublicKeyCredentialRpEntity(id=policy.rp_id, name=policy.rp_id),
        verify_origin=lambda origin: origin in policy.origins,
    )
    state = {"challenge": websafe_encode(challenge), "user_verification": "required"}
    try:
        authenticator = AuthenticatorData(given.authenticator)
        client = CollectedClientData(given.client)
        response = AuthenticationResponse(
            raw_id=given.credential,
            response=AuthenticatorAssertionResponse(
                client_data=client,
                authenticator_data=authenticator,
                signature=given.signature,
            ),
        )
        if client.cross_origin:
            raise AssertionRefusedError("The key was asked from within another page.")
        server.authenticate_complete(state, [_known(c) for c in person.credentials], response)
    except _MALFORMED as error:
        raise AssertionRefusedError(f"The hardware key's answer does not hold: {error}") from error
    return authenticator.counter


def _known(credential: Credential) -> AttestedCredentialData:
    key = cbor.decode(credential.key)
    if not isinstance(key, Mapping):
        raise ValueError("the enrolled key is no COSE key")
    return AttestedCredentialData.create(Aaguid.NONE, credential.id, CoseKey.parse(key))
