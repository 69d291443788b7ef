"""Statements and receipts have one spelling each, and a receipt is for one statement only."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proof_world import SIGNER, Bundle, World, ask

from tidegate.errors import ConfigError
from tidegate.prove import receipt
from tidegate.prove.statement import (
    FIELDS,
    Request,
    Statement,
    decode,
    decode_request,
    digests,
    encode,
)
from tidegate.prove.tiers import Tier
from tidegate.prove.verdict import CannotVerify, Fail, FoundError, Pass, Place
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams

SUBJECT = receipt.Subject(
    engine="tidegate-exact-1", weights=b"w" * 32, config=b"c" * 32, tokenizer=b"t" * 32
)
ids = st.lists(st.integers(0, 2**20), min_size=1, max_size=9).map(tuple)
requests = st.builds(
    Request,
    nonce=st.binary(min_size=32, max_size=32),
    seed=st.binary(min_size=32, max_size=32),
    prompt_ids=ids,
    params=st.builds(
        SamplingParams,
        temperature=st.floats(0, 2),
        top_k=st.integers(0, 99),
        logit_bias=st.just(((3, 1.5), (9, -2.0))),
    ),
    limits=st.builds(
        Limits,
        max_tokens=st.integers(1, 99),
        stop=st.lists(st.text(min_size=1), max_size=3).map(tuple),
        ignore_eos=st.booleans(),
    ),
)
statements = st.builds(
    Statement, request=requests, tokens=ids, reason=st.sampled_from(["stop", "length"])
)


@given(statements)
def test_a_statement_reads_back_as_it_was_written(statement: Statement) -> None:
    assert decode(encode(statement)) == statement
    assert decode_request(encode(statement.request)) == statement.request


@given(statements, statements)
def test_equal_digests_mean_equal_statements(one: Statement, other: Statement) -> None:
    assert (digests(one) == digests(other)) == (one == other)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff",
        encode(ask()).replace(b'"seed": "', b'"seed": "00'),
        encode(ask()).replace(b'"nonce": "0', b'"nonce": "x'),
        encode(ask()).replace(b'"max_tokens": 12', b'"max_tokens": 0'),
        encode(ask()).replace(b'"stop"', b'"sotp"'),
        encode(ask()).replace(b'"top_k"', b'"top_q"'),
        encode(replace(ask(), prompt_ids=(77_777,))).replace(b"77777", b"-7"),
    ],
)
def test_a_malformed_request_is_refused(raw: bytes) -> None:
    with pytest.raises(ConfigError):
        decode_request(raw)


@given(statements, st.sampled_from(Tier), st.none() | st.binary(min_size=32, max_size=32))
def test_a_receipt_reads_back_as_it_was_signed(
    statement: Statement, tier: Tier, trace: bytes | None
) -> None:
    made = receipt.make(statement, SUBJECT, tier=tier, trace=trace)
    opened = receipt.open_receipt(receipt.sign(made, SIGNER), SIGNER.verifier)
    assert opened == made
    receipt.compare(opened, statement)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("receipt/1", "receipt/2"),
        lambda text: text.replace("tier receipt", "tier best"),
        lambda text: text.replace("nonce 0", "nonce A"),
        lambda text: text.replace("weights 77", "weights 7 7"),
        lambda text: text.replace("\ntrace none", ""),
        lambda text: text + "more 1\n",
        lambda text: text.replace("trace none", "trace 00"),
    ],
)
def test_a_signed_text_in_another_spelling_is_no_receipt(change: object) -> None:
    text = receipt.make(
        Statement(request=ask(), tokens=(1,), reason="stop"), SUBJECT, tier=Tier.RECEIPT, trace=None
    ).text()
    assert receipt.parse(text) is not None
    with pytest.raises(FoundError):
        receipt.open_receipt(SIGNER.sign_text(change(text)), SIGNER.verifier)  # type: ignore[operator]


def test_a_receipt_alone_says_who_answers_for_what(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    statement, bundle = honest
    subject = world.key.subject
    verdict = receipt.check(bundle.note, statement, SIGNER.verifier, subject)
    assert isinstance(verdict, Pass)
    assert verdict.error_log2 is None
    longer = replace(statement, tokens=(*statement.tokens, 1))
    found = receipt.check(bundle.note, longer, SIGNER.verifier, subject)
    assert isinstance(found, Fail)
    assert found.place == Place(part="answer")
    other = replace(subject, weights=bytes(32))
    assert isinstance(receipt.check(bundle.note, statement, SIGNER.verifier, other), CannotVerify)


def test_every_field_of_a_statement_is_in_the_receipt() -> None:
    assert tuple(digests(Statement(request=ask(), tokens=(1,), reason="stop"))) == FIELDS
