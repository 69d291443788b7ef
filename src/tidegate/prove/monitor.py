"""T2's key and its check: from a float model to projections, from a server's trace to a verdict."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from tidegate.errors import EngineError, ModelError
from tidegate.models.cache import Progress, no_progress
from tidegate.models.exact.shape import HEAD, Shape
from tidegate.models.exact.source import Source
from tidegate.models.prepared import Dtype, content_hash
from tidegate.prove import receipt
from tidegate.prove.answer import Answer, Stated, detokeniser
from tidegate.prove.keyfile import HEADER, TOKENIZER, Array, seal, unseal
from tidegate.prove.keys import name_subject, row_tree
from tidegate.prove.project import (
    ALARM,
    CANDIDATES,
    COLUMNS,
    F32Array,
    MonitorKey,
    Projection,
    Trace,
    candidates,
    check_choices,
    check_products,
    draw,
    miss_log2,
    name_of,
)
from tidegate.prove.receipt import Subject
from tidegate.prove.statement import Statement
from tidegate.prove.tiers import Tier
from tidegate.prove.verdict import (
    CannotVerify,
    Fail,
    FoundError,
    Pass,
    Place,
    UnverifiableError,
    Verdict,
)
from tidegate.transparency.note import Verifier

MAGIC: Final = b"tidegate-project-key/1\n"
_TIER: Final = Tier.PROJECT


class _Header(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    generation: int
    secret: str
    engine: str
    weights: str
    config: str
    tokenizer: str
    head: str
    dtype: Dtype
    eos_ids: tuple[int, ...]
    shape: Shape


def subject_of(source: Source, dtype: Dtype) -> Subject:
    """The float model as receipts and keys name it."""
    return name_subject(f"float-{dtype}", content_hash(source.manifest), source.manifest)


def head_rows(source: Source, dtype: Dtype) -> list[bytes]:
    """The head's rows as little-endian float32, which the leaves of its tree are made of."""
    weight_VD = _stored_as(source.weight(source.shape.layers, HEAD), dtype)
    return [row_D.astype("<f4").tobytes() for row_D in weight_VD]


def generate(
    source: Source,
    dtype: Dtype,
    *,
    secret: bytes | None = None,
    generation: int = 1,
    progress: Progress = no_progress,
) -> bytes:
    """A monitor's key for a float model that runs in `dtype`.

    Raises ModelError for weights that are no numbers.
    """
    chosen = secrets.token_bytes(32) if secret is None else secret
    shape, subject = source.shape, subject_of(source, dtype)
    tensors: dict[str, Array] = {}
    products = shape.products()
    for done, (layer, op) in enumerate(products):
        progress("projecting weights", done, len(products))
        weight_OK = _stored_as(source.weight(layer, op), dtype).astype(np.float64)
        name = name_of(layer, op)
        tensors[f"{name}.v"] = weight_OK.T @ draw(chosen, name, weight_OK.shape[0])
        if op == "qkv" and shape.qkv_bias:
            tensors[f"{name}.bias"] = _stored_as(source.bias(layer), dtype)
    progress("projecting weights", len(products), len(products))
    header = _Header(
        generation=generation,
        secret=chosen.hex(),
        engine=subject.engine,
        weights=subject.weights.hex(),
        config=subject.config.hex(),
        tokenizer=subject.tokenizer.hex(),
        head=row_tree(head_rows(source, dtype)).root.hex(),
        dtype=dtype,
        eos_ids=tuple(sorted(source.tokenizer.eos_ids)),
        shape=shape,
    )
    words = (source.folder / TOKENIZER).read_bytes()
    return seal(MAGIC, msgspec.json.encode(header), words, tensors)


def decode(raw: bytes) -> MonitorKey:
    """Open a monitor's key. Raises UnverifiableError, saying why, unless it is whole."""
    tensors = unseal(MAGIC, raw)
    try:
        header = msgspec.json.decode(tensors[HEADER].tobytes(), type=_Header)
        shape, secret = header.shape, bytes.fromhex(header.secret)
        projections = {}
        for layer, op in shape.products():
            name, (outputs, inputs) = name_of(layer, op), shape.linear(op)
            v_KR = tensors[f"{name}.v"]
            if v_KR.shape != (inputs, COLUMNS):
                raise ValueError(f"{name}.v has another shape than the model's")
            bias_O = tensors.get(f"{name}.bias", np.zeros(outputs, np.float32))
            projections[name] = Projection(draw(secret, name, outputs), v_KR, bias_O)
    except (msgspec.DecodeError, KeyError, ValueError) as error:
        raise UnverifiableError(f"the key file does not fit together: {error}") from error
    return MonitorKey(
        generation=header.generation,
        subject=Subject(
            engine=header.engine,
            weights=bytes.fromhex(header.weights),
            config=bytes.fromhex(header.config),
            tokenizer=bytes.fromhex(header.tokenizer),
        ),
        shape=shape,
        dtype=header.dtype,
        projections=projections,
        head_root=bytes.fromhex(header.head),
        eos_ids=frozenset(header.eos_ids),
        tokenizer_json=tensors[TOKENIZER].tobytes(),
    )


def rotate(raw: bytes, source: Source, progress: Progress = no_progress) -> bytes:
    """The key that replaces the one in `raw`. Raises UnverifiableError where that is none."""
    old = msgspec.json.decode(unseal(MAGIC, raw)[HEADER].tobytes(), type=_Header)
    return generate(source, old.dtype, generation=old.generation + 1, progress=progress)


def pack(trace: Trace) -> bytes:
    """A trace as a safetensors file; a receipt holds its SHA-256."""
    packed: bytes = safetensors.numpy.save(dict(trace))
    return packed


def most_bytes(shape: Shape, statement: Statement) -> int:
    """More than any file of an honest proof has."""
    positions = len(statement.request.prompt_ids) + len(statement.tokens) - 1
    numbers = sum(sum(shape.linear(op)) for _, op in shape.products())
    rows = (CANDIDATES + 1) * len(statement.tokens) * (4 * shape.width + 1024)
    return 4 * positions * numbers + 1024 * len(shape.products()) + rows


def wanted_rows(trace: Trace, shape: Shape, statement: Statement, answer: Answer) -> Sequence[int]:
    """The rows of the head that the monitor will ask to see opened; `answer` is a fresh one."""
    return sorted({t for ids in candidates(trace, shape, statement, answer) for t in ids})


def verify(
    note: str,
    packed: bytes,
    opened: bytes,
    statement: Statement,
    key: MonitorKey,
    trusted: Verifier,
) -> Verdict:
    """Check a server's float trace for a statement made outside."""
    request = statement.request
    try:
        # 1. The receipt: signed, for this statement, this model and these bytes.
        told = receipt.open_receipt(note, trusted)
        receipt.compare(told, statement)
        if told.tier is not _TIER:
            raise UnverifiableError(f"the receipt is of tier {told.tier.value}")
        if names := receipt.differing(told, key.subject):
            raise UnverifiableError(
                f"the key is stale or the receipt is for another model: {', '.join(names)} differ"
            )
        if hashlib.sha256(packed).digest() != told.trace:
            raise FoundError(Place(part="trace"), "the receipt commits to another trace")
        trace = _unpacked(packed)
        words = detokeniser(key.tokenizer_json, bool(request.limits.stop))

        def fresh() -> Answer:
            return Answer(request, key.shape.vocab_size, key.eos_ids, words)

        stated = Stated(statement, fresh())
        stated.require_tokens(key.shape.vocab_size, key.shape.context_length)
        # 2. Every product against its projection.
        positions = len(request.prompt_ids) + len(statement.tokens) - 1
        worst = check_products(trace, key, positions, len(statement.tokens))
        # 3. Token choices from exact logits, and the stop.
        near = check_choices(trace, key, statement, opened, (fresh(), fresh()))
        for place in range(len(statement.tokens)):
            stated.compare(place, None)
    except FoundError as found:
        return Fail(tier=_TIER, place=found.place, reason=found.reason)
    except UnverifiableError as error:
        return CannotVerify(tier=_TIER, reason=error.message)
    except (EngineError, ModelError) as error:
        reason = f"no token can be chosen: {error}"
        return Fail(tier=_TIER, place=Place(part="choice"), reason=reason)
    rows = positions * (len(key.shape.products()) - 1) + len(statement.tokens)
    return Pass(
        tier=_TIER,
        row_log2=miss_log2(),
        error_log2=min(0.0, miss_log2() + float(np.log2(rows))),
        coverage=(
            f"all {rows} rows of all products, the largest residual {worst:.2f} of the tolerance; "
            f"{len(statement.tokens)} token choices by exact logits, and the stop"
        ),
        limits=(
            f"changes of a row below {ALARM * key.tolerance:.2g} of its size: the bound omits them",
            f"{near} tokens that exact logits do not choose, within rounding",
        ),
    )


def _unpacked(packed: bytes) -> dict[str, F32Array]:
    try:
        trace: dict[str, F32Array] = safetensors.numpy.load(packed)
    except (safetensors.SafetensorError, KeyError) as error:
        raise FoundError(Place(part="trace"), f"the trace cannot be read: {error}") from error
    if any(array.dtype != np.float32 for array in trace.values()):
        raise FoundError(Place(part="trace"), "the trace holds something other than float32")
    return trace


def _stored_as(values: F32Array, dtype: Dtype) -> F32Array:
    """As the server holds them: rounded to nearest, ties to even, where that is bfloat16."""
    if dtype == "float32":
        return values
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)
