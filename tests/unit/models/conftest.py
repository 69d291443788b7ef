from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import safetensors.numpy

from tidegate.models.ngram_tables import NgramManifest, Smoothing, count

VOCAB = 97

SMOOTHING = Smoothing(
    discounts=(0.75, 0.8125, 0.875),
    cache_weights=(2.0, 3.5, 5.0, 1.25, 1.0),
    cache_backoffs=(4.0, 2.0, 1.5, 0.75, 0.5),
    prior_weight=3.0,
    prior_offset=11.0,
)


def write_ngram(folder: Path, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Path:
    """A small n-gram on disk; returns its manifest."""
    tables = count(texts, order=4, vocab_size=VOCAB)
    data = safetensors.numpy.save(tables)
    (folder / "tables.safetensors").write_bytes(data)
    manifest = NgramManifest(
        name="small",
        licence="Apache-2.0",
        provenance="made up",
        parameters=sum(table.size for table in tables.values()),
        training_tokens=sum(len(answer) for _, answer in texts),
        vocab_size=VOCAB,
        eos_ids=(2,),
        vocabulary_hash="",
        tables_file="tables.safetensors",
        tables_sha256=hashlib.sha256(data).hexdigest(),
        smoothing=SMOOTHING,
    )
    path = folder / "small.json"
    path.write_bytes(msgspec.json.encode(manifest))
    return path


def sample_texts() -> list[tuple[list[int], list[int]]]:
    rows = []
    for number in range(12):
        text = [(7 * number + place * place // 3) % 41 + 3 for place in range(60)]
        rows.append((text[:10], text[10:]))
    return rows


@pytest.fixture
def ngram_manifest(tmp_path: Path) -> Path:
    return write_ngram(tmp_path, sample_texts())
