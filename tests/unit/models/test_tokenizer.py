from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tidegate.errors import ModelError
from tidegate.models import tokenizer

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tokenizer(folder: Path, template: str = TEMPLATE) -> Path:
    """A byte-level tokenizer, one token per byte, with the usual special tokens."""
    folder.mkdir(exist_ok=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(template)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 256}))
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tokenizer.FileTokenizer:
    return tokenizer.load(write_tokenizer(tmp_path_factory.mktemp("tokenizer")))


@given(text=st.text())
def test_decode_undoes_encode(words: tokenizer.FileTokenizer, text: str):
    assert words.decode(words.encode(text)) == text


def test_a_conversation_follows_the_template(words: tokenizer.FileTokenizer):
    ids = words.chat([{"role": "user", "content": "Hi"}])
    start, end = (words.encode(text)[0] for text in ("<|im_start|>", "<|im_end|>"))
    assert ids[0] == start
    assert ids.count(end) == 1
    assert words.decode(ids) == "user\nHi\nassistant\n"
    without = words.chat([{"role": "user", "content": "Hi"}], add_generation_prompt=False)
    assert ids[: len(without)] == without
    assert len(without) < len(ids)


def test_every_known_end_token_ends_an_answer(words: tokenizer.FileTokenizer):
    ends = {words.encode(text)[0] for text in ("<|im_end|>", "<|endoftext|>")}
    assert words.eos_ids == ends | {256}


def test_a_template_cannot_reach_out_of_its_sandbox(tmp_path: Path):
    hostile = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    loaded = tokenizer.load(write_tokenizer(tmp_path / "hostile", hostile))
    with pytest.raises(ModelError, match="template"):
        loaded.chat([{"role": "user", "content": "Hi"}])


def test_messages_the_template_refuses_are_an_error_for_the_user(tmp_path: Path):
    strict = "{% if messages[0].role != 'user' %}{{ raise_exception('user first') }}{% endif %}"
    loaded = tokenizer.load(write_tokenizer(tmp_path / "strict", strict))
    with pytest.raises(ModelError, match="user first"):
        loaded.chat([{"role": "system", "content": "Hi"}])


def test_another_template_is_another_fingerprint(tmp_path: Path):
    one = tokenizer.load(write_tokenizer(tmp_path / "one"))
    other = tokenizer.load(write_tokenizer(tmp_path / "other", TEMPLATE + " "))
    assert one.fingerprint != other.fingerprint
    assert one.vocabulary_hash == other.vocabulary_hash


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        tokenizer.load(tmp_path)


@pytest.mark.usefixtures("words")
def test_tokenizer_and_ngram_load_no_engine_code(tmp_path: Path, ngram_manifest: Path):
    folder = write_tokenizer(tmp_path / "tokenizer")
    script = (
        "import sys; from pathlib import Path\n"
        "from tidegate.models import load, ngram, packages, prepared, tokenizer\n"
        f"tokenizer.load(Path({str(folder)!r})).encode('hello')\n"
        f"ngram.load(Path({str(ngram_manifest)!r})).forward([(0, [3])])\n"
        "print(sorted({'torch', 'transformers', 'llama_cpp'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
