"""Findings from what was tallied: one a principal and a thing, with how often and from when."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from tidegate.audit.conclude_logs import moment
from tidegate.audit.event import Place
from tidegate.audit.examine import Examiner
from tidegate.audit.findings import Evidence, Finding, Kind
from tidegate.audit.tally import Tally
from tidegate.record.sarif import Level

Shown = Callable[[Sequence[Place]], tuple[Evidence, ...]]


class Named(Protocol):
    """A source of lines."""

    @property
    def name(self) -> str: ...


_SENTENCES: Final = {
    Kind.READ_UNGRANTED: "{who} read {about} without ever having held a grant of it",
    Kind.READ_OUTSIDE: "{who} read {about} outside its lease, or shards not in its grant",
    Kind.DECRYPT_UNGRANTED: "{who} used the key of {about} with no grant released beside it",
    Kind.STORE_COPY: "{who} had the store copy shards of {about}",
    Kind.SHARED: "{who} opened {about} to others",
    Kind.PRESIGNED: "shards of {about} were read through a URL that {who} signed",
    Kind.CROSS_ACCOUNT: "{who} read {about} from another account",
    Kind.DOOR: "{who} opened a door into {about}",
    Kind.NEW_SOURCE: "{who} read {about} from a source that it had not used before",
    Kind.NEW_AGENT: "{who} read {about} with a program that it had not used before",
    Kind.NEW_PRINCIPAL: "{who}, never seen before, read {about}",
    Kind.LOGGING_OFF: "{who} switched logging off or cut it down: {about}",
    Kind.UNREADABLE: "{about}",
    Kind.UNKNOWN_OPERATION: "{who}: an operation unknown to the audit, on {about}",
    Kind.SIGMA: "{about}: {who}",
}
_ASSUMED: Final = {
    Kind.READ_UNGRANTED: "The journal is whole, and the models file says which principal is whose.",
    Kind.READ_OUTSIDE: "The clocks of store and broker differ by no more than --skew.",
    Kind.DECRYPT_UNGRANTED: "The models file names every broker; a release unwraps each key once.",
    Kind.STORE_COPY: "The models file names every place where copies may lie.",
    Kind.NEW_SOURCE: "What the principal used in its first days is its own.",
    Kind.NEW_AGENT: "What it used in its first days is its own; agents are easily forged.",
    Kind.NEW_PRINCIPAL: "The logs begin before the account was made.",
    Kind.CROSS_ACCOUNT: "The log names the accounts of caller and owner.",
}
_DETAILS: Final = {
    Kind.READ_UNGRANTED: "shards",
    Kind.READ_OUTSIDE: "shards",
    Kind.DECRYPT_UNGRANTED: "by",
    Kind.STORE_COPY: "to",
    Kind.SHARED: "by",
    Kind.CROSS_ACCOUNT: "account",
    Kind.DOOR: "by",
    Kind.NEW_SOURCE: "source",
    Kind.NEW_AGENT: "program",
    Kind.NEW_PRINCIPAL: "from",
    Kind.LOGGING_OFF: "outcome",
    Kind.UNKNOWN_OPERATION: "by",
}


def tally_findings(examined: Examiner, sources: Sequence[Named], shown: Shown) -> Iterator[Finding]:
    """One finding a tally, and one for what there was no room for."""
    for (kind, who, about), tally in examined.tallies.of.items():
        if kind is Kind.UNREADABLE:
            number = tally.places[0].source
            yield _finding(kind, "", f"{sources[number].name}: {about}", tally, shown)
        elif kind is Kind.UNKNOWN_OPERATION and about == "no model we know":
            yield _finding(kind, who, "nothing that the models file names", tally, shown, "note")
        else:
            level = examined.rules[about] if kind is Kind.SIGMA else _level(kind, tally)
            yield _finding(kind, who, about, tally, shown, level)
    for kind, count in examined.tallies.beyond.items():
        yield Finding(
            kind=Kind.OVERFLOW,
            about=kind,
            text=f"{count:,} events would have been further findings of the kind {kind}",
            time=examined.last,
        )


def _level(kind: Kind, tally: Tally) -> Level | None:
    refused = kind is Kind.LOGGING_OFF and "done" not in tally.detail
    return "warning" if refused else None


def _finding(
    kind: Kind, who: str, about: str, tally: Tally, shown: Shown, level: Level | None = None
) -> Finding:
    text = _SENTENCES[kind].format(who=who, about=about)
    times = "" if kind is Kind.UNREADABLE else f", {_when(tally)}"
    size = f", {tally.size:,} bytes" if tally.size else ""
    often = "once" if tally.count == 1 else f"{tally.count:,} times"
    assumed = _ASSUMED.get(kind)
    return Finding(
        kind=kind,
        who=who,
        about=about,
        text=f"{text}: {often}{size}{times}{_with(kind, tally)}",
        time=tally.first,
        level=level,
        evidence=shown(tally.evidence()),
        assumptions=(assumed,) if assumed else (),
        figures={
            "count": tally.count,
            "bytes": tally.size,
            "first": tally.first,
            "last": tally.last,
            "detail": dict(tally.detail),
        },
    )


def _when(tally: Tally) -> str:
    first, last = moment(tally.first), moment(tally.last)
    return first if tally.count == 1 else f"{first} to {last}"


def _with(kind: Kind, tally: Tally) -> str:
    word = _DETAILS.get(kind)
    if not tally.detail or word is None:
        return ""
    often = sorted(tally.detail.items(), key=lambda item: (-item[1], item[0]))
    told = ", ".join(name for name, _ in often[:5])
    more = f" and {len(often) - 5} more" if len(often) > 5 else ""
    return f" ({word}: {told}{more})"
