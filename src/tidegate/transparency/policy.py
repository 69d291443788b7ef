"""Who is trusted for a log: its keys, its witnesses, and how many of them it takes. Pure.

Format: C2SP tlog-policy (https://c2sp.org/tlog-policy): lines `log`, `witness`, `group`, `quorum`.
N of M witnesses is `group trio 2 w1 w2 w3` and `quorum trio`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tidegate.transparency.cosign import Cosignature, WitnessKey
from tidegate.transparency.errors import CheckpointError, LogError
from tidegate.transparency.note import Checkpoint, Verifier, opened_by

MAX_POLICY_BYTES = 1 << 20
NONE = "none"


class PolicyError(LogError):
    """A policy is malformed: nobody would know whom to trust."""

    code = "log_policy"


@dataclass(frozen=True, slots=True)
class TrustedLog:
    """A log's key, whose name is the log's origin; `url` is where its tiles are."""

    key: Verifier
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness: `name` is the policy's word for it, `url` its submission and monitoring prefix."""

    name: str
    key: WitnessKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """At least `needed` of `members`, which are witnesses or groups, must have cosigned."""

    name: str
    needed: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A note under a policy: signed by its log, and by whom else.

    `quorum` is whether those are enough. If not, nobody but the log says that this is the one
    history it shows.
    """

    checkpoint: Checkpoint
    note: str
    cosignatures: tuple[Cosignature, ...]
    quorum: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """What is trusted. `quorum` names a witness or a group, or is `none`."""

    logs: tuple[TrustedLog, ...]
    witnesses: tuple[Witness, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = NONE

    def satisfied(self, cosigned: Collection[str]) -> bool:
        """Whether witnesses of these names (the policy's words) make the quorum."""
        seen = set(cosigned) & {witness.name for witness in self.witnesses}
        for group in self.groups:
            if sum(member in seen for member in group.members) >= group.needed:
                seen.add(group.name)
        return self.quorum == NONE or self.quorum in seen

    def log(self, origin: str) -> TrustedLog | None:
        """The log of that origin; None if it is not trusted."""
        return next((log for log in self.logs if log.key.name == origin), None)

    def open(self, note: str) -> Opened:
        """Read a checkpoint as this policy sees it.

        Raises:
            CheckpointError: malformed, of no trusted log, not rightly signed by it, or with a wrong
                cosignature under a known witness's name.
        """
        origin = note.partition("\n")[0]
        logs = [log for log in self.logs if log.key.name == origin]
        if not logs:
            raise CheckpointError("The checkpoint is of a log that the policy does not name.")
        checkpoint = opened_by([log.key for log in logs], note)
        found = {witness.name: witness.key.find(note) for witness in self.witnesses}
        names = [name for name, one in found.items() if one is not None]
        cosignatures = tuple(one for one in found.values() if one is not None)
        return Opened(checkpoint, note, cosignatures, self.satisfied(names))

    def encode(self) -> str:
        """The policy as text."""
        lines = [f"log {log.key.encode()} {log.url or ''}".rstrip() for log in self.logs]
        lines += [
            f"witness {w.name} {w.key.encode()} {w.url or ''}".rstrip() for w in self.witnesses
        ]
        lines += [f"group {g.name} {g.needed} {' '.join(g.members)}" for g in self.groups]
        return "\n".join([*lines, f"quorum {self.quorum}"]) + "\n"


def n_of(log: TrustedLog, witnesses: tuple[Witness, ...], needed: int) -> Policy:
    """The policy that asks for `needed` of `witnesses`. Raises PolicyError if there are fewer."""
    if needed == 0:
        return Policy((log,), witnesses)
    if not 0 < needed <= len(witnesses):
        raise PolicyError(f"{needed} of {len(witnesses)} witnesses cannot be had.")
    names = tuple(witness.name for witness in witnesses)
    return Policy((log,), witnesses, (Group("quorum-group", needed, names),), "quorum-group")


def parse(text: str) -> Policy:
    """Read a policy.

    Raises:
        PolicyError: a line that the format does not know, a name that is defined twice or not
            before it is used, one key under two names, or not exactly one quorum.
    """
    if len(text.encode()) > MAX_POLICY_BYTES:
        raise PolicyError("The policy is too large.")
    reader = _Reader()
    for number, line in enumerate(text.split("\n"), 1):
        words = line.replace("\t", " ").split()
        if words and not words[0].startswith("#"):
            try:
                reader.take(words)
            except (CheckpointError, PolicyError) as error:
                raise PolicyError(f"Line {number} of the policy: {error.message}") from error
    if reader.quorum is None:
        raise PolicyError("A policy ends with one `quorum` line; `quorum none` asks for nobody.")
    return Policy(tuple(reader.logs), tuple(reader.witnesses), tuple(reader.groups), reader.quorum)


class _Reader:
    def __init__(self) -> None:
        self.logs: list[TrustedLog] = []
        self.witnesses: list[Witness] = []
        self.groups: list[Group] = []
        self.quorum: str | None = None
        self._names: set[str] = set()
        self._used: set[str] = set()
        self._keys: set[bytes] = set()

    def take(self, words: list[str]) -> None:
        match words:
            case ["log", key, *url] if len(url) <= 1:
                log = TrustedLog(Verifier.parse(key), url[0] if url else None)
                self._fresh_key(log.key.public_key)
                self.logs.append(log)
            case ["witness", name, key, *url] if len(url) <= 1:
                self._fresh_name(name)
                witness = Witness(name, WitnessKey.parse(key), url[0] if url else None)
                self._fresh_key(witness.key.public_key)
                self.witnesses.append(witness)
            case ["group", name, needed, *members] if members:
                self._group(name, needed, tuple(members))
            case ["quorum", name] if self.quorum is None:
                if name != NONE and name not in self._names:
                    raise PolicyError(f"{name} is not defined before it is used.")
                self.quorum = name
            case _:
                raise PolicyError("this is no log, witness, group, or first quorum line.")

    def _group(self, name: str, needed: str, members: tuple[str, ...]) -> None:
        for member in members:
            if member not in self._names:
                raise PolicyError(f"{member} is not defined before it is used.")
            # So that nobody counts twice.
            if member in self._used:
                raise PolicyError(f"{member} is in two groups, or twice in one.")
            self._used.add(member)
        self._fresh_name(name)
        words = {"all": len(members), "any": 1}
        count = words.get(needed) or (int(needed) if needed.isascii() and needed.isdigit() else 0)
        if not 1 <= count <= len(members):
            raise PolicyError(f"a group needs all, any, or 1 to {len(members)} of its members.")
        self.groups.append(Group(name, count, members))

    def _fresh_name(self, name: str) -> None:
        if name in self._names or name == NONE:
            raise PolicyError(f"{name} is defined twice.")
        self._names.add(name)

    def _fresh_key(self, key: bytes) -> None:
        if key in self._keys:
            raise PolicyError("one key stands under two names.")
        self._keys.add(key)
