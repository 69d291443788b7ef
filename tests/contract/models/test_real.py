"""The packaged models themselves."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from tidegate.errors import IntegrityError, ModelError
from tidegate.models import ngram, tokenizer
from tidegate.models.load import load_strong, load_tokenizer, load_weak
from tidegate.models.port import Model
from tidegate.models.prepared import prepare
from tidegate.models.tokenizer import FileTokenizer


@pytest.fixture(scope="module")
def folder() -> Path:
    pytest.importorskip("transformers", reason="needs tidegate[torch]")
    return prepare("smollm2")


@pytest.fixture(scope="module")
def words(folder: Path) -> FileTokenizer:
    return tokenizer.load(folder)


@pytest.fixture(scope="module")
def strong(folder: Path) -> Model:
    return load_strong(str(folder), threads=1)


def packaged_prompts() -> list[str]:
    text = (resources.files("tidegate") / "data" / "prompts.jsonl").read_text("utf-8")
    return [json.loads(line)["prompt"] for line in text.splitlines()]


def chat(words: FileTokenizer, prompt: str) -> list[int]:
    return words.chat([{"role": "user", "content": prompt}])


def test_the_packaged_ngram_states_how_much_worse_it_is():
    card = ngram.load().manifest.card
    assert set(card) == {"0.0", "0.7", "1.0"}
    for comparison in card.values():
        assert comparison.tokens > 5_000
        assert comparison.perplexity_ratio > 1
    assert card["0.0"].weak_bits <= 6.3
    assert card["1.0"].weak_bits <= 9.6


@pytest.mark.models
def test_a_weak_model_for_another_tokenizer_is_refused(words: FileTokenizer, tiny_ngram: Path):
    assert load_weak(None, words).vocab_size == words.vocab_size
    with pytest.raises(ModelError, match="another tokenizer"):
        load_weak(str(tiny_ngram), words)


@pytest.mark.models
def test_prompts_survive_encoding(words: FileTokenizer):
    for prompt in packaged_prompts():
        ids = words.encode(prompt)
        assert words.decode(ids) == prompt


@pytest.mark.models
def test_the_chat_template_renders_as_the_library_does(words: FileTokenizer, folder: Path):
    from transformers import AutoTokenizer

    library = AutoTokenizer.from_pretrained(folder)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi  there\n\n  2024"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    expected = library.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert words.chat(messages) == words.encode(expected)


@pytest.mark.models
def test_the_same_calls_on_a_real_model_give_bit_identical_logits(
    strong: Model, words: FileTokenizer
):
    def play() -> list[np.ndarray]:
        prompts = packaged_prompts()[::60]
        logits = [strong.forward([(n, chat(words, text)) for n, text in enumerate(prompts)])]
        for _ in range(4):
            tokens = logits[-1].argmax(axis=1).tolist()
            logits.append(strong.forward([(n, [token]) for n, token in enumerate(tokens)]))
        for number in range(len(prompts)):
            strong.drop(number)
        return logits

    for first, second in zip(play(), play(), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.models
def test_a_real_answer_makes_sense(strong: Model, words: FileTokenizer):
    feed = chat(words, "What is the capital of France?")
    ids: list[int] = []
    for _ in range(24):
        token = int(strong.forward([(0, feed)])[0].argmax())
        if token in strong.eos_ids:
            break
        ids.append(token)
        feed = [token]
    strong.drop(0)
    assert "Paris" in words.decode(ids)


@pytest.mark.models
def test_one_changed_byte_of_the_weights_is_refused(folder: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with (copy / "model.safetensors").open("r+b") as handle:
        handle.seek(10_000_000)
        byte = handle.read(1)
        handle.seek(10_000_000)
        handle.write(bytes([byte[0] ^ 1]))
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        load_strong(str(copy))


@pytest.mark.models
def test_a_tokenizer_is_found_by_name(words: FileTokenizer):
    assert load_tokenizer("smollm2").fingerprint == words.fingerprint
