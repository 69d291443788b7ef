"""Sign the log's checkpoint and ask the witnesses of its policy to cosign it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.http_client import UnreachableError, request
from tidegate.transparency.log import Log
from tidegate.transparency.note import (
    MAX_NOTE_BYTES,
    Checkpoint,
    Signer,
    note_text,
    signature_line,
    signature_lines,
)
from tidegate.transparency.policy import Opened, Policy, Witness
from tidegate.transparency.witness import AddCheckpoint, Reply


class Asking(Protocol):
    """A way to one witness."""

    def add_checkpoint(self, raw: bytes) -> Reply:
        """Its answer to a request. Raises UnreachableError."""
        ...

    def checkpoint(self, origin_hash: str) -> Reply:
        """What it cosigned last of a log. Raises UnreachableError."""
        ...


class HttpWitness:
    """`Asking` over HTTP, at a witness's prefix."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def add_checkpoint(self, raw: bytes) -> Reply:
        return self._reply("POST", "add-checkpoint", raw)

    def checkpoint(self, origin_hash: str) -> Reply:
        return self._reply("GET", f"{origin_hash}/checkpoint", None)

    def _reply(self, method: str, path: str, body: bytes | None) -> Reply:
        status, raw = request(method, f"{self._url}/{path}", body=body, most=MAX_NOTE_BYTES)
        return Reply(status, raw.decode(errors="replace"))


def over_http(witness: Witness) -> Asking | None:
    """The way to a witness whose URL the policy gives; None where it gives none."""
    return None if witness.url is None else HttpWitness(witness.url)


class Said(StrEnum):
    """What came of asking one witness."""

    COSIGNED = "cosigned"
    NO_ADDRESS = "no_address"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    """It answered, and not with a cosignature of its key."""
    WITNESS_ROLLED_BACK = "witness_rolled_back"
    """It has forgotten what it cosigned: its cosignatures are worth nothing any more."""
    LOG_ROLLED_BACK = "log_rolled_back"
    """It holds a larger tree signed with this log's key: this store is an old copy."""
    SPLIT_VIEW = "split_view"
    """It holds another tree of this log, signed with its key."""

    @property
    def alarm(self) -> bool:
        """Whether somebody must look before anything else is signed or trusted."""
        return self in (Said.WITNESS_ROLLED_BACK, Said.LOG_ROLLED_BACK, Said.SPLIT_VIEW)


@dataclass(frozen=True, slots=True)
class Answer:
    """One witness's part; `evidence` are the notes that show an alarm's reason to anybody."""

    witness: str
    said: Said
    detail: str = ""
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Published:
    """The checkpoint with every cosignature it has, and who said what."""

    opened: Opened
    answers: tuple[Answer, ...]

    @property
    def alarms(self) -> tuple[Answer, ...]:
        """Answers that somebody must look at."""
        return tuple(answer for answer in self.answers if answer.said.alarm)


def publish(
    log: Log,
    signer: Signer,
    policy: Policy,
    connect: Callable[[Witness], Asking | None] = over_http,
) -> Published:
    """Sign the head, collect cosignatures, and keep the note with them.

    `opened.quorum` says whether enough witnesses cosigned. If not, ask again later.

    Raises:
        CheckpointError: the policy does not name this log's key.
        LogError: the store failed, or is not the one that was signed before.
    """
    note = log.sign(signer)
    have = {one.name for one in policy.open(note).cosignatures}
    todo = [witness for witness in policy.witnesses if witness.key.name not in have]
    with ThreadPoolExecutor(max_workers=max(1, len(todo))) as pool:
        asked = list(pool.map(lambda one: _ask(log, note, policy, one, connect(one)), todo))
    lines = "".join(line for _, line in asked)
    if lines:
        note += lines
        log.keep(note)
    answers = [Answer(one.name, Said.COSIGNED) for one in policy.witnesses if one not in todo]
    return Published(policy.open(note), (*answers, *(answer for answer, _ in asked)))


def _ask(
    log: Log, note: str, policy: Policy, witness: Witness, asking: Asking | None
) -> tuple[Answer, str]:
    """The answer, and the witness's signature line if it cosigned."""
    if asking is None:
        return Answer(witness.name, Said.NO_ADDRESS, "the policy gives no address"), ""
    head = Checkpoint.parse(note_text(note))
    before = log.witnessed(witness.key.name)
    least = 0 if before is None else Checkpoint.parse(note_text(before)).size
    old = least
    try:
        # Twice: the first answer may be the size that the witness has.
        for _ in range(2):
            proof = log.consistency(old, head.size)
            reply = asking.add_checkpoint(AddCheckpoint(old, proof, note).encode())
            if reply.status != 409:
                break
            size = reply.body.strip()
            if not size.isascii() or not size.isdigit() or len(size) > 19:
                return Answer(witness.name, Said.REFUSED, "its size is no number"), ""
            old = int(size)
            if old > head.size:
                return _compare(log, note, policy, witness, asking), ""
            if old < least and before is not None:
                reason = f"it cosigned {least} entries and now knows of {old}"
                found = Answer(witness.name, Said.WITNESS_ROLLED_BACK, reason, (before,))
                return found, ""
        if reply.status == 200:
            return _take(log, note, witness, reply.body)
        if reply.status == 422:
            return _compare(log, note, policy, witness, asking), ""
    except UnreachableError as error:
        return Answer(witness.name, Said.UNREACHABLE, error.message), ""
    return Answer(witness.name, Said.REFUSED, f"{reply.status}: {reply.body.strip()[:200]}"), ""


def _take(log: Log, note: str, witness: Witness, lines: str) -> tuple[Answer, str]:
    try:
        mine = "".join(
            signature_line(name, signature)
            for name, signature in signature_lines(lines)
            if (name, signature[:4]) == (witness.key.name, witness.key.key_id)
        )
        found = witness.key.find(note + mine) if mine else None
    except CheckpointError as error:
        return Answer(witness.name, Said.REFUSED, error.message), ""
    if found is None:
        return Answer(witness.name, Said.REFUSED, "it did not sign with the policy's key"), ""
    log.keep_witnessed(witness.key.name, note + mine)
    return Answer(witness.name, Said.COSIGNED), mine


def _compare(log: Log, note: str, policy: Policy, witness: Witness, asking: Asking) -> Answer:
    """Why a witness refuses to go on from its tree: what it holds is the evidence."""
    head = Checkpoint.parse(note_text(note))
    reply = asking.checkpoint(hashlib.sha256(head.origin.encode()).hexdigest())
    try:
        theirs = policy.open(reply.body).checkpoint
    except CheckpointError:
        return Answer(witness.name, Said.REFUSED, "it refuses, and shows no checkpoint of this log")
    if theirs.size > head.size:
        reason = f"it holds {theirs.size} signed entries and this store only {head.size}"
        return Answer(witness.name, Said.LOG_ROLLED_BACK, reason, (reply.body, note))
    if log.root(theirs.size) == theirs.root:
        return Answer(witness.name, Said.REFUSED, "it refuses a proof of the tree that it holds")
    reason = f"it holds another tree of {theirs.size} entries, signed with this log's key"
    return Answer(witness.name, Said.SPLIT_VIEW, reason, (reply.body, note))
