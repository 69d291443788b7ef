"""The verifier's key: what a machine without weights needs to check a trace, in one secret file.

The owner makes it from a converted folder: for each product the secret columns' image Wᵀr, the
numbers that are no matrices (gains, scales, biases, rotation), the tokenizer, and the root of a
tree over the embedding's rows. Whoever holds the file can forge traces that pass, so the prover
never sees it; `rotate` makes it worthless. Format: `spec/prove.md`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from tidegate.errors import ModelError
from tidegate.models import tokenizer
from tidegate.models.cache import Progress, no_progress
from tidegate.models.exact.format import CONFIG, FORMAT, Converted
from tidegate.models.exact.parameters import weight_name
from tidegate.models.exact.shape import Shape, check
from tidegate.models.exact.tensorfile import Array
from tidegate.models.prepared import TOKENIZER_FILES, Manifest, content_hash
from tidegate.prove.freivalds import SECRET_BYTES, Columns, columns_for, combine, draw
from tidegate.prove.keyfile import HEADER, TOKENIZER, seal, unseal
from tidegate.prove.merkle import Tree
from tidegate.prove.receipt import Subject
from tidegate.prove.verdict import UnverifiableError
from tidegate.transparency.tree import leaf_hash

MAGIC: Final = b"tidegate-freivalds-key/1\n"


class _Header(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    generation: int
    secret: str
    engine: str
    weights: str
    config: str
    tokenizer: str
    embedding: str
    embedding_bytes: int
    eos_ids: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Key:
    """An opened key. `embedding_bytes` is the size of one number of the embedding, 1 or 2.

    `parameters` are the float32 tensors of the converted folder by name; `tokenizer_json` is empty
    where the folder has no tokenizer.
    """

    generation: int
    subject: Subject
    shape: Shape
    columns: Mapping[tuple[int, str], Columns]
    parameters: Mapping[str, Array]
    embedding_root: bytes
    embedding_bytes: int
    eos_ids: frozenset[int]
    tokenizer_json: bytes

    def __repr__(self) -> str:
        return f"Key(generation={self.generation}, weights={self.subject.weights.hex()[:12]})"

    @property
    def column_bytes(self) -> int:
        """Bytes of the images Wᵀr: what the key adds to public sizes."""
        return sum(columns.weighted_CK.nbytes for columns in self.columns.values())

    @property
    def held_bytes(self) -> int:
        """Bytes of all arrays, the secret columns themselves included."""
        held = sum(array.nbytes for array in self.parameters.values())
        return held + sum(c.r_CO.nbytes + c.weighted_CK.nbytes for c in self.columns.values())


def subject_of(converted: Converted) -> Subject:
    """The model in a converted folder, as receipts and keys name it."""
    return name_subject(FORMAT, converted.root, converted.manifest)


def name_subject(engine: str, root: str, manifest: Manifest) -> Subject:
    """A model by its engine, the root over its files, and its manifest."""
    words = {n: digest for n, digest in manifest.files.items() if n in TOKENIZER_FILES - {CONFIG}}
    return Subject(
        engine=engine,
        weights=bytes.fromhex(root),
        config=bytes.fromhex(manifest.files[CONFIG]),
        tokenizer=bytes.fromhex(content_hash(msgspec.structs.replace(manifest, files=words))),
    )


def embedding_rows(converted: Converted) -> list[bytes]:
    """The embedding's rows as little-endian bytes, which the leaves of its tree are made of."""
    rows_VD = converted.tensors["embed.weight"]
    return [row_D.tobytes() for row_D in np.ascontiguousarray(rows_VD)]


def row_tree(rows: Sequence[bytes]) -> Tree:
    """The tree over such rows."""
    return Tree([leaf_hash(row) for row in rows])


def generate(
    converted: Converted,
    *,
    secret: bytes | None = None,
    generation: int = 1,
    progress: Progress = no_progress,
) -> bytes:
    """A key file for a converted folder; `secret` is fresh unless a test gives one.

    Raises ModelError where the folder lacks what its manifest lists.
    """
    chosen = secrets.token_bytes(SECRET_BYTES) if secret is None else secret
    shape, subject = converted.shape, subject_of(converted)
    tensors: dict[str, Array] = {}
    products = shape.products()
    for done, (layer, op) in enumerate(products):
        progress("combining weights", done, len(products))
        outputs, inputs = shape.linear(op)
        r_CO = draw(chosen, layer, op, outputs, columns_for(inputs))
        weight_OK = converted.tensors[weight_name(shape, layer, op)]
        tensors[f"columns.{layer}.{op}"] = combine(weight_OK, r_CO)
    progress("combining weights", len(products), len(products))
    for name, array in converted.tensors.items():
        if array.dtype == np.float32:
            tensors[f"parameters.{name}"] = np.ascontiguousarray(array)
    words = converted.folder / TOKENIZER
    has_words = TOKENIZER in converted.manifest.files
    header = _Header(
        generation=generation,
        secret=chosen.hex(),
        engine=subject.engine,
        weights=subject.weights.hex(),
        config=subject.config.hex(),
        tokenizer=subject.tokenizer.hex(),
        embedding=row_tree(embedding_rows(converted)).root.hex(),
        embedding_bytes=converted.tensors["embed.weight"].itemsize,
        eos_ids=tuple(sorted(tokenizer.eos_ids_of(converted.folder))),
        shape=shape,
    )
    return seal(
        MAGIC, msgspec.json.encode(header), words.read_bytes() if has_words else b"", tensors
    )


def decode(raw: bytes) -> Key:
    """Open a key file's bytes. Raises UnverifiableError, saying why, unless it is whole."""
    tensors = unseal(MAGIC, raw)
    try:
        header = msgspec.json.decode(tensors[HEADER].tobytes(), type=_Header)
        shape = check(header.shape, "the key")
        columns = {
            (layer, op): _columns(bytes.fromhex(header.secret), tensors, shape, layer, op)
            for layer, op in shape.products()
        }
    except (msgspec.DecodeError, KeyError, ValueError, ModelError) as error:
        raise UnverifiableError(f"the key file does not fit together: {error}") from error
    prefix = "parameters."
    return Key(
        generation=header.generation,
        subject=Subject(
            engine=header.engine,
            weights=bytes.fromhex(header.weights),
            config=bytes.fromhex(header.config),
            tokenizer=bytes.fromhex(header.tokenizer),
        ),
        shape=shape,
        columns=columns,
        parameters={
            name.removeprefix(prefix): array
            for name, array in tensors.items()
            if name.startswith(prefix)
        },
        embedding_root=bytes.fromhex(header.embedding),
        embedding_bytes=header.embedding_bytes,
        eos_ids=frozenset(header.eos_ids),
        tokenizer_json=tensors[TOKENIZER].tobytes(),
    )


def _columns(
    secret: bytes, tensors: Mapping[str, Array], shape: Shape, layer: int, op: str
) -> Columns:
    outputs, inputs = shape.linear(op)
    weighted_CK = tensors[f"columns.{layer}.{op}"]
    if weighted_CK.shape != (columns_for(inputs), inputs) or weighted_CK.dtype != np.uint64:
        raise ValueError(f"columns of layer {layer}, {op} have another shape than the model's")
    return Columns(draw(secret, layer, op, outputs, weighted_CK.shape[0]), weighted_CK)


def rotate(raw: bytes, converted: Converted, progress: Progress = no_progress) -> bytes:
    """The key that replaces the one in `raw`: a fresh secret, also where the weights are others.

    Whatever was learned of the old one helps nobody afterwards, and traces made before can still be
    checked. Raises UnverifiableError where `raw` is no key.
    """
    generation = decode(raw).generation + 1
    return generate(converted, generation=generation, progress=progress)
