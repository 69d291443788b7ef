"""A vault in memory: people with software keys, hosts that sign with nothing, a clock to move."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tidegate.attest.appraisal import Appraisal, Check
from tidegate.attest.errors import EvidenceError
from tidegate.attest.outcome import Fail, Pass
from tidegate.clock import ManualClock
from tidegate.ledger import MemoryStore, Store
from tidegate.transparency.log import Log
from tidegate.transparency.store_memory import MemoryStore as LogMemory
from tidegate.vault.broker import Broker
from tidegate.vault.broker_clock import BrokerClock
from tidegate.vault.grant_commands import Evidence
from tidegate.vault.grant_decide import Notify
from tidegate.vault.grant_entries import Assertion, Request, Verdict, binding_of, challenge_of
from tidegate.vault.grant_errors import GrantError
from tidegate.vault.grant_journal import Journal
from tidegate.vault.grant_policy import BreakGlass, Host, Person, Policy, Team, Window
from tidegate.vault.release_seal import Package, hash_of, opened
from tidegate.vault.webauthn_software import SoftwareKey

RP = "vault.example"
ORIGIN = "https://vault.example"
MODEL = "m"
MANIFEST = "ab" * 32
REFERENCE = "cd" * 32
SHARDS = 4
KEYS = {number: bytes([number]) * 32 for number in range(SHARDS)}
APPROVERS = {"ann": "security", "sam": "security", "rob": "research", "ron": "research"}


def policy(people: dict[str, SoftwareKey], **changes: object) -> Policy:
    """Two teams, one approval each; two hosts; `changes` replace fields."""
    made = Policy(
        rp_id=RP,
        origins=(ORIGIN,),
        requesters=("alice", "rob", "mallory"),
        operators=("oscar",),
        people=tuple(Person(name=n, credentials=(k.credential,)) for n, k in people.items()),
        teams=(
            Team(name="security", needs=1, members=("ann", "sam")),
            Team(name="research", needs=1, members=("rob", "ron")),
        ),
        hosts=(
            Host(name="gpu1", kind="fake", device="d1", reference=REFERENCE),
            Host(name="gpu2", kind="fake", device="d2", reference=REFERENCE),
        ),
        windows=(Window(),),
        break_glass=BreakGlass(
            teams=(Team(name="on-call", needs=1, members=("sam", "ron")),), seconds=1800
        ),
        lease_s=600,
    )
    return msgspec.structs.replace(made, **changes)


class FakeAppraiser:
    """Takes JSON's word for what a host is: the binding is the only thing that is checked."""

    def appraise(self, host: Host, evidence: bytes, bound: bytes, now: datetime) -> Evidence:
        try:
            said = json.loads(evidence)
        except ValueError as error:
            raise EvidenceError("fake", "file", "is no JSON") from error
        found = bytes.fromhex(said["bound"])
        fits = found == bound
        until = datetime.fromtimestamp(said["until"], UTC) if said["until"] else None
        dated = until is None or now <= until
        appraisal = Appraisal(
            kind="fake",
            checks=(
                Check(1, "nonce is bound", Pass("bound") if fits else Fail("binds another")),
                Check(2, "registers", Pass("as they should be") if said["pcr"] else Fail("moved")),
                Check(3, "collateral", Pass("in date") if dated else Fail("the CRL expired")),
            ),
            claims=(),
            bound=found,
            device=said["device"],
            at=now,
            until=until,
        )
        return Evidence(appraisal, said["reference"], hashlib.sha256(evidence).hexdigest())


class CountingKeys:
    """A key source that counts how often each shard's key was unwrapped."""

    def __init__(self) -> None:
        self.unwrapped: list[int] = []
        self.broken = False

    def check(self, manifest: str, shards: Sequence[int]) -> None:
        if manifest != MANIFEST:
            raise GrantError("no such manifest")

    def unwrap(self, manifest: str, shards: Sequence[int]) -> tuple[tuple[int, bytes], ...]:
        if self.broken:
            raise GrantError("the key service is away")
        self.unwrapped.extend(shards)
        return tuple((number, KEYS[number]) for number in shards)


class Heard:
    """Remembers what was told."""

    def __init__(self) -> None:
        self.news: list[Notify] = []

    def tell(self, news: Notify) -> None:
        self.news.append(news)


@dataclass
class Machine:
    """A host: its HPKE key, and evidence that says whatever it is told to say."""

    device: str = "d1"
    reference: str = REFERENCE
    pcr: bool = True
    until: float | None = None
    private: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes_raw()

    def evidence(self, what: str, nonce: str, request: Request, public: bytes = b"") -> bytes:
        key = hash_of(public or self.public)
        bound = binding_of(what, nonce, request.digest, key)  # type: ignore[arg-type]
        return self.bind(bound)

    def bind(self, bound: bytes) -> bytes:
        """Evidence that binds 32 bytes."""
        said = {"device": self.device, "reference": self.reference, "pcr": self.pcr}
        return json.dumps(said | {"bound": bound.hex(), "until": self.until}).encode()


class World:
    """A broker over stores that outlive it: `restart` is a new broker over the same ones."""

    def __init__(
        self, store: Store | None = None, log: LogMemory | None = None, **changes: object
    ) -> None:
        self.people = {name: SoftwareKey.new() for name in APPROVERS}
        self.policy = policy(self.people, **changes)
        self.clock = ManualClock(1_700_000_000.0)
        self.store: Store = store or MemoryStore()
        self.log_store = log or LogMemory()
        self.keys = CountingKeys()
        self.heard = Heard()
        self.machine = Machine()
        self._drawn = itertools.count(1)
        self.broker = self.restart()

    def restart(self) -> Broker:
        """Another broker over the same stores, the one before forgotten."""
        self.broker = self.opened()
        self.broker.adopt(self.policy)
        if MODEL not in self.broker.state().manifests:
            self.broker.set_current("oscar", MODEL, MANIFEST, SHARDS)
        return self.broker

    def opened(self) -> Broker:
        """A broker that has done nothing yet."""
        clock = BrokerClock(self.clock)
        journal = Journal(self.store, Log(self.log_store, self.clock), clock)
        return Broker(journal, clock, FakeAppraiser(), self.keys, self.heard, self._draw)

    def _draw(self, size: int) -> bytes:
        return hashlib.shake_256(str(next(self._drawn)).encode()).digest(size)

    def ask(self, by: str = "alice", **changes: object) -> Request:
        wanted: dict[str, object] = {
            "why": "evaluation",
            "model": MODEL,
            "shards": (0, 2),
            "host": "gpu1",
            "seconds": 3600,
        }
        return self.broker.ask(by, **(wanted | changes))  # type: ignore[arg-type]

    def signed(self, by: str, request: Request, verdict: Verdict = "approve") -> Assertion:
        return self.people[by].sign(challenge_of(verdict, request.digest), RP, ORIGIN)

    def approve(self, by: str, request: Request, team: str | None = None) -> None:
        self.broker.judge(
            by, request.id, "approve", team or APPROVERS[by], self.signed(by, request)
        )

    def approved(self, **changes: object) -> Request:
        """A request that both teams approved."""
        request = self.ask(**changes)
        self.approve("ann", request)
        self.approve("ron", request)
        return request

    def evidence(self, request: Request, what: str = "release", by: str = "alice") -> bytes:
        nonce = self.broker.challenge(by, request.id)
        return self.machine.evidence(what, nonce, request)

    def release(self, request: Request, by: str = "alice") -> bytes:
        evidence = self.evidence(request, by=by)
        return self.broker.release(by, request.id, evidence, self.machine.public)

    def leased(self, **changes: object) -> tuple[Request, Package]:
        request = self.approved(**changes)
        return request, opened(self.machine.private, request.digest, self.release(request))

    def published(self) -> list[dict[str, object]]:
        """What the log has of the journal, in order."""
        return [dict(found.entry.body) for found in Log(self.log_store, self.clock).entries()]
