"""A key service on another host: the transit engine of OpenBao (or HashiCorp Vault).

The wrapping key never leaves the server (type `aes256-gcm96`); the context is its associated data.
The token decides what this process may do: a host that only opens needs `decrypt` alone.
https://openbao.org/api-docs/secret/transit/
"""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import re
import ssl
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

from tidegate.vault.errors import KmsError, RevokedKeyError
from tidegate.vault.kms_port import (
    DATA_KEY_BYTES,
    WrappedKey,
    require_data_key,
    require_mine,
    require_revocable,
)

_TIMEOUT_S: Final = 10.0
_MOST_BYTES: Final = 1 << 20
_CIPHERTEXT = re.compile(r"vault:v([1-9][0-9]{0,8}):[A-Za-z0-9+/=]+")
_TOO_OLD: Final = "too old"
"""What the server says of a version below its least."""


class OpenBaoKms:
    """`Kms` over a server's transit engine.

    Args:
        address: such as `https://bao.example:8200`; plain http for the loopback only.
        key: the wrapping key's name, made by `create`.
        token: whose policy allows what will be asked.
        mount: where the engine is.
        ca_file: certificates to trust in place of the system's.

    Raises KmsError for an address that would carry the token and keys in the clear.
    """

    kind: Final = "openbao"

    def __init__(
        self,
        address: str,
        key: str,
        token: str,
        *,
        mount: str = "transit",
        ca_file: str | None = None,
    ) -> None:
        parts = urlsplit(address)
        local = parts.hostname in {"127.0.0.1", "::1", "localhost"}
        if parts.scheme not in {"https", "http"} or parts.hostname is None:
            raise KmsError(f"{address!r} is no server's address, such as https://bao.example:8200")
        if parts.scheme == "http" and not local:
            raise KmsError(f"{address} is not https: keys and token would cross the net in clear")
        self.key = f"{mount}/{key}"
        self._host, self._port = parts.hostname, parts.port
        self._tls = ssl.create_default_context(cafile=ca_file) if parts.scheme == "https" else None
        self._mount, self._name = quote(mount), quote(key, safe="")
        self._token = token

    def create(self) -> None:
        """Make the wrapping key, if it is not there; it can never be exported. Raises KmsError."""
        self._ask("POST", f"keys/{self._name}", {"type": "aes256-gcm96", "exportable": False})

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """See `Kms.wrap`."""
        require_data_key(key)
        body = {"plaintext": _b64(key), "associated_data": _b64(context)}
        text = self._ask("POST", f"encrypt/{self._name}", body).get("ciphertext")
        match = _CIPHERTEXT.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise KmsError("the key service answered with something else than a ciphertext")
        return WrappedKey(self.kind, self.key, int(match[1]), match[0].encode())

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """See `Kms.unwrap`."""
        require_mine(wrapped, self.kind, self.key)
        match = _CIPHERTEXT.fullmatch(wrapped.wrapped.decode("ascii", "replace"))
        if match is None or int(match[1]) != wrapped.version:
            raise KmsError("this wrapped key was changed")
        body = {"ciphertext": match[0], "associated_data": _b64(context)}
        text = self._ask("POST", f"decrypt/{self._name}", body).get("plaintext")
        try:
            key = base64.b64decode(text if isinstance(text, str) else "", validate=True)
        except binascii.Error as error:
            raise KmsError("the key service answered with something else than a key") from error
        if len(key) != DATA_KEY_BYTES:
            raise KmsError("the key service answered with something else than a key")
        return key

    def rotate(self) -> int:
        """See `Kms.rotate`."""
        self._ask("POST", f"keys/{self._name}/rotate", {})
        return self._newest()

    def revoke(self, version: int) -> None:
        """See `Kms.revoke`. The old versions are trimmed from the server, not only forbidden."""
        require_revocable(version, self._newest())
        least = version + 1
        bounds = {"min_decryption_version": least, "min_encryption_version": least}
        held = self._ask("GET", f"keys/{self._name}")
        if int(held.get("min_available_version") or 0) >= least:
            return
        self._ask("POST", f"keys/{self._name}/config", bounds)
        self._ask("POST", f"keys/{self._name}/trim", {"min_available_version": least})

    def _newest(self) -> int:
        return int(self._ask("GET", f"keys/{self._name}").get("latest_version") or 0)

    def _ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> Mapping[str, Any]:
        sent = None if body is None else json.dumps(body).encode()
        headers = {"X-Vault-Token": self._token, "Content-Type": "application/json"}
        connection = self._connect()
        try:
            connection.request(method, f"/v1/{self._mount}/{path}", sent, headers)
            answer = connection.getresponse()
            raw, status = answer.read(_MOST_BYTES), answer.status
        except (OSError, http.client.HTTPException) as error:
            raise KmsError(f"the key service at {self._host} does not answer: {error}") from error
        finally:
            connection.close()
        said = _object(raw) if raw else {}
        if status >= 400:
            raise _refusal(status, said)
        data = said.get("data")
        return data if isinstance(data, dict) else {}

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=_TIMEOUT_S, context=self._tls
        )


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(raw)
    except ValueError as error:
        raise KmsError("the key service answered with something else than JSON") from error
    return said if isinstance(said, dict) else {}


def _refusal(status: int, said: Mapping[str, Any]) -> KmsError:
    errors = said.get("errors")
    told = "; ".join(str(one) for one in errors)[:300] if isinstance(errors, list) else ""
    if _TOO_OLD in told:
        return RevokedKeyError("the wrapping key's version was revoked: what it wrapped stays shut")
    return KmsError(f"the key service refused ({status}): {told or 'no reason given'}")


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
