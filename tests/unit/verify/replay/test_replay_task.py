"""What of a recorded answer can be followed, and why the rest cannot be verified."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from record_world import PARAMS, RecordWorld, beginning, read_all

from tidegate.record.entries import Begin
from tidegate.record.private import Private, binding, pack
from tidegate.sampling.seed import SeedService, commitment, sub_seed
from tidegate.verify.record_response import Response
from tidegate.verify.record_seal import Opener, SealTo
from tidegate.verify.replay_answer import Task
from tidegate.verify.replay_findings import Found
from tidegate.verify.replay_task import task_of

VOCABULARY = 96


@pytest.fixture(scope="module")
def response() -> Response:
    made = RecordWorld()
    made.answer("r1", (4, 5, 6))
    (only,), summary = read_all(made.store)
    assert summary.sound
    return only


def with_begin(response: Response, **changes: object) -> Response:
    return replace(response, begin=msgspec.structs.replace(response.begin, **changes))


def kind_of(response: Response, **more: object) -> str:
    found = task_of(response, vocab_size=VOCABULARY, **more)
    assert isinstance(found, Found)
    assert found.response == response.number
    return found.kind


def test_a_task_has_all_that_a_draw_hangs_on(response: Response):
    task = task_of(response, vocab_size=VOCABULARY)
    assert isinstance(task, Task)
    assert (task.prompt, task.tokens, task.stop) == ((1, 2, 3), (4, 5, 6), ("stop\n",))
    assert (task.params, task.max_tokens) == (PARAMS.canonical(), 64)
    assert task.digest == response.digest


@pytest.mark.parametrize("field", ["reasons", "recalls"])
def test_reasoning_that_stayed_inside_cannot_be_followed(response: Response, field: str):
    found = task_of(with_begin(response, **{field: True}), vocab_size=VOCABULARY)
    assert isinstance(found, Found)
    assert (found.kind, found.conclusive) == ("not_followed", False)
    assert "inside" in found.reason


def test_the_winning_draft_is_drawn_from_its_own_seed(response: Response):
    assert response.prefill is not None
    drafts = with_begin(response, candidates=4)
    won = replace(drafts, prefill=msgspec.structs.replace(response.prefill, candidate=2))
    first, third = (task_of(one, vocab_size=VOCABULARY) for one in (drafts, won))
    assert isinstance(first, Task)
    assert isinstance(third, Task)
    assert first.seed != third.seed
    assert kind_of(replace(drafts, prefill=None)) == "not_followed"
    beyond = msgspec.structs.replace(response.prefill, candidate=4)
    assert kind_of(replace(drafts, prefill=beyond)) == "corrupt"


def test_a_stack_of_another_vocabulary_is_the_wrong_tokenizer(response: Response):
    found = task_of(response, vocab_size=VOCABULARY + 1)
    assert isinstance(found, Found)
    assert (found.kind, found.conclusive) == ("wrong_tokenizer", True)


def test_a_sealed_prompt_opens_with_its_verifiers_key_only(response: Response):
    opener, other = (Opener(X25519PrivateKey.generate()) for _ in range(2))
    sealed = replace(response, begin=beginning("r1", seal=SealTo(opener.public_key)))
    assert isinstance(task_of(sealed, vocab_size=VOCABULARY, opener=opener), Task)
    assert kind_of(sealed) == "unreadable"
    assert kind_of(sealed, opener=other) == "unreadable"


def changed(begin: Begin, seed: bytes, committed: bytes) -> Begin:
    plain = Private(seed, (1, 2, 3), (), None)
    bound = binding(begin.request, begin.choice, begin.attempt, commitment(committed).hex())
    assert bound
    return msgspec.structs.replace(
        begin, seed=commitment(committed).hex(), private=pack(plain), key=""
    )


def test_a_seed_that_was_not_committed_to_or_was_chosen_is_contradictory(response: Response):
    one, other = bytes(range(32)), bytes(32)
    swapped = replace(response, begin=changed(response.begin, one, other))
    assert kind_of(swapped) == "contradictory_seeds"
    chosen = replace(response, begin=changed(response.begin, one, one))
    task = task_of(chosen, vocab_size=VOCABULARY)
    assert isinstance(task, Task)
    assert task.seed == sub_seed(one, "candidate", 0)
    assert kind_of(chosen, seeds=SeedService(bytes(32))) == "contradictory_seeds"


def test_the_seed_key_confirms_a_seed_that_nobody_chose(response: Response):
    seeds = SeedService(bytes(32))
    assert isinstance(task_of(response, vocab_size=VOCABULARY, seeds=seeds), Task)
    assert kind_of(response, seeds=SeedService(bytes(range(32)))) == "contradictory_seeds"
    reused = with_begin(response, attempt=1)
    assert kind_of(reused, seeds=seeds) == "contradictory_seeds"
