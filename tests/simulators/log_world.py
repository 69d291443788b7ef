"""A log, its witnesses and its followers in one process, with the wires between them cuttable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.clock import ManualClock
from tidegate.transparency.cosign import Algorithm, Cosigner
from tidegate.transparency.entry import Kind
from tidegate.transparency.http_client import UnreachableError
from tidegate.transparency.log import Log
from tidegate.transparency.note import Signer
from tidegate.transparency.policy import Policy, TrustedLog, Witness, n_of
from tidegate.transparency.publish import Asking, Published, publish
from tidegate.transparency.store_memory import MemoryStore
from tidegate.transparency.tiles import Tile, read
from tidegate.transparency.witness import Reply
from tidegate.transparency.witness_anchor import Anchor, MemoryAnchor
from tidegate.transparency.witness_service import WitnessService
from tidegate.transparency.witness_store import WitnessStore
from tidegate.transparency.witness_store_memory import MemoryWitnessStore

ORIGIN = "log.example/vault"
SIGNER = Signer(ORIGIN, Ed25519PrivateKey.from_private_bytes(b"l" * 32))
TRUSTED = TrustedLog(SIGNER.verifier)
ORIGIN_HASH = hashlib.sha256(ORIGIN.encode()).hexdigest()


def cosigner(n: int, algorithm: Algorithm = Algorithm.ED25519) -> Cosigner:
    return Cosigner(f"witness.example/w{n}", bytes([n + 1]) * 32, algorithm)


def witness_service(
    n: int = 0,
    store: WitnessStore | None = None,
    anchor: Anchor | None = None,
    clock: ManualClock | None = None,
) -> WitnessService:
    return WitnessService(
        [cosigner(n)],
        {ORIGIN: [SIGNER.verifier]},
        store or MemoryWitnessStore(),
        anchor or MemoryAnchor(),
        clock or ManualClock(),
    )


class Wire:
    """`Asking` straight into a service; `cut` makes it unreachable, `bend` changes answers."""

    def __init__(self, service: WitnessService) -> None:
        self.service = service
        self.cut = False
        self.bend: Callable[[Reply], Reply] = lambda reply: reply
        self.asked = 0

    def add_checkpoint(self, raw: bytes) -> Reply:
        return self._through(lambda: self.service.add_checkpoint(raw))

    def checkpoint(self, origin_hash: str) -> Reply:
        return self._through(lambda: self.service.checkpoint(origin_hash))

    def _through(self, ask: Callable[[], Reply]) -> Reply:
        self.asked += 1
        if self.cut:
            raise UnreachableError("cut")
        return self.bend(ask())


class LogWorld:
    """A log with `witnesses` of which `needed` make its quorum."""

    def __init__(self, witnesses: int = 3, needed: int = 2) -> None:
        self.store = MemoryStore()
        self.log = Log(self.store, ManualClock())
        self.wires = [Wire(witness_service(n)) for n in range(witnesses)]
        named = tuple(Witness(f"w{n}", cosigner(n).public) for n in range(witnesses))
        self.policy: Policy = n_of(TRUSTED, named, needed)

    def grow(self, entries: int, log: Log | None = None) -> None:
        for _ in range(entries):
            chosen = log or self.log
            chosen.append(Kind.GRANT, {"n": chosen.size})

    def fork(self, at: int) -> Log:
        """Another log of the same key, whose first `at` entries are this one's."""
        forked = Log(MemoryStore(), ManualClock())
        for logged in self.log.entries(0, at):
            forked._clock = ManualClock(logged.entry.time / 1000)  # type: ignore[assignment]
            forked.append(logged.entry.kind, logged.entry.body, once=logged.entry.id)
        forked._clock = ManualClock(1.0)  # type: ignore[assignment]
        return forked

    def publish(self, log: Log | None = None) -> Published:
        return publish(log or self.log, SIGNER, self.policy, self.connect)

    def connect(self, witness: Witness) -> Asking | None:
        return self.wires[int(witness.name[1:])]


class LogSource:
    """`Source` straight into a log; `spoil` changes bundles on their way."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.note: str | None = None
        self.spoil: Callable[[bytes], bytes] = lambda raw: raw
        self.read = 0

    def checkpoint(self) -> str:
        note = self.note or self.log.kept()
        if note is None:
            raise UnreachableError("nothing signed yet")
        return note

    def bundle(self, tile: Tile) -> bytes:
        self.read += 1
        return self.spoil(read(self.log, tile))
