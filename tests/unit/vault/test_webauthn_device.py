"""The USB path as far as it goes without a key: what a key is asked, and what is made of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from fido2.client import UserInteraction
from fido2.hid import CtapHidDevice
from fido2.webauthn import (
    AuthenticationResponse,
    AuthenticatorAssertionResponse,
    AuthenticatorData,
    CollectedClientData,
    PublicKeyCredentialRequestOptions,
)
from grant_world import ORIGIN, RP, World

from tidegate.vault import webauthn_device
from tidegate.vault.errors import VaultError
from tidegate.vault.webauthn_check import verified


def test_without_a_key_plugged_in_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CtapHidDevice, "list_devices", lambda: iter(()))
    with pytest.raises(VaultError, match="No hardware key is plugged in"):
        webauthn_device.ask(bytes(32), RP, ORIGIN, (), UserInteraction())
    with pytest.raises(VaultError, match="No hardware key is plugged in"):
        webauthn_device.enrol("ann", RP, ORIGIN, UserInteraction())


def test_a_keys_answer_is_what_the_broker_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    world, challenge = World(), bytes(range(32))
    key = world.people["ann"]

    def answered(options: PublicKeyCredentialRequestOptions) -> SimpleNamespace:
        assert (options.rp_id, options.user_verification) == (RP, "required")
        assert [one.id for one in options.allow_credentials or ()] == [key.id]
        made = key.sign(options.challenge, RP, ORIGIN)
        response = AuthenticationResponse(
            raw_id=made.credential,
            response=AuthenticatorAssertionResponse(
                client_data=CollectedClientData(made.client),
                authenticator_data=AuthenticatorData(made.authenticator),
                signature=made.signature,
            ),
        )
        return SimpleNamespace(get_response=lambda _: response)

    client = SimpleNamespace(get_assertion=answered)
    monkeypatch.setattr(webauthn_device, "_client", lambda *_: client)
    given = webauthn_device.ask(challenge, RP, ORIGIN, [key.credential], UserInteraction())
    assert verified(world.policy, world.policy.people[0], challenge, given) == key.counter
