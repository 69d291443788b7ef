"""A witness at work: it decides, writes durably, and only then cosigns."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence

from tidegate.clock import Clock
from tidegate.transparency.cosign import Cosigner
from tidegate.transparency.errors import CheckpointError, MovedError, WitnessError
from tidegate.transparency.note import Checkpoint, Verifier, note_text, signature_lines
from tidegate.transparency.witness import (
    SIZE_TYPE,
    TEXT_TYPE,
    AddCheckpoint,
    Refuse,
    Reply,
    decide,
)
from tidegate.transparency.witness_anchor import Anchor, reconcile
from tidegate.transparency.witness_store import Seen, WitnessStore, next_mark


class WitnessService:
    """One witness. Safe to share between threads; the only user of its store.

    Args:
        cosigners: its keys, one or two (an Ed25519 one for those who cannot check ML-DSA yet).
        logs: the keys it trusts, by origin.
        store: what it remembers.
        anchor: see `witness_anchor`.
        clock: dates cosignatures; one that went back stops the witness.

    Raises:
        WitnessError: the memory cannot be read, or was rolled back.
    """

    def __init__(
        self,
        cosigners: Sequence[Cosigner],
        logs: Mapping[str, Sequence[Verifier]],
        store: WitnessStore,
        anchor: Anchor,
        clock: Clock,
    ) -> None:
        self._cosigners, self._logs = tuple(cosigners), dict(logs)
        self._store, self._anchor, self._clock = store, anchor, clock
        self._lock = threading.Lock()
        self._latest = max((seen.time for seen in store.all()), default=0)
        reconcile(store, anchor)

    def add_checkpoint(self, raw: bytes) -> Reply:
        """Answer one `add-checkpoint` request.

        Raises:
            WitnessError: the memory could not be written, or the clock went back. Nothing was
                cosigned.
        """
        try:
            asked = AddCheckpoint.parse(raw)
        except CheckpointError as error:
            return Reply(400, error.message + "\n")
        origin = asked.note.partition("\n")[0]
        with self._lock:
            # A write that failed may have been made, so the memory is looked at anew each time.
            reconcile(self._store, self._anchor)
            seen = self._store.seen(origin)
            kept = None if seen is None else Checkpoint.parse(note_text(seen.note))
            decided = decide(kept, asked, self._logs.get(origin, ()))
            if isinstance(decided, Refuse):
                if decided.split and kept is not None:
                    self._store.accuse(origin, asked.note)
                kind = SIZE_TYPE if decided.status == 409 else TEXT_TYPE
                return Reply(decided.status, decided.reason + "\n", kind)
            return self._cosign(origin, asked.note)

    def checkpoint(self, origin_hash: str) -> Reply:
        """The last cosigned checkpoint of the log whose origin has this SHA-256, in hex."""
        for seen in self._store.all():
            if hashlib.sha256(seen.origin.encode()).hexdigest() == origin_hash:
                return Reply(200, seen.note)
        return Reply(404, "no checkpoint of such a log was cosigned here\n")

    def _cosign(self, origin: str, note: str) -> Reply:
        now = int(self._clock.now())
        if now < self._latest:
            raise WitnessError(
                f"The clock stands {self._latest - now} s before the last cosignature, which says "
                "that nothing larger had been seen at its time. Set the clock right."
            )
        text = note_text(note)
        lines = "".join(one.cosign(text, now) for one in self._cosigners)
        seen = Seen(origin, _own(note, self._logs[origin]) + lines, now)
        before = self._store.mark()
        self._latest = now
        try:
            self._store.keep(before, seen)
        except MovedError as error:
            raise WitnessError("Somebody else writes to this witness's memory.") from error
        self._anchor.write(next_mark(before, seen))
        return Reply(200, lines)


def _own(note: str, keys: Sequence[Verifier]) -> str:
    """`note` with the signatures of the log's trusted keys only: nobody else's were checked."""
    text, _, lines = note.rpartition("\n\n")
    known = {(key.name, key.key_id) for key in keys}
    kept = [
        line + "\n"
        for line in lines.splitlines()
        if (signature := signature_lines(line + "\n")[0])
        and (signature[0], signature[1][:4]) in known
    ]
    return text + "\n\n" + "".join(kept)
