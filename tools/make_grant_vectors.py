"""Write spec/vectors/grants.json from the code: requests, bindings, a package, journal entries.

Run `python tools/make_grant_vectors.py` after a change of format, and never to make a failing test
pass: the file is what other implementations are held to.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec
from vector_files import lines

from tidegate.ledger.entries import GENESIS, next_head
from tidegate.vault import grant_entries as entries
from tidegate.vault.grant_entries import Entry, Request, binding_of, challenge_of, encode
from tidegate.vault.grant_policy import Host, Person, Policy, Team

VECTORS = Path(__file__).resolve().parent.parent / "spec" / "vectors"
_ID = "00112233445566778899aabbccddeeff"
_PACKAGE = (
    "753c054ee82bb6e8181ecd1b9b0c1e8a224768cb8d41b0d9fec6f23cb8fdb54d070c720cd4f4179eb3018c9f94f752"
    "d9bfa548ddb310c537635006e96fc65b19caae5c7e99e1b288c916d706817c5215e7d37a7e7e4ed7cd1952ce97c10f"
    "6d6f0fb043a66880e1c81238ec470ee79b8790e6f33d0eace833fb63c218664f9dd8"
)
"""Sealed once: HPKE draws a new key each time, so the code cannot make these bytes again."""


class RequestCase(msgspec.Struct):
    """A request's one spelling and its hash."""

    prose: str
    request: str
    hash: str
    approve: str
    deny: str


class BindingCase(msgspec.Struct):
    """What evidence has to bind; all but `what` in hex."""

    prose: str
    what: Literal["release", "renew"]
    nonce: str
    request: str
    key: str
    binding: str


class PackageCase(msgspec.Struct):
    """A sealed package: `private` is the host's X25519 key, `request` the request's hash."""

    prose: str
    private: str
    request: str
    package: str
    lease_ms: int
    keys: list[tuple[int, str]]


class EntryCase(msgspec.Struct):
    """An entry of a journal, and the chain's head after it."""

    prose: str
    entry: str
    head: str


class RefusedCase(msgspec.Struct):
    """Bytes that are no entry number `n`."""

    prose: str
    n: int
    entry: str


class GrantFile(msgspec.Struct):
    """Test vectors for spec/grants.md."""

    requests: list[RequestCase]
    bindings: list[BindingCase]
    packages: list[PackageCase]
    journal: list[EntryCase]
    refused: list[RefusedCase]


def _request(**changes: object) -> Request:
    made = Request(
        v=1,
        id=_ID,
        requester="alice",
        why="evaluation run 7",
        model="model-1",
        manifest="ab" * 32,
        shards=(0, 2, 7),
        host="gpu1",
        reference="cd" * 32,
        seconds=3600,
        break_glass=False,
        policy=_policy().digest,
        time=1_700_000_000_000,
    )
    return msgspec.structs.replace(made, **changes)


def _policy() -> Policy:
    return Policy(
        rp_id="vault.example",
        origins=("https://vault.example",),
        requesters=("alice",),
        operators=("oscar",),
        people=(Person(name="ann", credentials=()),),
        teams=(Team(name="security", needs=1, members=("ann",)),),
        hosts=(Host(name="gpu1", kind="tpm", device="tpm-ek:00", reference="cd" * 32),),
    )


def _requests() -> list[RequestCase]:
    cases = {
        "Three shards for an hour.": _request(),
        "The same for one shard more: another hash.": _request(shards=(0, 2, 3, 7)),
        "Broken glass, and a reason beyond ASCII, which is not escaped.": _request(
            break_glass=True, why="Störung im Betrieb"
        ),
    }
    return [
        RequestCase(
            prose,
            msgspec.json.encode(case).decode(),
            case.digest.hex(),
            challenge_of("approve", case.digest).hex(),
            challenge_of("deny", case.digest).hex(),
        )
        for prose, case in cases.items()
    ]


def _bindings() -> list[BindingCase]:
    request, nonce, key = _request().digest, "11" * 32, "22" * 32
    kinds: list[tuple[str, Literal["release", "renew"]]] = [
        ("Before the keys leave.", "release"),
        ("For more time: the same parts give something else.", "renew"),
    ]
    return [
        BindingCase(
            prose, what, nonce, request.hex(), key, binding_of(what, nonce, request, key).hex()
        )
        for prose, what in kinds
    ]


def _journal() -> list[Entry]:
    request = _request()
    assertion = entries.Assertion(b"\x01\x02", b"\x03" * 37, b"{}", b"\x04")
    seen = entries.Seen("tpm", "tpm-ek:00", "cd" * 32, "ef" * 32)
    does: list[entries.Does] = [
        entries.Adopt(_policy()),
        entries.Current("model-1", "ab" * 32, 8, "oscar"),
        entries.Asked(request),
        entries.Approved(_ID, "ann", "security", assertion),
        entries.Challenged(_ID, "alice", "11" * 32),
        entries.Released(_ID, "alice", seen, "22" * 32, 1_700_000_900_000),
        entries.Renewed(_ID, "alice", seen, 1_700_001_350_000),
        entries.Refused(_ID, "mallory", "release", 2, "the grant is somebody else's"),
        entries.Revoked(_ID, "oscar", "incident"),
    ]
    start = request.time
    return [Entry(n, start + 1000 * n, start + 1000 * n, one) for n, one in enumerate(does)]


def _chained() -> list[EntryCase]:
    head, cases = GENESIS, []
    for entry in _journal():
        raw = encode(entry)
        head = next_head(head, raw)
        cases.append(EntryCase(f"{type(entry.does).__name__}.", raw.decode(), head.hex()))
    return cases


def _refused() -> list[RefusedCase]:
    good = encode(_journal()[8]).decode()
    return [
        RefusedCase("A space.", 8, good.replace(":", ": ", 1)),
        RefusedCase("Another number than its place.", 7, good),
        RefusedCase("A member too many.", 8, good[:-1] + ',"more":1}'),
        RefusedCase("An unknown kind.", 8, good.replace('"revoke"', '"reopen"')),
        RefusedCase("An escape where none is needed.", 8, good.replace("oscar", "osc\\u0061r")),
        RefusedCase("A grant's id in capitals.", 8, good.replace(_ID, _ID.upper())),
    ]


def grant_file() -> GrantFile:
    """All cases."""
    package = PackageCase(
        "Two keys for a quarter of an hour.",
        bytes(range(32)).hex(),
        hashlib.sha256(b"a request").hexdigest(),
        _PACKAGE,
        900_000,
        [(0, "01" * 32), (7, "02" * 32)],
    )
    return GrantFile(_requests(), _bindings(), [package], _chained(), _refused())


def build() -> dict[str, bytes]:
    """Contents by file name."""
    schema = msgspec.json.format(msgspec.json.encode(msgspec.json.schema(GrantFile)), indent=2)
    return {"grants.json": lines(grant_file()), "grants.schema.json": schema + b"\n"}


if __name__ == "__main__":
    for name, content in build().items():
        (VECTORS / name).write_bytes(content)
