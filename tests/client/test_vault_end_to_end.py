"""The vault as its users have it: commands, processes, a real broker, a TPM in software."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from tidegate.cli.main import app
from tidegate.transparency.note import Signer
from tidegate.vault.errors import VaultError
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.lease_socket import LeaseCalls
from tidegate.vault.manifest import Manifest
from tidegate.vault.open_sealed import open_sealed
from tidegate.vault.seal import seal
from tidegate.vault.tpm_live_software import SWTPM, SoftwareTpm, software_tpm

COMMANDS = {"broker": "vault_broker", "release": "vault_lease", "open_model": "vault_open"}
MODEL = "small"
PLAIN = os.urandom(300_000)

pytestmark = pytest.mark.skipif(
    not SWTPM.exists(), reason="swtpm is not installed (Debian: swtpm): no TPM to test with here"
)


class Site:
    """A folder with all that a deployment has, and its commands."""

    def __init__(self, folder: Path, tpm: SoftwareTpm, stack: ExitStack) -> None:
        self.folder = folder
        self.tpm = tpm
        self._stack = stack
        self.tcti = tpm.tpm._where
        self.url = ""
        self._signer = Signer("vault.example/owner", Ed25519PrivateKey.generate())
        self.owner = self._signer.verifier.encode()
        (folder / "owner.pub").write_text(self.owner + "\n")
        self.manifest = self._seal()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]

    def run(self, *arguments: str, fails: int = 0) -> str:
        """One `tidegate vault` command; its output, or its error."""
        done = CliRunner().invoke(
            app, ["vault", *arguments], env={"TIDEGATE_VAULT_BROKER": self.url, "COLUMNS": "200"}
        )
        assert done.exit_code == fails, (done.output, done.exception)
        return done.stderr if fails else done.stdout

    def mine(self, who: str, *arguments: str, fails: int = 0) -> str:
        return self.run(*arguments, "--token-file", f"{who}.token", fails=fails)

    def start(self, command: str, *arguments: str) -> subprocess.Popen[str]:
        """A command that stays, as a process; started without all the others' imports."""
        module = COMMANDS[command]
        program = f"import typer; from tidegate.cli import {module}; typer.run({module}.{command})"
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=self.folder,
            env=os.environ | {"TIDEGATE_VAULT_BROKER": self.url, "COLUMNS": "200"},
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(process.kill)
        return process

    def release(self, who: str, grant: str) -> subprocess.Popen[str]:
        """The process that holds a lease on this host."""
        return self.start(
            "release", grant, "--tpm", "tpm-keys", "--tcti", self.tcti, "--socket", "lease.sock",
            "--token-file", f"{who}.token",
        )  # fmt: skip

    def refused(self, who: str, grant: str) -> str:
        """What is said to somebody whose release is refused."""
        process = self.release(who, grant)
        said = process.communicate(timeout=240)[1]
        assert process.returncode == 1, said
        return said

    def admit_host(self) -> str:
        """All four steps; the policy's lines."""
        tpm = ("--tpm", "tpm-keys", "--tcti", self.tcti)
        self.run("host", "keys", *tpm)
        self.run("host", "credential", "host-keys.json")
        certificates = [self._pem(n, pem) for n, pem in enumerate(self.tpm.certificates)]
        self.run("host", "answer", "credential.json", *tpm, "--certificate", certificates[0])
        trusted = ("--root", certificates[-1], "--no-revocation")
        return self.run("host", "admit", "host-evidence.json", "--name", "gpu1", *trusted)

    def policy(self, host: str) -> None:
        people = [
            self.run("key", name, "--rp-id", "vault.example", "--software-key", f"{name}.key")
            for name in ("ann", "ron")
        ]
        head = (
            'rp_id = "vault.example"\norigins = ["https://vault.example"]\n'
            'requesters = ["alice"]\noperators = ["oscar"]\nlease_s = 300\n'
            '[[teams]]\nname = "security"\nneeds = 1\nmembers = ["ann"]\n'
            '[[teams]]\nname = "research"\nneeds = 1\nmembers = ["ron"]\n'
        )
        (self.folder / "policy.toml").write_text("\n".join([head, host, *people]))
        for name in ("alice", "oscar", "ann", "ron", "mallory"):
            (self.folder / f"{name}.token").write_text(self.run("token", name))

    def broker(self) -> subprocess.Popen[str]:
        """One on the port of the one before, as after a restart."""
        port = self._port
        self.url = f"http://127.0.0.1:{port}"
        (self.folder / "broker.toml").write_text(
            f'policy = "policy.toml"\ntokens = "tokens.json"\nport = {port}\n'
            f'owner = "{self.owner}"\nkms = "local:{self.folder}/kms.json"\n'
            'references = ["gpu1.json"]\nsealed = ["sealed"]\n'
        )
        process = self.start("broker", "broker.toml")
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return process
            time.sleep(0.05)
        raise AssertionError("the broker did not start")

    def ready(self) -> subprocess.Popen[str]:
        """Everything up to a running broker that knows the model."""
        self.policy(self.admit_host())
        broker = self.broker()
        digest = self.manifest.digest.hex()
        self.mine("oscar", "current", MODEL, digest, "--shards", "3")
        return broker

    def approved(self, shards: str) -> str:
        asked = self.mine(
            "alice", "request", MODEL, "--shards", shards, "--host", "gpu1", "--why", "evaluation",
            "--seconds", "600", "--json",
        )  # fmt: skip
        grant: str = json.loads(asked)[0]["request"]["id"]
        assert grant in self.mine("ann", "pending")
        for name, team in (("ann", "security"), ("ron", "research")):
            self.mine(name, "approve", grant, "--team", team, "--yes",
                      "--software-key", f"{name}.key")  # fmt: skip
        return grant

    def _seal(self) -> Manifest:
        plain = self.folder / "plain"
        plain.mkdir()
        (plain / "weights.bin").write_bytes(PLAIN)
        kms = LocalKms.create(self.folder / "kms.json")
        made = seal(
            plain, self.folder / "sealed", model=MODEL, kms=kms, signer=self._signer,
            shard_bytes=100_000,
        )  # fmt: skip
        return made.manifest

    def opened(self, shard: int) -> bytes:
        """A shard, with the key that the lease's holder hands out."""
        sealed = open_sealed(self.folder / "sealed", self._signer.verifier)
        key = LeaseCalls(self.folder / "lease.sock").key(shard)
        with sealed.open_shard(shard, key) as found:
            return bytes(found.read(0, self.manifest.shard(shard).size))

    def _pem(self, number: int, raw: bytes) -> str:
        (self.folder / f"maker{number}.pem").write_bytes(raw)
        return f"maker{number}.pem"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with ExitStack() as stack:
        tpm = stack.enter_context(software_tpm(tmp_path / "tpm"))
        folder = tmp_path / "site"
        folder.mkdir()
        monkeypatch.chdir(folder)
        yield Site(folder, tpm, stack)


def test_weights_are_opened_under_a_grant_on_an_attested_host_until_it_is_revoked(
    site: Site,
) -> None:
    broker = site.ready()
    grant = site.approved("1-2")
    # Another requester, on the very same host.
    assert "the requester asks" in site.refused("mallory", grant)
    holder = site.release("alice", grant)
    assert holder.stderr is not None
    assert "keys of 2 shards" in holder.stderr.readline()
    assert site.opened(1) == PLAIN[100_000:200_000]
    with pytest.raises(VaultError):
        site.opened(0)
    assert 0 < float(site.run("renew", "--socket", "lease.sock")) <= 300
    # The broker is killed, and knows after its restart that the keys are out.
    broker.kill()
    broker.wait()
    site.broker()
    assert "leased" in site.mine("ann", "status", grant, "--json")
    site.mine("oscar", "revoke", grant, "--reason", "incident")
    assert "revoked by oscar" in site.mine("ann", "status", grant, "--json")
    with pytest.raises(VaultError):
        LeaseCalls(site.folder / "lease.sock").renew()
    with pytest.raises(VaultError):
        site.opened(1)


def test_a_holder_wipes_its_keys_when_told_and_a_changed_host_gets_none(site: Site) -> None:
    site.ready()
    grant = site.approved("0-2")
    holder = site.release("alice", grant)
    assert holder.stderr is not None
    assert "keys of 3 shards" in holder.stderr.readline()
    opening = site.start(
        "open_model", "sealed", "--owner", "owner.pub", "--kms", "lease:lease.sock"
    )
    assert opening.wait(240) == 0
    holder.send_signal(signal.SIGTERM)
    assert holder.wait(240) == 0
    assert not (site.folder / "lease.sock").exists()
    ended = msgspec.json.decode(site.mine("ann", "status", grant, "--json"))
    assert ended[0]["ending"] == "wiped, says alice"
    assert "the grant is wiped" in site.refused("alice", grant)
    # New approvals do not help a host that measures something else.
    grant = site.approved("0")
    site.tpm.tpm.extend(14, bytes(32))
    assert "register 14 of sha256" in site.refused("alice", grant)
    # And anybody with the log can decide all of it again.
    assert "as an honest broker would have written them" in site.run("check", "log.sqlite")


def test_the_demonstration_holds() -> None:
    done = CliRunner().invoke(app, ["vault", "demo", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["holds"] is True
    assert "no hardware" in said["limits"]
    assert [step["name"] for step in said["steps"] if not step["held"]] == []
