"""What an audit can find: each kind with its words, its gravity and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from tidegate.record.sarif import Level


class Kind(StrEnum):
    """A kind of finding; its value is the rule's id in SARIF and OCSF."""

    COVERAGE = "coverage"
    DRIP = "slow-drip"
    CLUSTER = "cluster-coverage"
    COMPLETE = "complete-set"
    COMPLETE_BY_GRANTS = "complete-set-by-grants"
    TIME_LEFT = "time-to-exfiltrate"
    READ_UNGRANTED = "read-without-grant"
    READ_OUTSIDE = "read-outside-lease"
    DECRYPT_UNGRANTED = "decrypt-without-grant"
    GRANT_UNREAD = "grant-without-read"
    SELF_APPROVED = "approver-is-requester"
    PAIR = "collusive-pair"
    RUBBER_STAMP = "rubber-stamp"
    BREAK_GLASS = "break-glass"
    FORKED = "forked-journal"
    JOURNAL_MISSING = "journal-entries-missing"
    STORE_COPY = "store-copy"
    SHARED = "shared-outside"
    PRESIGNED = "presigned-read"
    CROSS_ACCOUNT = "cross-account-read"
    DOOR = "door-opened"
    NEW_SOURCE = "new-source"
    NEW_AGENT = "new-agent"
    NEW_PRINCIPAL = "new-principal"
    LOGGING_OFF = "logging-disabled"
    GAP = "log-gap"
    NO_DATA_EVENTS = "no-data-events"
    NO_KEY_EVENTS = "no-key-events"
    NO_GRANTS = "no-grants-given"
    UNREADABLE = "unreadable-line"
    UNKNOWN_OPERATION = "unknown-operation"
    SIGMA = "sigma"
    OVERFLOW = "more-than-listed"


@dataclass(frozen=True, slots=True)
class Word:
    """What a kind means (for rule lists), how grave it is, and what whoever reads it should do."""

    text: str
    level: Level
    advice: str


WORDS: Final[Mapping[Kind, Word]] = MappingProxyType({
    Kind.COVERAGE: Word(
        "A principal has read a large part of a model outside any grant", "warning",
        "Ask the principal's owner what the reads were for. If nobody knows, revoke its "
        "credentials and treat the bytes it read as lost.",
    ),
    Kind.DRIP: Word(
        "A principal reads a little of a model day after day, and never the same", "error",
        "Who loads a model reads all of it, or the same parts again. Revoke the credentials, keep "
        "the logs, and look for what the same source did elsewhere.",
    ),
    Kind.CLUSTER: Word(
        "Principals that share a credential or a source have read much of a model", "error",
        "Find out who holds these accounts. One person behind several is the usual reason, and the "
        "bytes add up.",
    ),
    Kind.COMPLETE: Word(
        "The whole of a model was read outside any grant", "error",
        "Treat the model as copied: revoke, rotate the data keys, and find where the bytes went.",
    ),
    Kind.COMPLETE_BY_GRANTS: Word(
        "Grants for parts of a model make up the whole of it for one requester", "warning",
        "No single approval was for the whole model. Ask the approvers whether they would have.",
    ),
    Kind.TIME_LEFT: Word(
        "At its present rate a principal has the whole model soon", "error",
        "Stop it before then: revoke the credentials, or cap what the store serves to it.",
    ),
    Kind.READ_UNGRANTED: Word(
        "A model's shard was read by somebody who never held a grant of it", "error",
        "Either a path to the weights bypasses the vault, or somebody is not named in the models "
        "file's identities. Close the one, complete the other.",
    ),
    Kind.READ_OUTSIDE: Word(
        "A shard was read outside the lease, or a shard that the grant does not name", "error",
        "A lease binds honest software only. Revoke the store's access along with the lease, and "
        "re-seal the shards.",
    ),
    Kind.DECRYPT_UNGRANTED: Word(
        "A model's key was used with no release of a grant beside it", "error",
        "Whoever unwraps data keys opens shards. Rotate the key, and take its use away from all "
        "but the broker.",
    ),
    Kind.GRANT_UNREAD: Word(
        "Keys were released, and the logs show no read under that grant", "warning",
        "Either the reads are in a log that was not given, or keys are held that were not needed.",
    ),
    Kind.SELF_APPROVED: Word(
        "Somebody approved their own request", "error",
        "The broker refuses this. A journal that has it was not written by an honest broker.",
    ),
    Kind.PAIR: Word(
        "Two people approve each other's requests far more often than others'", "warning",
        "Have a third person review their grants, and draw approvers by lot.",
    ),
    Kind.RUBBER_STAMP: Word(
        "Approvals come within seconds of the request", "warning",
        "Nobody reads a request in that time. Ask the approver, and lower the number of requests.",
    ),
    Kind.BREAK_GLASS: Word(
        "Keys were released by break-glass", "warning", "Review it now, as was agreed.",
    ),
    Kind.FORKED: Word(
        "The grants' journal has two different entries under one number", "error",
        "The broker, or whoever keeps its journal, wrote two histories: this proves it. Stop "
        "releases.",
    ),
    Kind.JOURNAL_MISSING: Word(
        "Entries of the grants' journal are missing", "error",
        "Fetch the whole journal, and check it against the log's witnessed checkpoints.",
    ),
    Kind.STORE_COPY: Word(
        "The store itself copied a shard", "error",
        "The copy is outside the models file's places. Find it, delete it, or add its place.",
    ),
    Kind.SHARED: Word(
        "Others were given access to where a model lies, or copies from now on", "warning",
        "Look at the policy, replication, snapshot or key grant that was set, and undo it if "
        "nobody asked for it.",
    ),
    Kind.PRESIGNED: Word(
        "A shard was read through a signed URL, which anybody may hold", "error",
        "Rotate the credential that signed it, and forbid signed URLs on the bucket.",
    ),
    Kind.CROSS_ACCOUNT: Word(
        "A shard was read from another account than its owner's", "error",
        "Take the other account out of the bucket's policy, or name it in the models file.",
    ),
    Kind.DOOR: Word(
        "A shell, tunnel or proxy into where a model is used was opened", "warning",
        "What flowed through it is in no log. Ask who opened it.",
    ),
    Kind.NEW_SOURCE: Word(
        "A model was read from a source that this principal never used before", "warning",
        "Stolen credentials show first as a new source. Ask the owner; add own networks to the "
        "models file.",
    ),
    Kind.NEW_AGENT: Word(
        "A model was read with a program that this principal never used before", "note",
        "Weigh it with the other findings on the same principal.",
    ),
    Kind.NEW_PRINCIPAL: Word(
        "A principal that was never seen before read a model", "warning",
        "Find out who made the account and why.",
    ),
    Kind.LOGGING_OFF: Word(
        "Logging was switched off or cut down", "error",
        "Switch it on again, and treat everything until then as unlogged: what was read is "
        "unknown.",
    ),
    Kind.GAP: Word(
        "A log is silent where it never is", "warning",
        "Fetch the missing files. If there are none, what was read meanwhile is unknown.",
    ),
    Kind.NO_DATA_EVENTS: Word(
        "The logs hold no reads of objects at all", "error",
        "Switch on data events (CloudTrail: S3 object-level; GCS: DATA_READ; Azure: StorageRead). "
        "Until then no audit can say that nothing was read.",
    ),
    Kind.NO_KEY_EVENTS: Word(
        "The logs hold no use of keys at all", "warning",
        "Give the key service's audit log too: without it a decrypt outside a grant is not seen.",
    ),
    Kind.NO_GRANTS: Word(
        "No journal of grants was given, so nothing was reconciled", "note",
        "Give --grants. Until then every read counts as one without a grant.",
    ),
    Kind.UNREADABLE: Word(
        "Lines of a log could not be read", "warning",
        "Look at the lines: a torn file, another format, or somebody who writes into the log.",
    ),
    Kind.UNKNOWN_OPERATION: Word(
        "An operation on a model that the audit has no word for", "warning",
        "Look it up. If it can serve bytes, what it served is not counted in coverage.",
    ),
    Kind.SIGMA: Word("A Sigma rule matched", "warning", "See the rule."),
    Kind.OVERFLOW: Word(
        "There were more findings of a kind than are listed", "warning",
        "Give fewer logs at once, or the models and grants that explain most of them.",
    ),
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Evidence:
    """A line of a log that shows it: the source's name, and the line or record in it, from 1."""

    source: str
    unit: str
    line: int

    def __str__(self) -> str:
        return (
            f"{self.source}:{self.line}"
            if self.unit == "line"
            else (f"{self.source} {self.unit} {self.line}")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding.

    who: the principal or the cluster. about: the model, stream or grant. text: what happened, with
    its numbers. time: when what is logged first sufficed to say it (seconds since the epoch).
    figures: the numbers, for machines. assumptions: what must hold for it to be true.
    """

    kind: Kind
    text: str
    time: float
    who: str = ""
    about: str = ""
    level: Level | None = None
    evidence: tuple[Evidence, ...] = ()
    assumptions: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    advice: str = ""

    @property
    def gravity(self) -> Level:
        """Its own level, or its kind's."""
        return self.level or WORDS[self.kind].level

    @property
    def to_do(self) -> str:
        """What whoever reads it should do."""
        return self.advice or WORDS[self.kind].advice


ORDER: Final[Mapping[Level, int]] = MappingProxyType(
    {"error": 0, "warning": 1, "note": 2, "none": 3}
)
