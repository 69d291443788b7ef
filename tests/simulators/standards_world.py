"""Files as Tidegate's commands write them, for reports: a sound set, and ways to spoil it."""

from __future__ import annotations

from typing import Any

import msgspec

from tidegate.transparency.entry import Entry, Kind, encode

REQUEST = "11" * 16
ASSERTION = {"credential": "YQ==", "authenticator": "YQ==", "client": "YQ==", "signature": "YQ=="}
EVIDENCE = {"kind": "tpm", "device": "d1", "reference": "ab" * 32, "digest": "cd" * 32}


def grant_entries(
    approvals: tuple[tuple[str, str], ...] = (("bob", "security"), ("eve", "research")),
    *,
    signed: bool = True,
    evidence: bool = True,
) -> list[dict[str, Any]]:
    """A request of ada's, its approvals, and the release."""
    asked = {
        "v": 1,
        "id": REQUEST,
        "requester": "ada",
        "why": "serve",
        "model": "m",
        "manifest": "ef" * 32,
        "shards": [0, 1],
        "host": "h1",
        "reference": "ab" * 32,
        "seconds": 60,
        "break_glass": False,
        "policy": "00" * 32,
        "time": 1_000,
    }
    does: list[dict[str, Any]] = [{"kind": "request", "request": asked}]
    for by, team in approvals:
        one = {"kind": "approve", "grant": REQUEST, "by": by, "team": team}
        does.append({**one, "assertion": ASSERTION if signed else {}})
    release = {"kind": "release", "grant": REQUEST, "by": "ada", "key": "aa" * 32, "until": 9_000}
    does.append({**release, "evidence": EVIDENCE if evidence else {}})
    return [
        {"n": n, "time": 1_000 + n, "wall": 1_000 + n, "does": one} for n, one in enumerate(does)
    ]


def log_lines(
    entries: list[dict[str, Any]] | None = None, uploads: tuple[tuple[int, int | None], ...] = ()
) -> bytes:
    """What `tidegate log show --json` prints."""
    made = [
        Entry(
            kind=Kind.RELEASE if one["does"]["kind"] == "release" else Kind.GRANT,
            time=one["time"],
            body=one,
            id=f"grant/{one['n']}",
        )
        for one in (grant_entries() if entries is None else entries)
    ]
    for size, spent in uploads:
        body: dict[str, Any] = {"origin": "ledger", "size": size, "root": "00" * 32, "note": "n"}
        if spent is not None:
            body["spent_bits"] = spent
        made.append(Entry(kind=Kind.UPLOAD, time=5_000, body=body, id=f"upload/{size}"))
    lines = [
        msgspec.json.encode({**msgspec.json.decode(encode(one)), "index": index})
        for index, one in enumerate(made)
    ]
    return b"\n".join(lines) + b"\n"


def bench(name: str, **holds: bool) -> bytes:
    """What `tidegate bench NAME --json` prints, with figures that hold or do not."""
    figures = {
        key: {"value": 0.0, "unit": "x", "target": "<= 0", "holds": good, "n": 9, "how": "so"}
        for key, good in holds.items()
    }
    return msgspec.json.encode({"name": name, "machine": {}, "figures": figures})


GATE = bench(
    "gate",
    overshoot_packets=True,
    reload_leak_bytes=True,
    undercounted_after_kills=True,
    meters_disagree_bytes=True,
    thief_over_cap=True,
)
CHANNELS = bench("verify", attackers_above_bound=True, **{"exact.leak_share": True})
VERIFIED: dict[str, Any] = {
    "tool": "tidegate verify",
    "outcome": {"outcome": "pass", "reason": "all 40 tokens"},
    "tokens": 80,
    "scored_tokens": 40,
    "mismatches": 0,
    "leak": {"bits_a_token": 0.02, "share": 0.001},
}
AUDITED: dict[str, Any] = {
    "events": 1_000,
    "findings": [],
    "coverage": [
        {"who": "x", "model": "m", "under_grant": False, "model_bytes": 100, "most_bytes": 2}
    ],
}
ATTESTED: dict[str, Any] = {
    "kind": "tpm",
    "outcome": "pass",
    "reason": "all",
    "at": "2026-01-01T00:00:00+00:00",
    "bound": "",
    "checks": [{"number": 1, "name": "n", "outcome": "pass", "detail": ""}],
}
CHECKED = b'{"outcome":"pass","claim":"4 entries make the signed tree","limits":[],"witnesses":2}'


def files() -> dict[str, bytes]:
    """A set of files under which every control passes."""
    return {
        "gate.json": GATE,
        "channels.json": CHANNELS,
        "verify.json": msgspec.json.encode(VERIFIED),
        "audit.json": msgspec.json.encode(AUDITED),
        "attest.json": msgspec.json.encode(ATTESTED),
        "log.jsonl": log_lines(uploads=((3, 90), (8, 180))),
        "log-check.json": CHECKED,
    }
