"""A hardware key on this machine's USB, asked for an approval (CTAP 2 over HID).

Tested as far as no key is plugged in; what a key answers is checked by the broker as any answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from fido2 import cbor
from fido2.client import ClientError, DefaultClientDataCollector, Fido2Client, UserInteraction
from fido2.hid import CtapHidDevice
from fido2.webauthn import (
    AttestationConveyancePreference,
    PublicKeyCredentialCreationOptions,
    PublicKeyCredentialDescriptor,
    PublicKeyCredentialParameters,
    PublicKeyCredentialRequestOptions,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialType,
    PublicKeyCredentialUserEntity,
    UserVerificationRequirement,
)

from tidegate.vault.errors import VaultError
from tidegate.vault.grant_entries import Assertion
from tidegate.vault.grant_policy import Credential

_ALGORITHMS = (-7, -8)
"""ES256 and EdDSA (COSE)."""


def enrol(name: str, rp_id: str, origin: str, talk: UserInteraction) -> Credential:
    """A fresh credential on the key that is plugged in. Raises VaultError."""
    options = PublicKeyCredentialCreationOptions(
        rp=PublicKeyCredentialRpEntity(id=rp_id, name=rp_id),
        user=PublicKeyCredentialUserEntity(id=name.encode(), name=name),
        challenge=b"tidegate enrolment",
        pub_key_cred_params=[
            PublicKeyCredentialParameters(type=PublicKeyCredentialType.PUBLIC_KEY, alg=alg)
            for alg in _ALGORITHMS
        ],
        attestation=AttestationConveyancePreference.NONE,
    )
    try:
        made = _client(origin, talk).make_credential(options)
    except (ClientError, OSError, ValueError) as error:
        raise VaultError(f"The hardware key made no credential: {error}") from error
    data = made.response.attestation_object.auth_data.credential_data
    if data is None:
        raise VaultError("The hardware key made no credential.")
    return Credential(id=data.credential_id, key=cbor.encode(data.public_key))


def ask(
    challenge: bytes,
    rp_id: str,
    origin: str,
    credentials: Sequence[Credential],
    talk: UserInteraction,
) -> Assertion:
    """The key's answer to `challenge`, after a touch and its PIN. Raises VaultError."""
    options = PublicKeyCredentialRequestOptions(
        challenge=challenge,
        rp_id=rp_id,
        allow_credentials=[
            PublicKeyCredentialDescriptor(type=PublicKeyCredentialType.PUBLIC_KEY, id=c.id)
            for c in credentials
        ],
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    try:
        found = _client(origin, talk).get_assertion(options).get_response(0)
    except (ClientError, OSError, ValueError) as error:
        raise VaultError(f"The hardware key did not answer: {error}") from error
    said = found.response
    return Assertion(
        found.raw_id, bytes(said.authenticator_data), bytes(said.client_data), said.signature
    )


def _client(origin: str, talk: UserInteraction) -> Fido2Client:
    device = next(iter(CtapHidDevice.list_devices()), None)
    if device is None:
        raise VaultError("No hardware key is plugged in.")
    return Fido2Client(device, DefaultClientDataCollector(origin), talk)
