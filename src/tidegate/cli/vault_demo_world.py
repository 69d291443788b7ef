"""What `tidegate vault demo` is made of: a small model, hosts with TPMs, people, a broker."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save_file

from tidegate.attest.appraisal import Appraisal
from tidegate.attest.certificates import parse_certificates
from tidegate.clock import SystemClock
from tidegate.ledger import SqliteStore
from tidegate.transparency.log import Log
from tidegate.transparency.note import Signer
from tidegate.transparency.store_sqlite import SqliteStore as LogStore
from tidegate.vault.broker import Broker
from tidegate.vault.broker_clock import BrokerClock
from tidegate.vault.grant_decide import Notify
from tidegate.vault.grant_entries import Request, challenge_of
from tidegate.vault.grant_journal import Journal
from tidegate.vault.grant_policy import Host, Person, Policy, Team
from tidegate.vault.grant_state import Grant
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.lease_holder import Lease, OwnCalls
from tidegate.vault.open_sealed import Sealed, open_sealed
from tidegate.vault.release_appraise import FileAppraiser
from tidegate.vault.release_keys import SealedKeys
from tidegate.vault.seal import seal
from tidegate.vault.tpm_enrol import challenged, enrolled
from tidegate.vault.tpm_live_software import SoftwareTpm
from tidegate.vault.webauthn_software import SoftwareKey

RP = "vault.example"
ORIGIN = "https://vault.example"
MODEL = "demo-model"
TEAMS = {"security": "ann", "research": "ron"}
_SHARD_BYTES = 64 << 10
_SIDE = 128


@dataclass(frozen=True, slots=True)
class Known:
    """A host as the policy knows it: its line, its file of reference values, what was appraised."""

    host: Host
    file: bytes
    appraisal: Appraisal


def made_known(name: str, made: SoftwareTpm) -> Known:
    """Tie a TPM's attestation key to its maker's certificate, and take its registers as they are.

    Raises VaultError where the TPM does not answer, or what it says does not pass.
    """
    tpm = made.tpm
    challenge = challenged(tpm.ek_public, tpm.ak_name)
    secret, nonce = tpm.activate(challenge.credential), secrets.token_bytes(32)
    chain = [one.der for pem in made.certificates for one in parse_certificates(pem)]
    found = enrolled(
        name,
        tpm.enrolment(secret, chain, nonce),
        challenge,
        nonce,
        made.certificates[-1:],
        datetime.fromtimestamp(SystemClock().now(), UTC),
        registers=tpm.registers(),
        # The software's maker publishes no list.
        revocation=False,
    )
    return Known(*found)


def sealed_model(folder: Path) -> tuple[Sealed, LocalKms]:
    """A model of a few random tensors in four shards or so, and the key service that wrapped."""
    plain = folder / "plain"
    plain.mkdir()
    raw = np.frombuffer(secrets.token_bytes(4 * _SIDE * _SIDE * 4), dtype=np.uint8)
    layers = raw.reshape(4, _SIDE, _SIDE * 4)
    save_file({f"layer{n}": layers[n].copy() for n in range(4)}, plain / "model.safetensors")
    (plain / "config.json").write_text(json.dumps({"layers": 4}))
    kms = LocalKms.create(folder / "kms.json")
    signer = Signer("vault.example/owner", Ed25519PrivateKey.generate())
    seal(plain, folder / "sealed", model=MODEL, kms=kms, signer=signer, shard_bytes=_SHARD_BYTES)
    return open_sealed(folder / "sealed", signer.verifier), kms


class _Unheard:
    """The demonstration shows its steps itself."""

    def tell(self, news: Notify) -> None:
        pass


class Custody:
    """A broker of this machine over SQLite, with its people and their software keys."""

    def __init__(self, folder: Path, sealed: Sealed, kms: LocalKms, hosts: Sequence[Known]) -> None:
        self.people = {name: SoftwareKey.new() for name in TEAMS.values()}
        clock = SystemClock()
        self.log = Log(LogStore(folder / "log.sqlite"), clock)
        time = BrokerClock(clock)
        journal = Journal(SqliteStore(folder / "journal.sqlite"), self.log, time)
        keys = SealedKeys({sealed.manifest.digest.hex(): sealed}, kms)
        appraiser = FileAppraiser([known.file for known in hosts])
        self.broker = Broker(journal, time, appraiser, keys, _Unheard())
        self.broker.adopt(self._policy(hosts))
        manifest = sealed.manifest
        self.broker.set_current("oscar", MODEL, manifest.digest.hex(), len(manifest.shards))

    def ask(self, shards: Sequence[int], host: str = "gpu1") -> Request:
        """Alice's request."""
        return self.broker.ask("alice", "evaluation run", MODEL, shards, host, seconds=3600)

    def approve(self, team: str, request: Request) -> Grant:
        """One approval with the hardware key (in software) of that team's member."""
        name = TEAMS[team]
        signed = self.people[name].sign(challenge_of("approve", request.digest), RP, ORIGIN)
        return self.broker.judge(name, request.id, "approve", team, signed)

    def lease(self, request: Request, tpm: SoftwareTpm) -> Lease:
        """A lease to be acquired on the host with that TPM."""
        calls = OwnCalls(self.broker, "alice")
        return Lease(calls, request, tpm.tpm.evidence, SystemClock())

    def _policy(self, hosts: Sequence[Known]) -> Policy:
        keys = self.people.items()
        return Policy(
            rp_id=RP,
            origins=(ORIGIN,),
            requesters=("alice",),
            operators=("oscar",),
            people=tuple(Person(name=name, credentials=(key.credential,)) for name, key in keys),
            teams=tuple(Team(name=t, needs=1, members=(who,)) for t, who in TEAMS.items()),
            hosts=tuple(known.host for known in hosts),
        )
