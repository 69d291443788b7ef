"""A weak model of two halves: a small student network on the exact engine, added to the n-gram.

The student was trained with the n-gram beside it, so its logits say by how much the n-gram is
wrong (a log-linear mixture; Heafield et al. 2013 call it that for n-grams alone). It scores its own
`tokens`, those that the strong model uses most; one more logit, the rest's, is added to all other
tokens, and the last one is a gate: how far to trust what the n-gram has seen in this context.

    score_v = student_v + base_v + (1 + gate) (ngram_v - base_v)    for its own tokens
    score_v = student_rest + ngram_v                                for all others

Every number comes from one correctly rounded float32 operation in this order, on logits that are
the same bits on every machine, so the scores are too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.errors import IntegrityError, ModelError
from tidegate.models import ngram
from tidegate.models.batch import Batch, check_batch
from tidegate.models.card import Comparison
from tidegate.models.exact.format import read
from tidegate.models.exact.load import model_of
from tidegate.models.ngram import NgramModel
from tidegate.models.port import F32Array, Model, ModelInfo

EXTRA_ROWS = 2
"""Logits of the student beyond its tokens': the rest's, and the gate."""

PACKAGED = "student_smollm2.json"

_ONE = np.float32(1)


class MixtureManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything about a mixture but the student's weights; stored as JSON beside their folder.

    `student_root` is the root hash of the converted folder `student`, `ngram` the fingerprint of
    the n-gram it was trained with. `tokens` are the student's own, ascending. `card` says how much
    worse the mixture is than the strong model, as an n-gram's does.
    """

    name: str
    licence: str
    provenance: str
    parameters: int
    training_tokens: int
    vocab_size: int
    eos_ids: tuple[int, ...]
    vocabulary_hash: str
    student: str
    student_root: str
    ngram: str
    tokens: tuple[int, ...]
    card: Mapping[str, Comparison] = {}


class MixtureModel:
    """`port.Model` over a student and an n-gram that read the same sequences."""

    exact = True

    def __init__(self, manifest: MixtureManifest, student: Model, counts: NgramModel) -> None:
        _check(manifest, student, counts)
        self.manifest = manifest
        self.vocab_size = manifest.vocab_size
        self.eos_ids = frozenset(manifest.eos_ids)
        self.context_length = min(student.context_length, counts.context_length)
        parts = (student.fingerprint, counts.fingerprint, *map(str, manifest.tokens))
        self.fingerprint = hashlib.sha256(" ".join(parts).encode()).hexdigest()
        self._student = student
        self._ngram = counts
        self._tokens_C = np.array(manifest.tokens, np.int64)
        self._base_C = counts.base_scores()[self._tokens_C]
        self._class_V = np.full(self.vocab_size, len(manifest.tokens), np.int64)
        self._class_V[self._tokens_C] = np.arange(len(manifest.tokens))
        self._lengths: dict[int, int] = {}

    def describe(self) -> ModelInfo:
        manifest = self.manifest
        return ModelInfo(
            name=manifest.name,
            parameters=manifest.parameters,
            licence=manifest.licence,
            provenance=manifest.provenance,
            numerics="exact integers and IEEE 754 single operations; the same on every machine",
        )

    def forward(self, batch: Batch) -> F32Array:
        """See `port.Model.forward`."""
        check_batch(
            batch,
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            length_of=lambda number: self._lengths.get(number, 0),
        )
        # The student first: it may refuse numbers out of range, and the n-gram cannot.
        student_NC = self._student.forward(
            [(number, self._class_V[np.asarray(tokens)].tolist()) for number, tokens in batch]
        )
        scores_NV = self._ngram.forward(batch)
        for number, tokens in batch:
            self._lengths[number] = self._lengths.get(number, 0) + len(tokens)
        for scores_V, student_C in zip(scores_NV, student_NC, strict=True):
            self._add(scores_V, student_C)
        return scores_NV

    def fork(self, sequence_id: int, new_id: int) -> None:
        """Start `new_id` as a copy of a sequence. Raises ModelError for an unknown or taken id."""
        self._ngram.fork(sequence_id, new_id)
        self._student.fork(sequence_id, new_id)
        self._lengths[new_id] = self._lengths[sequence_id]

    def drop(self, sequence_id: int) -> None:
        """Forget a sequence. Raises ModelError for an unknown id."""
        self._ngram.drop(sequence_id)
        self._student.drop(sequence_id)
        del self._lengths[sequence_id]

    def _add(self, scores_V: F32Array, student_C: NDArray[np.float32]) -> None:
        """Turn one row of the n-gram's scores into the mixture's."""
        *_, rest, gate = student_C
        seen_C = scores_V[self._tokens_C]
        seen_C -= self._base_C
        seen_C *= _ONE + min(max(gate, -_ONE), _ONE)
        seen_C += self._base_C
        seen_C += student_C[:-EXTRA_ROWS]
        scores_V += rest
        scores_V[self._tokens_C] = seen_C


def _check(manifest: MixtureManifest, student: Model, counts: NgramModel) -> None:
    if manifest.ngram != counts.fingerprint:
        raise IntegrityError(
            f"{manifest.name} was trained beside another n-gram",
            expected=manifest.ngram,
            actual=counts.fingerprint,
        )
    if counts.vocab_size != manifest.vocab_size:
        raise ModelError(f"{manifest.name} and its n-gram have different vocabularies")
    if student.vocab_size != len(manifest.tokens) + EXTRA_ROWS:
        raise ModelError(
            f"the student of {manifest.name} has {student.vocab_size} logits, not "
            f"{len(manifest.tokens) + EXTRA_ROWS}"
        )
    tokens = np.array(manifest.tokens)
    if np.any(np.diff(tokens) <= 0) or tokens[0] < 0 or tokens[-1] >= manifest.vocab_size:
        raise ModelError(f"the tokens of {manifest.name} do not ascend within the vocabulary")


def read_manifest(path: Path) -> MixtureManifest:
    """A mixture's manifest. Raises ModelError, or IntegrityError naming the file."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=MixtureManifest)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise IntegrityError(
            f"{path} is not a mixture's manifest: {error}", file=str(path)
        ) from error


def load(
    manifest_path: Path | None = None,
    *,
    ngram_path: Path | None = None,
    threads: int | None = None,
    context_length: int | None = None,
) -> MixtureModel:
    """The packaged mixture for SmolLM2, or the one whose manifest is given; every file is hashed.

    `ngram_path` is the manifest of another n-gram than the packaged one. Raises ModelError, or
    IntegrityError naming the file.
    """
    if manifest_path is None:
        packaged = resources.files("tidegate") / "data"
        with resources.as_file(packaged) as folder:
            return load(folder / PACKAGED, threads=threads, context_length=context_length)
    manifest = read_manifest(manifest_path)
    folder = manifest_path.parent / manifest.student
    student = _student(folder, manifest, threads, context_length)
    counts = ngram.load(ngram_path, context_length=context_length)
    return MixtureModel(manifest, student, counts)


def _student(
    folder: Path, manifest: MixtureManifest, threads: int | None, context_length: int | None
) -> Model:
    """The student alone, on the exact engine."""
    converted = read(folder)
    if converted.root != manifest.student_root:
        raise IntegrityError(
            f"{folder} is not the student that {manifest.name} was made with",
            file=str(folder),
            expected=manifest.student_root,
            actual=converted.root,
        )
    return model_of(converted, threads=threads, max_context=context_length)
