"""A hardware key in software: only for tests and demonstrations.

It answers as a FIDO2 authenticator with a PIN would, and keeps its private key in a file: whoever
can read that can approve. The bytes are put together here from the standard (WebAuthn level 3, 6.1
and 5.8.1; COSE keys of RFC 9053), apart from the library that checks them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tidegate.errors import ConfigError
from tidegate.vault.grant_entries import Assertion
from tidegate.vault.grant_policy import Credential

_PRESENT_AND_VERIFIED = 0x05
_COORDINATE = 32


@dataclass(slots=True)
class SoftwareKey:
    """A P-256 key with an id and a signature counter."""

    id: bytes
    private: ec.EllipticCurvePrivateKey
    counter: int = 0

    @classmethod
    def new(cls) -> SoftwareKey:
        """A fresh key."""
        return cls(secrets.token_bytes(16), ec.generate_private_key(ec.SECP256R1()))

    @property
    def credential(self) -> Credential:
        """What a policy lists."""
        return Credential(id=self.id, key=_cose(self.private.public_key()))

    def sign(self, challenge: bytes, rp_id: str, origin: str) -> Assertion:
        """The answer to `challenge`, as if a person had touched the key and given its PIN."""
        self.counter += 1
        authenticator = (
            hashlib.sha256(rp_id.encode()).digest()
            + bytes([_PRESENT_AND_VERIFIED])
            + self.counter.to_bytes(4, "big")
        )
        asked = base64.urlsafe_b64encode(challenge).rstrip(b"=").decode()
        client = json.dumps(
            {"type": "webauthn.get", "challenge": asked, "origin": origin, "crossOrigin": False},
            separators=(",", ":"),
        ).encode()
        signed = authenticator + hashlib.sha256(client).digest()
        signature = self.private.sign(signed, ec.ECDSA(hashes.SHA256()))
        return Assertion(self.id, authenticator, client, signature)

    def encode(self) -> bytes:
        """The key as a file holds it."""
        private = self.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        body = {"id": self.id.hex(), "counter": self.counter, "private": private.decode()}
        return json.dumps(body, indent=1).encode()

    @classmethod
    def decode(cls, raw: bytes) -> SoftwareKey:
        """What `encode` made. Raises ConfigError."""
        try:
            body = json.loads(raw)
            private = serialization.load_pem_private_key(body["private"].encode(), None)
            found = cls(bytes.fromhex(body["id"]), _p256(private), int(body["counter"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"This is no software key's file: {error}") from error
        return found


def _p256(key: object) -> ec.EllipticCurvePrivateKey:
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a P-256 key")
    return key


def _cose(key: ec.EllipticCurvePublicKey) -> bytes:
    """EC2 key of ES256 in CBOR, in the order that CTAP2 asks for: 1, 3, -1, -2, -3."""
    point = key.public_numbers()
    x, y = (value.to_bytes(_COORDINATE, "big") for value in (point.x, point.y))
    head = bytes([0xA5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01])
    return head + b"\x21\x58\x20" + x + b"\x22\x58\x20" + y
