"""Every lie of the tamper suite is caught, and said where it is: token, layer and product.

In the first part the prover lies while he computes and commits to the lie; only the arithmetic can
tell. In the second the proof is altered after it was signed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from proof_liars import Meddling, SwappedLayers, add, put, recommitted
from proof_world import SECRET, SIGNER, UNTIED, Bundle, World, ask, write_folder

from tidegate.models.exact.ops import Linear
from tidegate.models.exact.shape import HEAD, LAYER_OPS
from tidegate.prove import keys, receipt
from tidegate.prove.freivalds import range_limit
from tidegate.prove.statement import Request, Statement
from tidegate.prove.tiers import Tier
from tidegate.prove.trace import Layout
from tidegate.prove.verdict import CannotVerify, Fail, Pass, Place
from tidegate.transparency.note import Signer

PLACES = [(30, layer, op) for layer in (0, 1) for op in LAYER_OPS] + [(30, 2, HEAD)]
REQUEST = ask(prompt=25, tokens=12)


def lying(world: World, lie: Callable[[Linear], Linear]) -> World:
    return World(world.converted, world.key, lie)


def product(token: int, layer: int, op: str) -> Place:
    return Place(part="product", token=token, layer=layer, op=op)


def test_an_honest_proof_passes_and_says_what_it_leaves_open(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    statement, bundle = honest
    verdict = world.verify(bundle, statement)
    assert isinstance(verdict, Pass)
    assert verdict.error_log2 is not None
    assert verdict.error_log2 < -70
    assert "all 300 rows" in verdict.coverage


@pytest.mark.parametrize("amount", [1, -1])
@pytest.mark.parametrize(("token", "layer", "op"), PLACES)
def test_an_accumulator_off_by_one_is_located(
    world: World, token: int, layer: int, op: str, amount: int
) -> None:
    liar = lying(world, lambda linear: Meddling(linear, token, layer, op, add(5, amount)))
    statement, bundle = liar.prove(REQUEST)
    verdict = world.verify(bundle, statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == product(token, layer, op)


@pytest.mark.parametrize(("token", "layer", "op"), PLACES)
def test_one_entry_changed_in_the_committed_trace_is_located(
    world: World, honest: tuple[Statement, Bundle], token: int, layer: int, op: str
) -> None:
    statement, bundle = honest

    def alter(rows: dict[tuple[int, int, str], np.ndarray]) -> None:
        rows[token, layer, op][-1] -= 1

    verdict = world.verify(recommitted(world, bundle, statement, alter), statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == product(token, layer, op)


@pytest.mark.parametrize("name", ["layers.0.qkv.weight", "layers.1.down.weight", "head.weight"])
def test_one_weight_off_by_one_is_located(world: World, tmp_path: Path, name: str) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        weight_OK = tensors[name]
        weight_OK[3, 4] += 1 if weight_OK[3, 4] < 127 else -1

    other = write_folder(tmp_path / "model", UNTIED, change=change)
    liar = World(other, world.key)
    statement, bundle = liar.prove(REQUEST)
    # He signs that these are the named weights.
    bundle = World(world.converted, world.key).bundle(
        statement, note_of(bundle).trace, bundle.rows, bundle.hashes
    )
    verdict = world.verify(bundle, statement)
    assert isinstance(verdict, Fail)
    assert verdict.place.part == "product"
    assert verdict.place.op == name.split(".")[-2]
    assert verdict.place.token is not None


def note_of(bundle: Bundle) -> receipt.Receipt:
    return receipt.open_receipt(bundle.note, SIGNER.verifier)


@pytest.mark.parametrize(("token", "layer", "op"), PLACES)
def test_a_flipped_high_bit_is_out_of_range(
    world: World, honest: tuple[Statement, Bundle], token: int, layer: int, op: str
) -> None:
    statement, bundle = honest

    def alter(rows: dict[tuple[int, int, str], np.ndarray]) -> None:
        # d = 2**31 is the change that random columns miss most often: one in 2**33 each.
        rows[token, layer, op][2] ^= np.int32(-(2**31))

    verdict = world.verify(recommitted(world, bundle, statement, alter), statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == product(token, layer, op)
    assert "outside" in verdict.reason


@pytest.mark.parametrize("sign", [1, -1])
def test_the_first_value_out_of_range_is_refused_for_being_so(
    world: World, honest: tuple[Statement, Bundle], sign: int
) -> None:
    statement, bundle = honest
    beyond = sign * (range_limit(UNTIED.width) + 1)
    altered = recommitted(
        world, bundle, statement, lambda rows: put(0, beyond)(rows[7, 1, "gate_up"])
    )
    verdict = world.verify(altered, statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == product(7, 1, "gate_up")
    assert "outside" in verdict.reason


def test_layers_swapped_while_computing_are_located(world: World) -> None:
    statement, bundle = lying(world, SwappedLayers).prove(REQUEST)
    verdict = world.verify(bundle, statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == product(0, 0, "qkv")


def test_layers_swapped_in_the_committed_trace_are_located(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    statement, bundle = honest

    def alter(rows: dict[tuple[int, int, str], np.ndarray]) -> None:
        one, other = rows[9, 0, "o"], rows[9, 1, "o"]
        one[:], other[:] = other.copy(), one.copy()

    verdict = world.verify(recommitted(world, bundle, statement, alter), statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == product(9, 0, "o")


def test_tokens_reordered_in_the_committed_trace_are_located(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    statement, bundle = honest

    def alter(rows: dict[tuple[int, int, str], np.ndarray]) -> None:
        for token, layer, op in list(rows):
            if token == 10 and op != HEAD:
                one, other = rows[10, layer, op], rows[11, layer, op]
                one[:], other[:] = other.copy(), one.copy()

    verdict = world.verify(recommitted(world, bundle, statement, alter), statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == product(10, 0, "qkv")


def test_a_key_for_other_weights_cannot_verify_and_says_whose_they_are(
    world: World, honest: tuple[Statement, Bundle], tmp_path: Path
) -> None:
    statement, bundle = honest
    other = write_folder(tmp_path / "model", UNTIED, seed="last year's")
    stale = keys.decode(keys.generate(other, secret=SECRET))
    verdict = world.verify(bundle, statement, stale)
    assert isinstance(verdict, CannotVerify)
    assert "stale" in verdict.reason
    assert stale.subject.weights.hex()[:16] in verdict.reason


def test_a_key_of_old_weights_under_the_new_name_is_located(
    world: World, honest: tuple[Statement, Bundle], tmp_path: Path
) -> None:
    statement, bundle = honest
    other = write_folder(tmp_path / "model", UNTIED, seed="last year's")
    stale = keys.decode(keys.generate(other, secret=SECRET))
    mixed = replace(world.key, columns=stale.columns)
    verdict = world.verify(bundle, statement, mixed)
    assert isinstance(verdict, Fail)
    assert verdict.place == product(0, 0, "qkv")


def test_a_trace_of_another_prompt_is_located(world: World) -> None:
    other = replace(REQUEST, prompt_ids=(*REQUEST.prompt_ids[:-1], 1))
    said, bundle = world.prove(other)
    # He signs that it is the answer to what was asked.
    statement = replace(said, request=REQUEST)
    bundle = world.bundle(statement, note_of(bundle).trace, bundle.rows, bundle.hashes)
    verdict = world.verify(bundle, statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == product(24, 0, "qkv")


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("seed", replace(REQUEST, seed=bytes(31) + b"\x01")),
        ("prompt", replace(REQUEST, prompt_ids=(*REQUEST.prompt_ids[:-1], 1))),
        ("sampling", replace(REQUEST, params=replace(REQUEST.params, top_k=5))),
        ("stop", replace(REQUEST, limits=replace(REQUEST.limits, max_tokens=13))),
        ("nonce", replace(REQUEST, nonce=bytes(31) + b"\x01")),
    ],
)
def test_a_receipt_for_another_request_is_refused_at_the_field(
    world: World, honest: tuple[Statement, Bundle], field: str, other: Request
) -> None:
    statement, bundle = honest
    verdict = world.verify(bundle, replace(statement, request=other))
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part=field)


def test_a_commitment_replayed_for_a_second_equal_request_is_refused(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    _, bundle = honest
    again = ask(prompt=25, tokens=12, nonce=b"\x07" * 32)
    statement, _ = world.prove(again)
    verdict = world.verify(bundle, statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="nonce")


@pytest.mark.parametrize(
    "other",
    [
        replace(REQUEST, seed=bytes(31) + b"\x01"),
        replace(REQUEST, params=replace(REQUEST.params, temperature=0.0)),
    ],
    ids=["seed", "temperature"],
)
def test_tokens_drawn_otherwise_than_asked_are_located(world: World, other: Request) -> None:
    said, bundle = world.prove(other)
    statement = replace(said, request=REQUEST)
    bundle = world.bundle(statement, note_of(bundle).trace, bundle.rows, bundle.hashes)
    honest_tokens = world.prove(REQUEST)[0].tokens
    first = next(i for i, t in enumerate(said.tokens) if t != honest_tokens[i])
    verdict = world.verify(bundle, statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="choice", token=25 + first)


def test_an_answer_cut_short_is_located(world: World) -> None:
    short = replace(REQUEST, limits=replace(REQUEST.limits, max_tokens=5))
    said, bundle = world.prove(short)
    for reason in ("stop", "length"):
        statement = replace(said, request=REQUEST, reason=reason)
        signed = world.bundle(statement, note_of(bundle).trace, bundle.rows, bundle.hashes)
        verdict = world.verify(signed, statement)
        assert isinstance(verdict, Fail)
        assert verdict.place == Place(part="stop", token=25 + 4)


def test_an_answer_that_runs_past_its_stop_string_is_located(world: World) -> None:
    said, bundle = world.prove(REQUEST)
    letter = _letter(said.tokens[4])
    limits = replace(REQUEST.limits, stop=(letter,))
    statement = replace(said, request=replace(REQUEST, limits=limits))
    signed = world.bundle(statement, note_of(bundle).trace, bundle.rows, bundle.hashes)
    verdict = world.verify(signed, statement)
    assert isinstance(verdict, Fail)
    first = next(i for i, t in enumerate(said.tokens) if _letter(t) == letter)
    assert verdict.place == Place(part="stop", token=25 + first)


def _letter(token: int) -> str:
    import tiny_pair

    return tiny_pair.LETTERS[token]


def test_a_token_outside_the_vocabulary_is_located(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    said, bundle = honest
    statement = replace(said, tokens=(*said.tokens[:-1], UNTIED.vocab_size))
    signed = world.bundle(statement, note_of(bundle).trace, bundle.rows, bundle.hashes)
    verdict = world.verify(signed, statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="choice", token=25 + 11)


@pytest.mark.parametrize(
    "asked",
    [
        replace(REQUEST, prompt_ids=(*REQUEST.prompt_ids, UNTIED.vocab_size)),
        replace(REQUEST, prompt_ids=REQUEST.prompt_ids * 40),
    ],
    ids=["vocabulary", "context"],
)
def test_a_request_that_no_model_of_this_size_answers_cannot_be_verified(
    world: World, honest: tuple[Statement, Bundle], asked: Request
) -> None:
    said, bundle = honest
    statement = replace(said, request=asked)
    trace = note_of(bundle).trace
    note = receipt.make(statement, world.key.subject, tier=Tier.FREIVALDS, trace=trace)
    verdict = world.verify(replace(bundle, note=receipt.sign(note, SIGNER)), statement)
    assert isinstance(verdict, CannotVerify)


def test_activations_an_honest_engine_refuses_are_no_proof(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    statement, bundle = honest
    loud = {**world.key.parameters, "norm": world.key.parameters["norm"] * np.float32(2.0**50)}
    verdict = world.verify(bundle, statement, replace(world.key, parameters=loud))
    assert isinstance(verdict, Fail)
    assert "refused" in verdict.reason


def test_a_strangers_signature_is_refused(world: World, honest: tuple[Statement, Bundle]) -> None:
    statement, bundle = honest
    stranger = Signer(SIGNER.name, Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
    verdict = world.verify(replace(bundle, note=receipt.sign(note_of(bundle), stranger)), statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="receipt")


def test_a_receipt_without_a_trace_is_no_proof(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    statement, bundle = honest
    bare = receipt.make(statement, world.key.subject, tier=Tier.RECEIPT, trace=None)
    verdict = world.verify(replace(bundle, note=receipt.sign(bare, SIGNER)), statement)
    assert isinstance(verdict, CannotVerify)


# After the signature.


def test_a_truncated_trace_is_located(world: World, honest: tuple[Statement, Bundle]) -> None:
    statement, bundle = honest
    verdict = world.verify(replace(bundle, rows=bundle.rows[:-4]), statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="trace", token=32)


def test_a_row_taken_out_of_the_trace_is_located(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    statement, bundle = honest
    width = 4 * UNTIED.linear("qkv")[0]
    rows = bundle.rows[: 3 * width] + bundle.rows[4 * width :]
    verdict = world.verify(replace(bundle, rows=rows), statement)
    assert isinstance(verdict, Fail)
    # Everything behind the gap has moved up; the first token's next product is the first of it.
    assert verdict.place == Place(part="trace", token=0, layer=0, op="o")


def test_a_trace_that_goes_on_is_refused(world: World, honest: tuple[Statement, Bundle]) -> None:
    statement, bundle = honest
    for longer in (
        replace(bundle, rows=bundle.rows + b"\0"),
        replace(bundle, hashes=bundle.hashes + b"\0"),
        replace(bundle, embedding=bundle.embedding + b"\0"),
    ):
        assert isinstance(world.verify(longer, statement), Fail)


def test_blocks_swapped_after_signing_are_located(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    statement, bundle = honest
    layout = Layout(UNTIED, 25, 12)
    cut = layout.offset(1)
    verdict = world.verify(replace(bundle, rows=bundle.rows[cut:] + bundle.rows[:cut]), statement)
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="trace", token=0, layer=0, op="qkv")


def test_an_embedding_row_that_is_not_the_owners_is_located(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    statement, bundle = honest
    altered = bytes([bundle.embedding[0] ^ 1]) + bundle.embedding[1:]
    verdict = world.verify(replace(bundle, embedding=altered), statement)
    assert isinstance(verdict, Fail)
    fed = (*statement.request.prompt_ids, *statement.tokens[:-1])
    assert verdict.place == Place(part="embedding", token=fed.index(min(fed)))


def test_no_single_bit_of_a_proof_can_change(
    world: World, honest: tuple[Statement, Bundle]
) -> None:
    statement, bundle = honest
    chance = np.random.default_rng(3)
    files = {name: getattr(bundle, name) for name in ("rows", "hashes", "embedding")}
    files["note"] = bundle.note.encode()
    missed = []
    for _ in range(300):
        name = str(chance.choice(list(files)))
        bit = int(chance.integers(8 * len(files[name])))
        raw = bytearray(files[name])
        raw[bit // 8] ^= 1 << bit % 8
        altered = raw.decode("utf-8", "surrogateescape") if name == "note" else bytes(raw)
        if isinstance(world.verify(replace(bundle, **{name: altered}), statement), Pass):
            missed.append((name, bit))
    assert missed == []
