"""From a recorded answer to a task that can be re-executed, or to why it cannot."""

from __future__ import annotations

from tidegate.record.entries import params_of
from tidegate.sampling.seed import sub_seed
from tidegate.verify.record_findings import Finding, Kind
from tidegate.verify.record_response import Response
from tidegate.verify.record_seal import Opener, Seeds, open_private
from tidegate.verify.replay_answer import Task
from tidegate.verify.replay_findings import Found, ReplayKind, found, of_record


def task_of(
    response: Response, *, vocab_size: int, opener: Opener | None = None, seeds: Seeds | None = None
) -> Task | Found:
    """What re-executing an answer takes.

    1. The stack has as many words as the verifier's model.
    2. Nothing was drawn from that is not in the record: reasoning, or an unnamed draft.
    3. What is private opens, and its seed is the one committed to (and, with the seed key, the one
       that request, prompt, parameters and user seed give).
    """
    number, begin = response.number, response.begin
    if response.stack.vocabulary != vocab_size:
        reason = f"The stack has {response.stack.vocabulary} words, the verifier's {vocab_size}."
        return found(Kind.WRONG_TOKENIZER, reason, number)
    if begin.reasons or begin.recalls:
        reason = "Reasoning that stayed inside precedes the answer; only a replay there can follow."
        return found(ReplayKind.NOT_FOLLOWED, reason, number)
    candidate = 0 if response.prefill is None else response.prefill.candidate
    if candidate >= begin.candidates:
        return found(Kind.CORRUPT, "The draft that won is none of those made.", number)
    if begin.candidates > 1 and response.prefill is None:
        reason = "The record does not say which draft won."
        return found(ReplayKind.NOT_FOLLOWED, reason, number)
    private = open_private(begin, number, opener, seeds)
    if isinstance(private, Finding):
        return of_record(private)
    return Task(
        response=number,
        digest=response.digest,
        prompt=private.prompt,
        tokens=response.tokens,
        seed=sub_seed(private.seed, "candidate", candidate),
        params=params_of(begin).canonical(),
        max_tokens=begin.max_tokens,
        ignore_eos=begin.ignore_eos,
        stop=private.stop,
        reason=response.end.reason,
    )
