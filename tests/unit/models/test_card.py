from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.errors import ModelError
from tidegate.models import ngram
from tidegate.models.card import compare


def test_a_model_compared_with_itself_agrees_everywhere(ngram_manifest: Path):
    texts = [([3, 4], [5, 6, 7]), ([9], [3]), ([8], [])]
    result = compare(ngram.load(ngram_manifest), ngram.load(ngram_manifest), texts, batch=2)
    assert (result.texts, result.tokens) == (2, 4)
    assert result.perplexity_ratio == 1.0
    assert result.top1_agreement == 1.0


def test_the_batch_size_does_not_change_what_is_measured(ngram_manifest: Path):
    texts = [([3 + n], [5 + n, 6, 7 + n][: 1 + n % 3]) for n in range(7)]
    one, many = (
        compare(ngram.load(ngram_manifest), ngram.load(ngram_manifest), texts, batch=size)
        for size in (1, 5)
    )
    assert one.tokens == many.tokens
    assert one.weak_bits == pytest.approx(many.weak_bits)


def test_nothing_to_read_is_an_error(ngram_manifest: Path):
    model = ngram.load(ngram_manifest)
    with pytest.raises(ModelError):
        compare(model, model, [([3], [])])
