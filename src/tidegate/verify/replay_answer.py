"""Re-executes one answer: every token drawn again from its seed, and its end decided again.

1. The finish rules run over the tokens: an answer ends where and why they say, not elsewhere.
2. The model scores the answer in one forced pass, a bounded number of rows at a time.
3. Each row is filtered, shifted and drawn from as the inner half does it; the served token is
   compared with what that gives: equal, for an exact model, else scored.

Pure but for the model that is handed in.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np

from tidegate.errors import EngineError, ModelError
from tidegate.models.port import Tokenizer
from tidegate.models.replay_port import Replay
from tidegate.record.entries import Reason
from tidegate.sampling.finish import Limits, Progress, Rules, decide
from tidegate.sampling.params import SamplingParams
from tidegate.verify.bounds import Tolerance, surprisal
from tidegate.verify.replay_findings import Found, ReplayKind, found
from tidegate.verify.scores import DANGEROUS, TokenScores, score_tokens, tiers
from tidegate.verify.scores_margins import Scoring
from tidegate.verify.scores_rows import Draws
from tidegate.verify.sequential import Counts

EDGES: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Margins in nats between which mismatches are counted, for a picture."""

FLAGS: Final = 16
"""Flagged tokens of one answer that are named; the rest are counted."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How tokens are judged. `margin` in nats; `suspicious` and `dangerous` are the tolerated
    shares that the surprisal bound reckons with. Alarms go by tokens beyond `alarm_margin`. For an
    exact model only equality counts."""

    margin: float = 1e-6
    rank: int = 1
    alarm_margin: float = 1e-6
    suspicious: float = 0.0
    dangerous: float = 0.0
    sigma: float = 0.03


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer to re-execute. `seed` is the winning draft's own; `params` canonical bytes."""

    response: int
    digest: bytes
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    seed: bytes
    params: bytes
    max_tokens: int
    ignore_eos: bool
    stop: tuple[str, ...]
    reason: Reason


class Flag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token beyond the margin, or for an exact model another one. `margin` None: infinite."""

    token: int
    margin: float | None
    rank: int
    dangerous: bool


class Checked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What re-execution says of one answer; `digest` (hex) ties it to what the record said.

    `tokens` were scored; `mismatches` of them are not what the verifier draws; `edges` counts
    mismatches by margin, one bin more than `EDGES`. `value_bits` is Σ log2 |A|, `surprisal_bits`
    what the answer costs under the fixed law (None: unbounded), both 0 for an exact model.
    `watched`: as `counts`, at the margin that alarms go by.
    `ended`: the end was re-executed, so it says nothing of its own.
    """

    response: int
    digest: str
    tokens: int = 0
    mismatches: int = 0
    counts: Counts = Counts()
    watched: Counts = Counts()
    edges: tuple[int, ...] = (0,) * (len(EDGES) + 1)
    value_bits: float = 0.0
    surprisal_bits: float | None = 0.0
    ended: bool = False
    flags: tuple[Flag, ...] = ()
    findings: tuple[Found, ...] = ()


def recheck(task: Task, replay: Replay, tokenizer: Tokenizer, rule: Rule) -> Checked:
    """Re-execute an answer. What cannot be run is a finding, never an exception."""
    findings, ended = _ending(task, tokenizer)
    checked = Checked(response=task.response, digest=task.digest.hex(), ended=ended)
    outside = [n for n, token in enumerate(task.tokens) if token >= replay.vocab_size]
    if outside:
        reason = "There is no such token in the model's vocabulary."
        findings.append(found(ReplayKind.OTHER_TOKEN, reason, task.response, outside[0]))
    elif task.tokens:
        try:
            checked = _scored(task, replay, rule, checked)
        except (ModelError, EngineError) as error:
            findings.append(found(ReplayKind.REPLAY_FAILED, error.message, task.response))
    if replay.exact and checked.mismatches:
        first = checked.flags[0].token
        others = f", and {checked.mismatches - 1} more" if checked.mismatches > 1 else ""
        reason = f"Seed, parameters and the exact model give another token here{others}."
        findings.append(found(ReplayKind.OTHER_TOKEN, reason, task.response, first))
    return msgspec.structs.replace(checked, findings=tuple(findings))


def _ending(task: Task, tokenizer: Tokenizer) -> tuple[list[Found], bool]:
    """What is wrong with where an answer ends, and whether its end was re-executed."""
    limits = Limits(max_tokens=task.max_tokens, stop=task.stop, ignore_eos=task.ignore_eos)
    rules = Rules(limits, tokenizer.eos_ids, tokenizer.decode, text=False)
    progress = Progress()
    last = len(task.tokens) - 1
    whole = task.reason in (Reason.STOP, Reason.LENGTH)
    for place, token in enumerate(task.tokens):
        decision = decide(progress, token, rules)
        progress = decision.progress
        if decision.reason is not None and (place < last or whole):
            if place == last and decision.reason == task.reason.value:
                return [], True
            reason = f"By the finish rules the answer ends here with {decision.reason}."
            return [found(ReplayKind.OTHER_END, reason, task.response, place)], False
    if whole:
        reason = "By the finish rules the answer goes on here."
        return [found(ReplayKind.OTHER_END, reason, task.response, max(last, 0))], False
    return [], False


def _scored(task: Task, replay: Replay, rule: Rule, checked: Checked) -> Checked:
    params = SamplingParams.from_canonical(task.params)
    tolerance = Tolerance(
        suspicious=rule.suspicious,
        dangerous=rule.dangerous,
        rank=rule.rank,
        vocab_size=replay.vocab_size,
    )
    scoring = Scoring(margins=(rule.margin,), sigma=rule.sigma)
    start = 0
    for logits_TV in replay.pieces(task.prompt, task.tokens):
        served = task.tokens[start : start + len(logits_TV)]
        scores = score_tokens(
            logits_TV,
            served,
            params,
            Draws.along(task.seed, len(served), start),
            scoring=scoring,
            prompt_ids=task.prompt,
            output_ids=task.tokens,
            start=start,
        )
        checked = _added(checked, scores, np.array(served), rule, tolerance, start, replay.exact)
        start += len(served)
    return checked


def _added(
    checked: Checked,
    scores: TokenScores,
    served_T: np.ndarray[tuple[int], np.dtype[np.int64]],
    rule: Rule,
    tolerance: Tolerance,
    start: int,
    exact: bool,
) -> Checked:
    other_T = scores.expected_T != served_T
    tier_T = tiers(scores, rule.margin, rule.rank)
    flagged_N = np.flatnonzero(other_T if exact else tier_T > 0)
    named = flagged_N[: FLAGS - len(checked.flags)]
    flags = tuple(
        Flag(
            start + int(place),
            float(scores.margin_T[place]) if math.isfinite(scores.margin_T[place]) else None,
            int(scores.logit_rank_T[place]),
            bool(tier_T[place] == DANGEROUS),
        )
        for place in named
    )
    bins_N = np.searchsorted(EDGES, scores.margin_T[other_T])
    edges_E = np.bincount(bins_N, minlength=len(EDGES) + 1)
    bits, cost = 0.0, checked.surprisal_bits
    if not exact:
        bits = float(np.log2(np.maximum(scores.admissible_MT[0], 1)).sum())
        total = float(surprisal(scores, tolerance).sum())
        cost = cost + total if cost is not None and math.isfinite(total) else None
    return msgspec.structs.replace(
        checked,
        tokens=checked.tokens + len(served_T),
        mismatches=checked.mismatches + int(np.count_nonzero(other_T)),
        counts=checked.counts.plus(Counts.of(tier_T)),
        watched=checked.watched.plus(Counts.of(tiers(scores, rule.alarm_margin, rule.rank))),
        edges=tuple(int(a + b) for a, b in zip(checked.edges, edges_E, strict=True)),
        value_bits=checked.value_bits + bits,
        surprisal_bits=cost,
        flags=checked.flags + flags,
    )
