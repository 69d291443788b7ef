"""A grant used again, and by somebody else: beside OpenBao's control groups, where both succeed.

Seen with OpenBao 2.7.2, whose control groups run in the open server. What an approval unlocks there
is a wrapping token, and a token is a bearer's: it names neither who may use it, nor where, nor how
often. (A `control_group` without `ttl` gave neither data nor token, so the policy below has one.)
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from grant_world import World
from key_services import openbao

from tidegate.vault.grant_errors import RefusedError

SECRET = "weights-key"
GUARDED = """
path "secret/data/weights" {
  capabilities = ["read"]
  control_group = {
    ttl = "1h"
    factor "managers" {
      controlled_capabilities = ["read"]
      identity { group_names = ["managers"] approvals = 1 }
    }
  }
}
"""
APPROVES = 'path "sys/control-group/*" { capabilities = ["create", "update"] }'


class Bao:
    """The server's API, as somebody."""

    def __init__(self, address: str, root: str) -> None:
        self._where = urlsplit(address)
        self.root = root

    def ask(self, token: str, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON; errors are in its `errors`."""
        connection = http.client.HTTPConnection(self._where.hostname or "", self._where.port)
        raw = json.dumps(body).encode() if body is not None else b""
        connection.request(method, f"/v1/{path}", raw, {"X-Vault-Token": token})
        answer = connection.getresponse().read()
        connection.close()
        return json.loads(answer) if answer else {}

    def user(self, name: str, policy: str) -> None:
        body = {"password": "p", "policies": policy}
        self.ask(self.root, "POST", f"auth/userpass/users/{name}", body)

    def login(self, name: str) -> str:
        said = self.ask("", "POST", f"auth/userpass/login/{name}", {"password": "p"})
        return str(said["auth"]["client_token"])

    def unwrap(self, who: str, wrapping: str) -> Any:
        return self.ask(who, "POST", "sys/wrapping/unwrap", {"token": wrapping})


@pytest.fixture(scope="module")
def bao() -> Iterator[Bao]:
    with openbao() as (address, token):
        server = Bao(address, token)
        server.ask(token, "POST", "secret/data/weights", {"data": {"key": SECRET}})
        for name, rules in (("guarded", GUARDED), ("approves", APPROVES)):
            assert not server.ask(token, "POST", f"sys/policies/acl/{name}", {"policy": rules})
        server.ask(token, "POST", "sys/auth/userpass", {"type": "userpass"})
        for name, policy in (("alice", "guarded"), ("bob", "approves"), ("mallory", "default")):
            server.user(name, policy)
        accessor = server.ask(token, "GET", "sys/auth")["userpass/"]["accessor"]
        entity = server.ask(token, "POST", "identity/entity", {"name": "bob"})["data"]["id"]
        alias = {"name": "bob", "canonical_id": entity, "mount_accessor": accessor}
        server.ask(token, "POST", "identity/entity-alias", alias)
        group = {"name": "managers", "member_entity_ids": [entity]}
        server.ask(token, "POST", "identity/group", group)
        yield server


def test_openbao_gives_an_approved_secret_again_and_to_another_user(bao: Bao) -> None:
    alice, bob, mallory = (bao.login(name) for name in ("alice", "bob", "mallory"))
    assert "permission denied" in str(bao.ask(mallory, "GET", "secret/data/weights"))
    wrapped = bao.ask(alice, "GET", "secret/data/weights")["wrap_info"]
    assert "errors" in bao.unwrap(alice, wrapped["token"])
    approval = {"accessor": wrapped["accessor"]}
    said = bao.ask(bob, "POST", "sys/control-group/authorize", approval)
    assert said["data"]["approved"] is True
    # One approval of alice's request; mallory, who may read nothing, unwraps it three times.
    for _ in range(3):
        assert bao.unwrap(mallory, wrapped["token"])["data"]["data"]["key"] == SECRET


def test_the_same_here_is_refused_both_times() -> None:
    world = World()
    request = world.approved()
    evidence = world.evidence(request)
    with pytest.raises(RefusedError, match="the requester asks"):
        world.broker.release("mallory", request.id, evidence, world.machine.public)
    assert world.broker.release("alice", request.id, evidence, world.machine.public)
    for who in ("alice", "mallory"):
        with pytest.raises(RefusedError):
            world.broker.release(who, request.id, evidence, world.machine.public)
    assert world.keys.unwrapped == [0, 2]
