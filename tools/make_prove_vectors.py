"""Write spec/vectors/prove.json from the code: keys, bounds, digests, receipts and a whole trace.

Run `python tools/make_prove_vectors.py` after a change of format, and never to make a failing test
pass: the file is what other implementations are held to.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from vector_files import lines

from tidegate.models.exact import format as exact_format
from tidegate.models.exact.load import model_of
from tidegate.models.exact.parameters import expected
from tidegate.models.exact.seeded import tensors_of
from tidegate.models.exact.shape import Shape
from tidegate.prove import keys, receipt
from tidegate.prove.freivalds import (
    Columns,
    column_bits,
    columns_for,
    combine,
    draw,
    range_limit,
    reference_products,
    row_bits,
)
from tidegate.prove.merkle import opened
from tidegate.prove.produce import Prover
from tidegate.prove.statement import Request, Statement, digests
from tidegate.prove.tiers import Tier
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.transparency.note import Signer

VECTORS = Path(__file__).parents[1] / "spec" / "vectors"
SECRET = hashlib.sha256(b"prove vectors").digest()
NAME = "prover.example/receipts"

Hex = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})*$")]
Word = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]
Note = Annotated[str, msgspec.Meta(min_length=10)]


class Struct(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all records: unknown fields are an error."""


class BoundCase(Struct):
    """limit: largest absolute value in a row. column_bits, row_bits: -log2 of what is missed."""

    note: Note
    inputs: int
    limit: int
    column_bits: int
    columns: int
    row_bits: int


class DrawCase(Struct):
    """words: the first numbers of each secret column, in hexadecimal."""

    note: Note
    secret: Hex
    layer: int
    op: str
    outputs: int
    words: list[list[Word]]


class CheckCase(Struct):
    """weight OK and q NK of int8, acc NO. image: W^T r by column, and products acc·r by row, mod
    2^64 in hexadecimal, for the columns of DrawCase's rule. wrong: the first bad row, if any."""

    note: Note
    secret: Hex
    layer: int
    op: str
    weight: list[list[int]]
    image: list[list[Word]]
    q: list[list[int]]
    acc: list[list[int]]
    products: list[list[Word]]
    wrong: int | None = None


class Asked(Struct):
    nonce: Hex
    seed: Hex
    prompt: list[int]
    params: dict[str, Any]
    max_tokens: int
    stop: list[str] = []
    ignore_eos: bool = False

    def request(self) -> Request:
        """As the code takes it."""
        biases = tuple((int(t), float(b)) for t, b in self.params.get("logit_bias", ()))
        return Request(
            nonce=bytes.fromhex(self.nonce),
            seed=bytes.fromhex(self.seed),
            prompt_ids=tuple(self.prompt),
            params=SamplingParams(**{**self.params, "logit_bias": biases}),
            limits=Limits(
                max_tokens=self.max_tokens, stop=tuple(self.stop), ignore_eos=self.ignore_eos
            ),
        )


class ReceiptCase(Struct):
    """digests: by field. text: what is signed. note_text: the signed note under `key`."""

    note: Note
    asked: Asked
    tokens: list[int]
    reason: str
    tier: str
    trace: Hex | None
    digests: dict[str, Hex]
    text: str
    key: str
    note_text: str


class TraceCase(Struct):
    """A model of spec/exact.md's derivation from `model`, and what it leaves. The files are given
    by their SHA-256, `hashes` in full for position 0; `openings` are the embedding's."""

    note: Note
    shape: dict[str, Any]
    model: str
    asked: Asked
    tokens: list[int]
    reason: str
    rows_bytes: int
    rows: Hex
    first_hashes: Hex
    hashes: Hex
    root: Hex
    embedding_root: Hex
    openings: Hex


class ProveFile(Struct):
    spec: str
    bounds: list[BoundCase]
    columns: list[DrawCase]
    checks: list[CheckCase]
    receipts: list[ReceiptCase]
    traces: list[TraceCase]


def _words(array: np.ndarray) -> list[list[str]]:
    return [[f"{int(value):016x}" for value in row] for row in array]


def _bound(note: str, inputs: int) -> BoundCase:
    return BoundCase(
        note,
        inputs,
        range_limit(inputs),
        column_bits(inputs),
        columns_for(inputs),
        row_bits(inputs),
    )


def _drawn(note: str, layer: int, op: str, outputs: int, columns: int) -> DrawCase:
    words = _words(draw(SECRET, layer, op, outputs, columns)[:, :3])
    return DrawCase(note, SECRET.hex(), layer, op, outputs, words)


def _numbers(text: str, rows: int, columns: int) -> np.ndarray:
    raw = np.frombuffer(hashlib.shake_256(text.encode()).digest(rows * columns), np.int8)
    return np.maximum(raw, -127).reshape(rows, columns)


def _checked(note: str, alter: Callable[[np.ndarray], None]) -> CheckCase:
    weight_OK, q_NK = _numbers("weight", 5, 4), _numbers("inputs", 3, 4)
    acc_NO = q_NK.astype(np.int32) @ weight_OK.T.astype(np.int32)
    alter(acc_NO)
    columns = Columns(r_CO := draw(SECRET, 0, "o", 5, 2), combine(weight_OK, r_CO))
    found = columns.first_wrong(q_NK, acc_NO)
    return CheckCase(
        note,
        SECRET.hex(),
        0,
        "o",
        weight_OK.tolist(),
        _words(columns.weighted_CK),
        q_NK.tolist(),
        acc_NO.tolist(),
        [[f"{value:016x}" for value in row] for row in reference_products(acc_NO, r_CO)],
        found[0] if found else None,
    )


def _off_by_one(acc_NO: np.ndarray) -> None:
    acc_NO[1, 2] += 1


def _too_large(acc_NO: np.ndarray) -> None:
    acc_NO[2, 0] ^= np.int32(-(2**31))


def _receipt(note: str, asked: Asked, tier: Tier, trace: bytes | None) -> ReceiptCase:
    statement = Statement(request=asked.request(), tokens=(5, 6, 7), reason="stop")
    subject = receipt.Subject(
        engine="tidegate-exact-1",
        **{name: hashlib.sha256(name.encode()).digest() for name in ("weights", "config")},
        tokenizer=hashlib.sha256(b"tokenizer").digest(),
    )
    made = receipt.make(statement, subject, tier=tier, trace=trace)
    signer = Signer(NAME, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
    return ReceiptCase(
        note,
        asked,
        [5, 6, 7],
        "stop",
        tier.value,
        None if trace is None else trace.hex(),
        {name: value.hex() for name, value in digests(statement).items()},
        made.text(),
        signer.verifier.encode(),
        receipt.sign(made, signer),
    )


_SHAPE = Shape(
    family="qwen2",
    vocab_size=98,
    width=32,
    layers=2,
    heads=4,
    kv_heads=2,
    head_size=8,
    ffn_size=48,
    context_length=64,
    eps=1e-5,
    rope_theta=10_000.0,
    qkv_bias=True,
    tied=False,
)


def _trace(note: str, asked: Asked) -> TraceCase:
    rows, hashes = [], []
    with tempfile.TemporaryDirectory() as place:
        tensors = tensors_of(_SHAPE, "prove", wide_embedding=True)
        folder = Path(place) / "model"
        exact_format.write(
            folder,
            _SHAPE,
            [(name, tensors[name]) for name in expected(_SHAPE)],
            name="vectors",
            licence="",
            provenance="",
            source_sha256="",
            made_with="",
            settings={},
            files={},
        )
        converted = exact_format.read(folder)

        def sink(raw: bytes | bytearray, block: list[bytes]) -> None:
            rows.append(bytes(raw))
            hashes.extend(block)

        prover = Prover(model_of(converted, threads=1), _SHAPE)
        produced = prover.produce([asked.request()], lambda ids: "", [sink])[0]
        table = keys.embedding_rows(converted)
    tree = keys.row_tree(table)
    statement = produced.statement
    fed = (*statement.request.prompt_ids, *statement.tokens[:-1])
    return TraceCase(
        note,
        asdict(_SHAPE),
        "prove",
        asked,
        list(statement.tokens),
        statement.reason,
        sum(map(len, rows)),
        _sha256(b"".join(rows)),
        hashes[0].hex(),
        _sha256(b"".join(hashes)),
        produced.root.hex(),
        tree.root.hex(),
        _sha256(opened(table, tree, fed)),
    )


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def prove_file() -> ProveFile:
    """All cases."""
    seed = hashlib.sha256(b"seed").hexdigest()
    plain = Asked("00" * 32, seed, [1, 2, 300], {"temperature": 0.0}, 3)
    full = Asked(
        "07" * 32,
        seed,
        [0],
        {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "logit_bias": [[3, -1.5]]},
        64,
        ["\n\n", "é"],
        True,
    )
    long = Asked("00" * 32, seed, list(range(20)), {"temperature": 1.0}, 20, [], True)
    return ProveFile(
        spec="spec/prove.md",
        bounds=[
            _bound("a single input", 1),
            _bound("SmolLM2's width", 576),
            _bound("SmolLM2's down", 1_536),
            _bound("the most inputs that two columns serve", 2_080),
            _bound("the fewest that need three", 2_081),
            _bound("the most the engine runs", 131_072),
        ],
        columns=[
            _drawn("two columns of a layer's product", 0, "qkv", 4, 2),
            _drawn("three columns of the head", 30, "head", 3, 3),
        ],
        checks=[
            _checked("right products", lambda acc_NO: None),
            _checked("one number off by one", _off_by_one),
            _checked("a high bit flipped: out of range", _too_large),
        ],
        receipts=[
            _receipt("a receipt without a trace", plain, Tier.RECEIPT, None),
            _receipt("every field in use, with a trace", full, Tier.FREIVALDS, b"\x09" * 32),
        ],
        traces=[_trace("39 positions in two blocks; the first 19 have no logits", long)],
    )


def schema() -> bytes:
    """The file's schema."""
    return (
        msgspec.json.format(msgspec.json.encode(msgspec.json.schema(ProveFile)), indent=2) + b"\n"
    )


def build() -> dict[str, bytes]:
    """Contents by file name."""
    return {"prove.json": lines(prove_file()), "prove.schema.json": schema()}


if __name__ == "__main__":
    for name, content in build().items():
        (VECTORS / name).write_bytes(content)
