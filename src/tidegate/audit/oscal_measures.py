"""What evidence says about a claim: a measured value, and one of three outcomes.

A measure that lacks its evidence cannot verify; it never passes for want of something bad to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from tidegate.audit.grants import Grant
from tidegate.audit.oscal_evidence import (
    Attested,
    Audited,
    Bench,
    Evidence,
    Kind,
    LogChecked,
    Logged,
    Verified,
    Word,
    of_kind,
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured. `value` is one line; `used` the files that it was read from."""

    outcome: Word
    value: str
    used: tuple[Evidence, ...] = ()


_Facts = TypeVar("_Facts")

Measure = Callable[[Sequence[Evidence]], Measured]

MIN_TEAMS: Final = 2
"""Dual authorization: two people, and here of two teams."""


_HOLDS: Final[dict[bool | None, Word]] = {True: "pass", False: "fail", None: "cannot_verify"}


def worst(outcomes: Sequence[Word]) -> Word:
    """Any failure fails; else anything unknown stays unknown; of nothing nobody can tell."""
    if "fail" in outcomes:
        return "fail"
    return "pass" if outcomes and "cannot_verify" not in outcomes else "cannot_verify"


def bench(name: str, *keys: str) -> Measure:
    """That a benchmark's figures meet their targets, all of `keys` being there."""

    def measure(evidence: Sequence[Evidence]) -> Measured:
        found = [pair for pair in _of(evidence, Kind.BENCH, Bench) if pair[1].name == name]
        if not found:
            return _missing(f"tidegate bench {name} --json")
        outcomes: list[Word] = []
        values: list[str] = []
        for key in keys:
            figures = [facts.figures[key] for _, facts in found if key in facts.figures]
            if not figures:
                outcomes.append("cannot_verify")
                values.append(f"{key}: not measured")
            for figure in figures:
                # A figure without a target was only reported: nothing says whether it will do.
                outcomes.append(_HOLDS[figure.holds])
                against = f", target {figure.target}" if figure.target else ""
                values.append(f"{key} = {figure.value:g} {figure.unit} (n = {figure.n}{against})")
        return Measured(worst(outcomes), "; ".join(values), tuple(one for one, _ in found))

    return measure


def uploads(evidence: Sequence[Evidence]) -> Measured:
    """That the upload ledger's checkpoints are in the log, and only ever grow."""
    used, outcomes, values = [], list[Word](), list[str]()
    for one, facts in _of(evidence, Kind.LOG, Logged):
        for origin, points in facts.uploads.items():
            used.append(one)
            sizes = [size for size, _ in points]
            bits = [spent for _, spent in points if spent is not None]
            grows = sizes == sorted(sizes) and bits == sorted(bits)
            outcomes.append("pass" if grows else "fail")
            spent = f", {bits[-1]:,} bits spent so far" if bits else ", bits spent not stated"
            shrinks = "" if grows else ", and it SHRINKS"
            values.append(
                f"{origin}: {len(points)} checkpoints, {sizes[-1]:,} entries{spent}{shrinks}"
            )
    if not values:
        return _missing("upload entries in tidegate log show --json")
    return Measured(worst(outcomes), "; ".join(values), tuple(dict.fromkeys(used)))


def releases(evidence: Sequence[Evidence]) -> Measured:
    """That every released key had approvals of two people of two teams, none the requester's."""
    used, outcomes, values = [], list[Word](), list[str]()
    for one, facts in _of(evidence, Kind.LOG, Logged):
        count = facts.kinds["release"]
        if not count:
            continue
        used.append(one)
        made = facts.journal.releases()
        bad = [grant for grant in made if not _dual(grant)]
        broken = facts.journal.forks or facts.journal.broken or facts.journal.missing
        # One grant gives keys once: a second release, or one without its request, is a lost one.
        lost = count - len(made)
        outcomes.append("fail" if bad or broken or lost else "pass")
        glass = sum(grant.break_glass for grant in made)
        values.append(
            f"{count} releases, of which {len(bad)} without two people of two teams and {lost} "
            f"without a grant of their own; break-glass: {glass}; refusals logged: "
            f"{len(facts.journal.refusals)}"
            + (", and the journal has forks or gaps" if broken else "")
        )
    if not values:
        return _missing("release entries in tidegate log show --json")
    return Measured(worst(outcomes), "; ".join(values), tuple(used))


def attested_releases(evidence: Sequence[Evidence]) -> Measured:
    """That every release names the hardware evidence that it was made on."""
    used, outcomes, values = [], list[Word](), list[str]()
    for one, facts in _of(evidence, Kind.LOG, Logged):
        made = facts.kinds["release"]
        if made:
            used.append(one)
            outcomes.append("pass" if facts.releases_attested == made else "fail")
            values.append(
                f"{facts.releases_attested} of {made} releases name their evidence's hash"
            )
    if not values:
        return _missing("release entries in tidegate log show --json")
    return Measured(worst(outcomes), "; ".join(values), tuple(used))


def appraisals(evidence: Sequence[Evidence]) -> Measured:
    """That the hardware evidence handed in was appraised and passed."""
    found = _of(evidence, Kind.ATTEST, Attested)
    if not found:
        return _missing(Kind.ATTEST)
    values = [
        f"{facts.kind} as of {facts.at}: {facts.outcome}, {len(facts.checks)} checks"
        for _, facts in found
    ]
    outcome = worst([facts.outcome for _, facts in found])
    return Measured(outcome, "; ".join(values), tuple(one for one, _ in found))


def log_whole(evidence: Sequence[Evidence]) -> Measured:
    """That the transparency log was recomputed, against its signed and witnessed checkpoint."""
    found = _of(evidence, Kind.LOG_CHECK, LogChecked)
    if not found:
        return _missing(Kind.LOG_CHECK)
    values = [facts.claim or f"{facts.outcome}: {facts.reason}" for _, facts in found]
    outcomes = [facts.outcome for _, facts in found]
    if any(facts.outcome == "pass" and not facts.witnesses for _, facts in found):
        # Whole by its owner's word alone: whoever has its key can make it anew.
        outcomes.append("cannot_verify")
        values.append("no witness cosigned")
    return Measured(worst(outcomes), "; ".join(values), tuple(one for one, _ in found))


def approvals_signed(evidence: Sequence[Evidence]) -> Measured:
    """That every approval in the log carries its hardware key's signature."""
    used, outcomes, values = [], list[Word](), list[str]()
    for one, facts in _of(evidence, Kind.LOG, Logged):
        if facts.approvals:
            used.append(one)
            outcomes.append("pass" if facts.approvals_signed == facts.approvals else "fail")
            values.append(f"{facts.approvals_signed} of {facts.approvals} approvals are signed")
    if not values:
        return _missing("approvals in tidegate log show --json")
    return Measured(worst(outcomes), "; ".join(values), tuple(used))


def reads_settled(evidence: Sequence[Evidence]) -> Measured:
    """That the access logs show no read, decrypt or copy of weights beside what was granted."""
    found = _of(evidence, Kind.AUDIT, Audited)
    if not found:
        return _missing(Kind.AUDIT)
    outcomes, values = list[Word](), list[str]()
    for _, facts in found:
        grave = Counter(one.kind for one in facts.findings if one.level == "error")
        open_ = Counter(one.kind for one in facts.findings if one.kind in _OPEN)
        outcomes.append("fail" if grave else "cannot_verify" if open_ else "pass")
        shares = [
            one.most_bytes / one.model_bytes
            for one in facts.coverage
            if not one.under_grant and one.model_bytes
        ]
        most = f"{max(shares):.2%}" if shares else "none"
        told = ", ".join(f"{kind} ({count})" for kind, count in sorted((grave + open_).items()))
        values.append(
            f"{facts.events:,} events; most of a model that one principal read outside grants: "
            f"{most}; findings: {told or 'none that is grave'}"
        )
    return Measured(worst(outcomes), "; ".join(values), tuple(one for one, _ in found))


def reexecuted(evidence: Sequence[Evidence]) -> Measured:
    """That answers were re-executed, and how many bits a token could still have hidden."""
    found = _of(evidence, Kind.VERIFY, Verified)
    if not found:
        return _missing(Kind.VERIFY)
    outcomes, values = list[Word](), list[str]()
    for _, facts in found:
        # Without a bound nobody estimated the channel, whatever else was found to be in order.
        bounded = (
            facts.outcome.outcome if facts.leak else worst([facts.outcome.outcome, "cannot_verify"])
        )
        outcomes.append(bounded)
        leak = (
            f"at most {facts.leak.bits_a_token:.3g} bits a token ({facts.leak.share:.3%} of what a "
            "token can hold)"
            if facts.leak
            else "no bound"
        )
        values.append(
            f"{facts.outcome.outcome}: {facts.scored_tokens:,} of {facts.tokens:,} tokens "
            f"re-executed, {facts.mismatches:,} differ; {leak}"
        )
    return Measured(worst(outcomes), "; ".join(values), tuple(one for one, _ in found))


_OPEN: Final = frozenset(
    {"log-gap", "no-data-events", "no-key-events", "no-grants-given", "unreadable-line"}
)
"""The audit's own words for what it could not see."""


def _of(
    evidence: Sequence[Evidence], kind: Kind, facts: type[_Facts]
) -> list[tuple[Evidence, _Facts]]:
    """The files of a kind, each with what it says."""
    return [(one, one.facts) for one in of_kind(evidence, kind) if isinstance(one.facts, facts)]


def _dual(grant: Grant) -> bool:
    people = {approval.by for approval in grant.approvals}
    teams = {approval.team for approval in grant.approvals}
    return len(people) >= MIN_TEAMS and len(teams) >= MIN_TEAMS and grant.requester not in people


def _missing(what: str) -> Measured:
    return Measured("cannot_verify", f"not measured: no {what} was given")
