"""Key files: one file, its hash in front, readable by its owner alone, replaced in one step.

A magic line, the SHA-256 of the rest, and a safetensors file in which two tensors of bytes stand
for `key.json` and `tokenizer.json`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from tidegate.models.cache import publish
from tidegate.prove.verdict import UnverifiableError

Array = NDArray[Any]

HEADER: Final = "key.json"
TOKENIZER: Final = "tokenizer.json"
_HASH_BYTES: Final = 32


def seal(magic: bytes, header: bytes, tokenizer_json: bytes, tensors: Mapping[str, Array]) -> bytes:
    """A key file's bytes; `magic` is one line that names the format."""
    texts = {HEADER: header, TOKENIZER: tokenizer_json}
    body: bytes = safetensors.numpy.save(
        {
            **tensors,
            **{name: np.frombuffer(text, np.uint8) for name, text in texts.items()},
        }
    )
    return magic + hashlib.sha256(body).digest() + body


def unseal(magic: bytes, raw: bytes) -> dict[str, Array]:
    """The tensors of a key file. Raises UnverifiableError unless it is whole and of this format."""
    start = len(magic) + _HASH_BYTES
    body = raw[start:]
    if not raw.startswith(magic):
        raise UnverifiableError("this is not such a key; make one with `tidegate prove keygen`")
    if not hmac.compare_digest(hashlib.sha256(body).digest(), raw[len(magic) : start]):
        raise UnverifiableError("the key is damaged; make another with `tidegate prove keygen`")
    tensors: dict[str, Array] = safetensors.numpy.load(body)
    return tensors


def read(path: Path) -> bytes:
    """A key file's bytes. Raises UnverifiableError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnverifiableError(f"cannot read the key {path}: {error.strerror}") from error


def write(path: Path, raw: bytes) -> None:
    """Put a key file in place, readable by its owner alone; what was there before is gone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".making")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        handle.write(raw)
    publish(fresh, path)
