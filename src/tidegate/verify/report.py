"""What a verification came to, as one value: the outcome, the counts, the bound, the findings.

Everything a machine reads (`json`, `report_sarif`, `report_ocsf`) and everything shown to people is
made from it. Numbers are finite or absent.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tidegate.verify.bounds import Tolerance
from tidegate.verify.calibrate import Point
from tidegate.verify.outcome import CannotVerify, Fail, Outcome, Pass
from tidegate.verify.record_findings import Summary
from tidegate.verify.replay_answer import EDGES
from tidegate.verify.replay_findings import Found
from tidegate.verify.replay_tally import FlaggedToken, Tally
from tidegate.verify.report_scopes import Scope, Stakes, bound_of, scopes
from tidegate.verify.selection import Policy
from tidegate.verify.selection_plan import needed
from tidegate.verify.sequential_monitor import judge

SURE: Final = 0.99
"""Confidence at which the report says how much can have escaped selection."""
_EVIDENCE: Final = 16


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What did the checking: the verifier's model, and how answers were drawn.

    `keys` reveals the selection by epoch (hex), so that anybody can draw again; none of an epoch
    that may still grow, and none where all were taken.
    """

    record: str
    model: str
    fingerprint: str
    numerics: str
    exact: bool
    rate: str
    by: str
    keys: dict[int, str]
    profile: str


class Leak(msgspec.Struct, frozen=True, kw_only=True):
    """Bits a verified token that may still hide, by where, and the bound they add up to.

    `choice_bits` is which of several drafts won. `share` is of log2 V. `surprisal_bits` is the
    other bound, in bits a token under one fixed law; None where it is not bounded.
    """

    value_bits: float
    flagged_bits: float
    position_bits: float
    length_bits: float
    choice_bits: float
    bits_a_token: float
    share: float
    surprisal_bits: float | None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome: `pass`, `fail` or `cannot_verify`, with what it shows and what it does not."""

    outcome: str
    reason: str
    evidence: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. `kinds` counts all findings by name, `findings` holds the first thousand.

    `mismatch_margins` counts tokens that re-execution draws otherwise, by margin up to each of
    `margin_edges` and beyond. `curve`: tokens scored and, for a profile, the fleet's log10 e-value,
    else mismatches so far.
    """

    tool: str
    version: str
    outcome: Told
    verified: Verified
    entries: int
    signed: int
    root: str
    responses: int
    tokens: int
    selected_responses: int
    selected_tokens: int
    replayed: int
    scored_tokens: int
    mismatches: int
    safe: int
    suspicious: int
    dangerous: int
    match_rate: float | None
    leak: Leak | None
    scopes: tuple[Scope, ...]
    """The replica, then its principals, those that could carry most a token first."""
    escapes: int | None
    """Deviating units (tokens or messages, as drawn by) that go undrawn with at most 1%."""
    margin_edges: tuple[float, ...]
    mismatch_margins: tuple[int, ...]
    curve: tuple[tuple[int, float], ...]
    kinds: dict[str, int]
    findings: tuple[Found, ...]
    flagged: tuple[FlaggedToken, ...]

    def json(self) -> bytes:
        """One JSON object, without NaN or infinity."""
        return msgspec.json.encode(self)


def report_of(
    tally: Tally,
    summary: Summary,
    verified: Verified,
    policy: Policy,
    *,
    version: str,
    vocab_size: int,
    point: Point | None,
    fraction: float,
    kept: bool,
    stakes: Stakes,
) -> Report:
    """The report of a finished run.

    `point`: the operating point of the noise profile; None for an exact model, or where there is no
    profile, which no float model passes without. `fraction`: the smallest share of deviating tokens
    that a pass has to speak about. `kept`: whether checkpoints kept elsewhere were compared.
    `stakes`: what days to exfiltrate are reckoned with.
    """
    outcome = _outcome(tally, verified, policy, fraction=fraction, kept=kept)
    seen = tally.carried.scored
    tolerance = _tolerance(verified.exact, point, vocab_size)
    return Report(
        tool="tidegate verify",
        version=version,
        outcome=_told(outcome),
        verified=verified,
        entries=summary.entries,
        signed=summary.signed,
        root=summary.root,
        responses=tally.responses,
        tokens=tally.tokens,
        selected_responses=tally.selected_responses,
        selected_tokens=tally.selected_tokens,
        replayed=tally.replayed,
        scored_tokens=seen,
        mismatches=tally.carried.mismatches,
        safe=tally.counts.safe,
        suspicious=tally.counts.suspicious,
        dangerous=tally.counts.dangerous,
        match_rate=1 - tally.carried.mismatches / seen if seen else None,
        leak=None if tolerance is None or not seen else _leak(tally, tolerance),
        scopes=() if tolerance is None else scopes(tally, verified.record, tolerance, stakes),
        escapes=_escapes(policy),
        margin_edges=EDGES,
        mismatch_margins=tuple(tally.edges),
        curve=tuple(tally.curve.points),
        kinds=dict(sorted(tally.kinds.items())),
        findings=tuple(tally.findings),
        flagged=tuple(tally.flagged),
    )


def _outcome(
    tally: Tally, verified: Verified, policy: Policy, *, fraction: float, kept: bool
) -> Outcome:
    """Fail on anything conclusive; CannotVerify on any other finding, or too little; else Pass."""
    if tally.conclusive:
        bad = [finding for finding in tally.findings if finding.conclusive]
        total = sum(tally.kinds.values())
        named = ", ".join(dict.fromkeys(finding.kind for finding in bad))
        return Fail(
            reason=f"{named} ({total} finding{'s' if total > 1 else ''} in all)",
            evidence=tuple(_line(finding) for finding in bad[:_EVIDENCE]),
        )
    if tally.kinds:
        named = ", ".join(f"{kind} ({count})" for kind, count in sorted(tally.kinds.items()))
        return CannotVerify(reason=f"something is open: {named}")
    scored = tally.carried.scored
    if not scored:
        return CannotVerify(reason="no token was re-executed")
    limits = _limits(policy, kept)
    if verified.exact:
        return Pass(
            claim=f"all {scored:,} tokens of {tally.replayed:,} answers, and where they end, "
            "are what seed, parameters and the exact model give",
            limits=limits,
        )
    if tally.monitor is None or tally.null is None:
        return CannotVerify(
            reason="a float model's tokens prove nothing without a noise profile of the two "
            "stacks: --profile; make one from honest answers with --make-profile"
        )
    outcome = judge(tally.monitor, tuple(tally.alarms), null=tally.null, fraction=fraction)
    if isinstance(outcome, Pass):
        return Pass(claim=outcome.claim, limits=(*outcome.limits, *limits))
    return outcome


def _limits(policy: Policy, kept: bool) -> tuple[str, ...]:
    limits = ["answers that were never recorded; order, chunking and timing of what was sent"]
    escapes = _escapes(policy)
    if escapes is not None:
        limits.append(
            f"deviations on fewer than {escapes:,} {policy.by}s, which escape selection with more "
            f"than {1 - SURE:.0%}"
        )
    elif policy.rate < 1:
        limits.append("everything: no answer was to be drawn")
    if not kept:
        limits.append(
            "a record that was rewritten with its own key, or cut at its end: no checkpoint kept "
            "elsewhere was compared (--kept)"
        )
    return tuple(limits)


def _escapes(policy: Policy) -> int | None:
    return None if policy.rate == 1 else needed(float(policy.rate), SURE)


def _tolerance(exact: bool, point: Point | None, vocab_size: int) -> Tolerance | None:
    """What is tolerated; None for a float model unprofiled, which nothing bounds."""
    if exact:
        return Tolerance(suspicious=0.0, dangerous=0.0, rank=1, vocab_size=vocab_size)
    return None if point is None else tolerance_of(point, vocab_size)


def _leak(tally: Tally, tolerance: Tolerance) -> Leak:
    bound = bound_of(tally.carried, tolerance)
    cost = tally.surprisal_bits
    return Leak(
        value_bits=bound.value_bits,
        flagged_bits=bound.flagged_bits,
        position_bits=bound.position_bits,
        length_bits=bound.length_bits,
        choice_bits=bound.choice_bits,
        bits_a_token=bound.bits_a_token,
        share=bound.share,
        surprisal_bits=None if cost is None else cost / tally.carried.scored,
    )


def tolerance_of(point: Point, vocab_size: int) -> Tolerance:
    """The shares a calibrated point must tolerate: the upper ends of its rates."""
    dangerous = point.dangerous.upper
    return Tolerance(
        suspicious=min(point.suspicious.upper, 1 - dangerous),
        dangerous=dangerous,
        rank=point.rank,
        vocab_size=vocab_size,
    )


def _told(outcome: Outcome) -> Told:
    if isinstance(outcome, Pass):
        return Told(outcome="pass", reason=outcome.claim, limits=outcome.limits)
    if isinstance(outcome, Fail):
        return Told(outcome="fail", reason=outcome.reason, evidence=outcome.evidence)
    return Told(outcome="cannot_verify", reason=outcome.reason)


def _line(finding: Found) -> str:
    where = finding.where()
    return f"{finding.kind}: {finding.reason}" + (f" ({where})" if where else "")


def exit_status(report: Report) -> int:
    """0 pass, 1 fail, 2 cannot verify."""
    return {"pass": 0, "fail": 1}.get(report.outcome.outcome, 2)
