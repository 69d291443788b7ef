"""The broker's API over a real socket: who asks, what is taken, and what is said to a refusal."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from broker_server import Served, serving
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grant_world import MODEL, ORIGIN, RP, World

from tidegate.errors import ConfigError
from tidegate.vault import api
from tidegate.vault.api_bodies import MAX_BODY, AskBody, GrantView
from tidegate.vault.api_client import BrokerClient
from tidegate.vault.errors import VaultError
from tidegate.vault.grant_entries import challenge_of
from tidegate.vault.grant_errors import RefusedError
from tidegate.vault.release_seal import opened

ASK = AskBody(why="evaluation", model=MODEL, shards=(0, 2), host="gpu1", seconds=3600)


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(World()) as running:
        yield running


def raw(served: Served, method: str, path: str, body: bytes = b"", **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def approve(served: Served, by: str, team: str, grant: GrantView) -> GrantView:
    signed = served.world.people[by].sign(challenge_of("approve", grant.request.digest), RP, ORIGIN)
    return served.client(by).judge(grant.request.id, "approve", team, signed)


def test_a_grant_goes_its_whole_way_over_http(served: Served) -> None:
    alice = served.client("alice")
    asked = alice.ask(ASK)
    assert [g.request.id for g in served.client("ann").grants(pending=True)] == [asked.request.id]
    assert approve(served, "ann", "security", asked).missing == {"research": 1}
    assert approve(served, "ron", "research", asked).status == "approved"
    machine, request = served.world.machine, asked.request
    evidence = machine.evidence("release", alice.challenge(request.id), request)
    package = alice.release(request.id, evidence, machine.public)
    assert [n for n, _ in opened(machine.private, request.digest, package).keys] == [0, 2]
    with pytest.raises(RefusedError, match="approved and unused"):
        alice.release(request.id, evidence, machine.public)
    evidence = machine.evidence("renew", alice.challenge(request.id), request)
    assert alice.renew(request.id, evidence) == 1000 * served.world.policy.lease_s
    assert alice.wipe(request.id).status == "ended"
    assert alice.grants(pending=True) == ()


def test_revoking_over_http_ends_a_lease_at_the_next_renewal(served: Served) -> None:
    request, _ = served.world.leased()
    served.client("oscar").revoke(request.id, "incident")
    with pytest.raises(RefusedError, match="revoked by oscar"):
        served.client("alice").challenge(request.id)


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer nobody", "Basic x", "Bearer " + "x" * 999])
def test_nobody_is_heard_without_a_token(served: Served, token: str) -> None:
    for method, path in [("GET", "/v1/grants"), ("POST", "/v1/grants"), ("GET", "/v1/policy")]:
        assert raw(served, method, path, authorization=token) == 401


def test_a_token_is_no_permission(served: Served) -> None:
    with pytest.raises(RefusedError, match="may not request"):
        served.client("ann").ask(ASK)
    with pytest.raises(RefusedError, match="no operator"):
        served.client("alice").set_current(MODEL, "00" * 32, 1)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"why":"x"}',
        b'{"why":"x","model":"m","shards":[0],"host":"gpu1","seconds":1,"more":1}',
        b'{"why":"a\\nb","model":"m","shards":[0],"host":"gpu1","seconds":1}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_body_beyond_the_grammar_is_refused(served: Served, body: bytes) -> None:
    bearer = f"Bearer {served.tokens['alice']}"
    assert raw(served, "POST", "/v1/grants", body, authorization=bearer) == 400
    assert served.world.broker.state().grants == {}


def test_a_body_that_is_too_large_is_not_read_to_its_end(served: Served) -> None:
    bearer = f"Bearer {served.tokens['alice']}"
    body = b" " * (MAX_BODY + 1)
    assert raw(served, "POST", "/v1/grants", body, authorization=bearer) == 413


def test_one_principal_cannot_keep_the_broker_busy(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "CALLS_A_MINUTE", 3)
    for _ in range(3):
        served.client("mallory").grants()
    with pytest.raises(VaultError, match="calls a minute"):
        served.client("mallory").grants()
    served.client("alice").grants()
    served.world.clock.advance(61)
    served.client("mallory").grants()


def test_an_unknown_grant_is_not_found(served: Served) -> None:
    bearer = f"Bearer {served.tokens['alice']}"
    path = f"/v1/grants/{'0' * 32}"
    assert raw(served, "GET", path, authorization=bearer) == 404
    assert raw(served, "POST", f"{path}/challenge", authorization=bearer) == 404


def test_a_clock_that_was_set_is_said_to_be_the_brokers_trouble(served: Served) -> None:
    served.world.clock.jump(3600)
    bearer = f"Bearer {served.tokens['alice']}"
    body = json.dumps({"why": "x", "model": MODEL, "shards": [0], "host": "gpu1", "seconds": 1})
    assert raw(served, "POST", "/v1/grants", body.encode(), authorization=bearer) == 503


@pytest.mark.parametrize("url", ["http://vault.example", "ftp://localhost", "vault", "https://"])
def test_a_token_is_not_sent_in_the_clear(url: str) -> None:
    with pytest.raises(ConfigError):
        BrokerClient(url, "t")


def certificate(path: Path) -> None:
    """A certificate of this machine's own, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vault")])
    today = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))


def test_a_client_speaks_tls_to_a_broker_that_it_can_authenticate_and_to_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate(tmp_path / "broker.pem")
    with serving(World(), tmp_path / "broker.pem") as served:
        with pytest.raises(VaultError, match="certificate"):
            served.client("alice").grants()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "broker.pem"))
        assert served.client("alice").grants() == ()
