"""The broker's API from the other side: what the CLI and a host call."""

from __future__ import annotations

import http.client
import ssl
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from tidegate.errors import ConfigError
from tidegate.vault import api_bodies as bodies
from tidegate.vault.api_bodies import GrantView
from tidegate.vault.errors import VaultError
from tidegate.vault.grant_entries import Assertion, Verdict
from tidegate.vault.grant_errors import RefusedError
from tidegate.vault.grant_policy import Policy

TIMEOUT_S = 30.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")
T = TypeVar("T", bound=msgspec.Struct)


class BrokerClient:
    """One principal at one broker.

    Args:
        url: `https://…`; plain `http://` is taken for this very machine only.
        token: who asks.

    Every call raises RefusedError where the broker says no, and VaultError where it cannot be
    reached or answers something else.
    """

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("The broker's URL starts with https:// and names its host.")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ConfigError("A token would cross the network in the clear; use https://.")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._token = token

    def ask(self, body: bodies.AskBody) -> GrantView:
        return self._call("POST", "/v1/grants", GrantView, body)

    def grants(self, pending: bool = False) -> tuple[GrantView, ...]:
        query = "?pending=true" if pending else ""
        return self._call("GET", f"/v1/grants{query}", bodies.GrantsView).grants

    def grant(self, name: str) -> GrantView:
        return self._call("GET", _path(name), GrantView)

    def judge(
        self, name: str, verdict: Verdict, team: str, assertion: Assertion, reason: str = ""
    ) -> GrantView:
        body = bodies.VerdictBody(verdict=verdict, team=team, assertion=assertion, reason=reason)
        return self._call("POST", _path(name, "verdict"), GrantView, body)

    def challenge(self, name: str) -> str:
        """The nonce, hex, for the next evidence."""
        return self._call("POST", _path(name, "challenge"), bodies.NonceBody).nonce

    def release(self, name: str, evidence: bytes, public: bytes) -> bytes:
        """The sealed package; once."""
        body = bodies.ReleaseBody(evidence=evidence, key=public)
        return self._call("POST", _path(name, "release"), bodies.PackageBody, body).package

    def renew(self, name: str, evidence: bytes) -> int:
        """Milliseconds that the lease goes on."""
        body = bodies.RenewBody(evidence=evidence)
        return self._call("POST", _path(name, "renew"), bodies.LeftBody, body).left_ms

    def wipe(self, name: str) -> GrantView:
        return self._call("POST", _path(name, "wipe"), GrantView)

    def revoke(self, name: str, reason: str) -> GrantView:
        body = bodies.RevokeBody(reason=reason)
        return self._call("POST", _path(name, "revoke"), GrantView, body)

    def set_current(self, model: str, manifest: str, shards: int) -> None:
        body = bodies.ManifestBody(model=model, manifest=manifest, shards=shards)
        self._call("POST", "/v1/manifests", bodies.ManifestBody, body)

    def policy(self) -> Policy:
        return self._call("GET", "/v1/policy", Policy)

    def _call(self, method: str, path: str, kind: type[T], body: msgspec.Struct | None = None) -> T:
        raw = b"" if body is None else msgspec.json.encode(body)
        status, answer = self._send(method, path, raw)
        try:
            if status == 200:
                return msgspec.json.decode(answer, type=kind)
            refusal = msgspec.json.decode(answer, type=bodies.RefusalBody)
        except msgspec.DecodeError as error:
            raise VaultError(f"The broker answers {status} with something else.") from error
        if refusal.rule:
            raise RefusedError(refusal.what, refusal.check, refusal.rule, refusal.reason)
        raise VaultError(f"The broker says: {refusal.message}", status=status)

    def _send(self, method: str, path: str, raw: bytes) -> tuple[int, bytes]:
        connection: http.client.HTTPConnection
        if self._secure:
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=TIMEOUT_S, context=context
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        try:
            connection.request(method, path, raw, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(64 << 20)
        except (OSError, http.client.HTTPException) as error:
            raise VaultError(f"The broker at {self._host} cannot be reached: {error}") from error
        finally:
            connection.close()


def _path(name: str, call: str = "") -> str:
    if not (name.isascii() and name.isalnum()):
        raise ConfigError("A grant's id is 32 hex digits.")
    return f"/v1/grants/{name}/{call}" if call else f"/v1/grants/{name}"
