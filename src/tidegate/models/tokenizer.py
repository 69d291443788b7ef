"""Text and tokens, from a model folder's tokenizer files alone; loads no engine code.

The chat template is part of the model and runs in jinja's immutable sandbox. It has no clock: both
halves must render the same tokens. Text that spells a special token becomes that token, as in every
engine; a user can only rearrange his own conversation with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer as BackendTokenizer

from tidegate.errors import ModelError
from tidegate.models.port import Message
from tidegate.models.prepared import TOKENIZER_FILES, manifest_of

# Chat models end a turn with one of these even where their configuration names only another.
_END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>")


class FileTokenizer:
    """`port.Tokenizer` over `tokenizer.json` and a chat template.

    `vocabulary_hash` is the hex SHA-256 of all (token, id) alone: what a weak model depends on.
    `template_hash` is that of the chat template; empty where there is none.
    """

    def __init__(
        self,
        backend: BackendTokenizer,
        template: str | None,
        special: dict[str, str],
        eos_ids: frozenset[int],
    ) -> None:
        self._backend = backend
        self._special = special
        self._template = None if template is None else _environment().from_string(template)
        self.eos_ids = eos_ids
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)
        words = sorted(backend.get_vocab(with_added_tokens=True).items(), key=lambda word: word[1])
        self.vocabulary_hash = hashlib.sha256(json.dumps(words).encode()).hexdigest()
        self.template_hash = (
            "" if template is None else hashlib.sha256(template.encode()).hexdigest()
        )
        parts = (backend.to_str(), template or "", json.dumps(sorted(eos_ids)))
        self.fingerprint = hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without added begin or end tokens."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special tokens left out; an unfinished character becomes U+FFFD."""
        return str(self._backend.decode(list(ids), skip_special_tokens=True))

    def chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation. Raises ModelError if the template refuses it."""
        if self._template is None:
            raise ModelError("this model has no chat template; use the completions endpoint")
        try:
            text = self._template.render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=add_generation_prompt,
                **self._special,
            )
        except (jinja2.TemplateError, TypeError) as error:
            raise ModelError(
                f"the model's chat template refuses these messages: {error}"
            ) from error
        return self.encode(text)


def load(folder: Path) -> FileTokenizer:
    """The tokenizer of a model folder. Raises ModelError, or IntegrityError naming the file."""
    manifest_of(folder, TOKENIZER_FILES)
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ModelError(f"{folder} has no tokenizer.json", file=str(path))
    if not isinstance(_read_json(path).get("model"), dict):  # the library would raise anything
        raise ModelError(f"{path} describes no tokenizer", file=str(path))
    backend = BackendTokenizer.from_str(path.read_text(encoding="utf-8"))
    settings = _read_json(folder / "tokenizer_config.json")
    special = {
        name: text
        for name in ("bos_token", "eos_token", "pad_token", "unk_token")
        if (text := _token_text(settings.get(name))) is not None
    }
    return FileTokenizer(backend, _read_template(folder, settings), special, eos_ids_of(folder))


def eos_ids_of(folder: Path) -> frozenset[int]:
    """Tokens that end an answer: those the model's files name, and well-known ends of a turn."""
    ids: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        value = _read_json(folder / name).get("eos_token_id")
        ids.update(value if isinstance(value, list) else [] if value is None else [value])
    ends = {
        *_END_TOKENS,
        _token_text(_read_json(folder / "tokenizer_config.json").get("eos_token")),
    }
    added = _read_json(folder / "tokenizer.json").get("added_tokens", [])
    ids.update(token["id"] for token in added if token["content"] in ends)
    return frozenset(ids)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}", file=str(path)) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} is not a JSON object", file=str(path))
    return value


def _token_text(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _read_template(folder: Path, settings: dict[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    return template if isinstance(template, str) else None


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    return environment


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
