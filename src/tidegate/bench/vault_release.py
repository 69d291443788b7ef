"""Releases that are killed: does any key leave twice?

A child process opens journal and log from their files, answers a challenge and releases, over and
over on copies of one approved grant; it is killed with SIGKILL after a random part of the time that
a release takes. Then a host asks again, twice. The host's evidence is taken on its word here: what
is measured is the broker and its stores, not the evidence.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tidegate.attest.appraisal import Appraisal, Check
from tidegate.attest.outcome import Pass
from tidegate.bench.figures import Figure, at_most, report
from tidegate.clock import SystemClock
from tidegate.errors import TidegateError
from tidegate.ledger import SqliteStore
from tidegate.models.cache import Progress
from tidegate.transparency.log import Log
from tidegate.transparency.store_sqlite import SqliteStore as LogStore
from tidegate.vault.broker import Broker
from tidegate.vault.broker_clock import BrokerClock
from tidegate.vault.grant_commands import Evidence
from tidegate.vault.grant_decide import Notify
from tidegate.vault.grant_entries import challenge_of
from tidegate.vault.grant_journal import Journal
from tidegate.vault.grant_policy import Host, Person, Policy, Team
from tidegate.vault.grant_state import Status
from tidegate.vault.webauthn_software import SoftwareKey

RELEASES = 300
_RP, _ORIGIN = "vault.example", "https://vault.example"
_TEAMS = {"ann": "security", "ron": "research"}
_MANIFEST = "00" * 32
_HOST = Host(name="host", kind="stated", device="host", reference="00" * 32)
_PUBLIC = X25519PrivateKey.generate().public_key().public_bytes_raw()


class _Stated:
    """Passes whatever it is given, as bound to whatever was asked."""

    def appraise(self, host: Host, evidence: bytes, bound: bytes, now: datetime) -> Evidence:
        appraisal = Appraisal(
            kind=host.kind,
            checks=(Check(1, "stated", Pass("taken on its word")),),
            claims=(),
            bound=bound,
            device=host.device,
            at=now,
        )
        return Evidence(appraisal, host.reference, hashlib.sha256(evidence).hexdigest())


class _Keys:
    def check(self, manifest: str, shards: Sequence[int]) -> None:
        pass

    def unwrap(self, manifest: str, shards: Sequence[int]) -> tuple[tuple[int, bytes], ...]:
        return tuple((number, bytes(32)) for number in shards)


class _Unheard:
    def tell(self, news: Notify) -> None:
        pass


def measure(progress: Progress) -> dict[str, Figure]:
    """Kill `RELEASES` releases, each at a random moment, and count the packages that left."""
    with tempfile.TemporaryDirectory(prefix="tidegate-release-") as name:
        first = Path(name) / "first"
        first.mkdir()
        grant = _approved(first)
        whole = _undisturbed(first, Path(name), grant)
        twice = lost = killed = 0
        for done in range(RELEASES):
            packages, stopped, leased = _killed(first, Path(name), grant, whole)
            twice += packages > 1
            killed += stopped
            lost += leased and not packages
            progress("releases killed", done + 1, RELEASES)
    how = f"SIGKILL within {1000 * whole:.0f} ms, the time of a release; then asked for twice again"
    return {
        "double_releases": at_most(
            twice, 0, unit="", n=RELEASES, how=f"grants whose keys left more than once; {how}"
        ),
        "releases_killed": report(
            killed, unit="", n=RELEASES, how="children that the kill met before they were done"
        ),
        "releases_lost": report(
            lost, unit="", n=RELEASES, how="grants that are spent and whose keys reached nobody"
        ),
    }


def _broker(folder: Path) -> Broker:
    clock = SystemClock()
    time_of = BrokerClock(clock)
    log = Log(LogStore(folder / "log.db"), clock)
    journal = Journal(SqliteStore(folder / "journal.db"), log, time_of)
    return Broker(journal, time_of, _Stated(), _Keys(), _Unheard())


def _approved(folder: Path) -> str:
    people = {name: SoftwareKey.new() for name in _TEAMS}
    broker = _broker(folder)
    broker.adopt(
        Policy(
            rp_id=_RP,
            origins=(_ORIGIN,),
            requesters=("alice",),
            operators=("oscar",),
            people=tuple(Person(name=n, credentials=(k.credential,)) for n, k in people.items()),
            teams=tuple(Team(name=team, needs=1, members=(n,)) for n, team in _TEAMS.items()),
            hosts=(_HOST,),
        )
    )
    broker.set_current("oscar", "model", _MANIFEST, 1)
    request = broker.ask("alice", "bench", "model", (0,), _HOST.name, 3600)
    for name, team in _TEAMS.items():
        signed = people[name].sign(challenge_of("approve", request.digest), _RP, _ORIGIN)
        broker.judge(name, request.id, "approve", team, signed)
    return request.id


def _release(folder: Path, grant: str) -> bool:
    broker = _broker(folder)
    broker.challenge("alice", grant)
    return bool(broker.release("alice", grant, b"", _PUBLIC))


def _undisturbed(first: Path, place: Path, grant: str) -> float:
    """Seconds from a child's start to its package, the longest of five."""
    longest = 0.0
    for number in range(5):
        folder = place / f"whole{number}"
        shutil.copytree(first, folder)
        begun = time.perf_counter()
        reading, child = _child(folder, grant)
        os.read(reading, 1)
        longest = max(longest, time.perf_counter() - begun)
        os.close(reading)
        os.waitpid(child, 0)
        shutil.rmtree(folder)
    return longest


def _killed(first: Path, place: Path, grant: str, whole: float) -> tuple[int, bool, bool]:
    """Packages that left; whether the child was killed before its end; whether it is spent."""
    folder = place / "killed"
    shutil.copytree(first, folder)
    reading, child = _child(folder, grant)
    time.sleep(whole * secrets.randbelow(1_000_000) / 1_000_000)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        packages = len(pipe.read())
    for _ in range(2):
        try:
            packages += _release(folder, grant)
        except TidegateError:
            continue
    leased = _broker(folder).grant(grant).status is Status.LEASED
    shutil.rmtree(folder)
    return packages, os.WIFSIGNALED(status), leased


def _child(folder: Path, grant: str) -> tuple[int, int]:
    """Start one that releases: the pipe that a byte comes through for a package, and its id."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writing, b"." if _release(folder, grant) else b"")
            status = 0
        finally:
            # Nothing of the parent's is this process's to tidy up.
            os._exit(status)
    os.close(writing)
    return reading, child
