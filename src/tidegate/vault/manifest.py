"""The manifest of a sealed model: which bytes of which file lie in which shard, and every tensor.

A shard is a stretch of one file, cut between tensors and encrypted under a key of its own. The
manifest is fixed before the first shard is sealed, and its digest is part of every shard's context;
`sealing` is random, so no two sealings share a digest. Source: spec/sealed-shards.md.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

import msgspec

from tidegate.vault.errors import TamperedError, VaultError

FORMAT: Final = "tidegate-manifest/1"
MAX_MANIFEST_BYTES: Final = 256 << 20
"""A million tensors need some 150 MB; more is refused before it is parsed."""

_PLAIN = re.compile(
    r"[\x21\x23-\x5b\x5d-\x7e](?:[\x20\x21\x23-\x5b\x5d-\x7e]{0,254}[\x21\x23-\x5b\x5d-\x7e])?"
)
_SEALING = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class File:
    """A file of the model's folder; `name` is its path there, `size` in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Shard:
    """`size` bytes of `file` from `offset` on, encrypted as one message."""

    number: int
    file: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's bytes, [start, end) of a shard's plaintext, as the file stores them."""

    name: str
    shard: int
    start: int
    end: int
    dtype: str
    shape: tuple[int, ...]


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON object, fields in the order in which they are written."""

    format: str
    model: str
    sealing: str
    files: tuple[File, ...]
    shards: tuple[Shard, ...]
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What was sealed, without its contents. `digest` is the SHA-256 of the canonical bytes.

    Raises VaultError for names or ranges that no sealing would have made: shards have to be
    numbered from 0, follow each other and cover every file.
    """

    model: str
    sealing: str
    files: tuple[File, ...]
    shards: tuple[Shard, ...]
    tensors: tuple[Tensor, ...]
    digest: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _require_plain("model id", self.model)
        if not _SEALING.fullmatch(self.sealing):
            raise VaultError("a sealing's id is 32 hex digits")
        _check_files(self.files)
        _check_shards(self.files, self.shards)
        _check_tensors(self.shards, self.tensors)
        object.__setattr__(self, "digest", hashlib.sha256(self.encode()).digest())

    def encode(self) -> bytes:
        """The canonical bytes: JSON without spaces, fields in fixed order."""
        written = _Written(FORMAT, self.model, self.sealing, self.files, self.shards, self.tensors)
        return msgspec.json.encode(written)

    @classmethod
    def parse(cls, raw: bytes) -> Manifest:
        """Read what `encode` wrote.

        Raises TamperedError for anything else, a canonical manifest with a space added included.
        """
        if len(raw) > MAX_MANIFEST_BYTES:
            raise TamperedError(f"a manifest of {len(raw)} bytes is too large")
        try:
            read = msgspec.json.decode(raw, type=_Written)
            manifest = cls(read.model, read.sealing, read.files, read.shards, read.tensors)
        except (msgspec.DecodeError, UnicodeDecodeError, VaultError) as error:
            raise TamperedError(f"this is not a manifest: {error}") from error
        if read.format != FORMAT:
            raise TamperedError(f"the manifest's format is {read.format!r}, not {FORMAT!r}")
        if manifest.encode() != raw:
            raise TamperedError("the manifest is not in canonical form")
        return manifest

    def shard(self, number: int) -> Shard:
        """Raises VaultError for a shard that there is not."""
        if not 0 <= number < len(self.shards):
            raise VaultError(f"there is no shard {number}; the last is {len(self.shards) - 1}")
        return self.shards[number]

    def tensor(self, name: str, file: str | None = None) -> Tensor:
        """The tensor of that name, in that file if several files have one.

        Raises VaultError where there is none, or more than one.
        """
        found = [
            tensor
            for tensor in self.tensors
            if tensor.name == name and file in {None, self.shards[tensor.shard].file}
        ]
        if len(found) != 1:
            how_many = "several tensors, name the file" if found else "no tensor"
            raise VaultError(f"the model has {how_many}: {name!r}", tensor=name)
        return found[0]

    def shards_of(self, *files: str) -> tuple[int, ...]:
        """Numbers of the shards that hold these files. Raises VaultError for an unknown one."""
        known = {file.name for file in self.files}
        for name in files:
            if name not in known:
                raise VaultError(f"the model has no file {name!r}", file=name)
        return tuple(shard.number for shard in self.shards if shard.file in files)

    def shard_context(self, number: int) -> bytes:
        """What a shard is encrypted under besides its key. Raises VaultError as `shard`."""
        return self._context("tidegate-shard/1", number)

    def key_context(self, number: int) -> bytes:
        """What a shard's data key is wrapped under. Raises VaultError as `shard`."""
        return self._context("tidegate-key/1", number)

    def _context(self, purpose: str, number: int) -> bytes:
        lines = (purpose, self.model, str(self.shard(number).number), self.digest.hex())
        return "".join(f"{line}\n" for line in lines).encode()


def _require_plain(what: str, text: str) -> None:
    if not _PLAIN.fullmatch(text):
        raise VaultError(
            f"a {what} is 1 to 256 printable ASCII characters without quotes, backslashes, or "
            f"spaces at its ends; {text[:80]!r} is not"
        )


def require_path(name: str) -> None:
    """Raise VaultError unless `name` is a relative path that stays inside its folder."""
    _require_plain("file name", name)
    if any(part in {"", ".", ".."} for part in name.split("/")):
        raise VaultError(f"{name!r} is not a path inside a folder", file=name)


def _check_files(files: tuple[File, ...]) -> None:
    for file in files:
        require_path(file.name)
        if file.size < 0:
            raise VaultError(f"{file.name} has a negative size", file=file.name)
    names = [file.name for file in files]
    if not names or names != sorted(set(names)):
        raise VaultError("a manifest lists at least one file, each once, in order of their names")


def _check_shards(files: tuple[File, ...], shards: tuple[Shard, ...]) -> None:
    if [shard.number for shard in shards] != list(range(len(shards))):
        raise VaultError("shards are numbered from 0, in order")
    left = iter(shards)
    for file in files:
        offset = 0
        while offset < file.size or not offset:
            shard = next(left, None)
            if shard is None or (shard.file, shard.offset) != (file.name, offset):
                raise VaultError(f"no shard holds {file.name} from byte {offset} on")
            if not (shard.size > 0 or file.size == 0):
                raise VaultError(f"shard {shard.number} is empty")
            offset += shard.size
            if not file.size:
                break
        if offset != file.size:
            raise VaultError(f"the shards of {file.name} end at byte {offset} of {file.size}")
    if next(left, None) is not None:
        raise VaultError("there are shards of no file")


def _check_tensors(shards: tuple[Shard, ...], tensors: tuple[Tensor, ...]) -> None:
    for tensor in tensors:
        _require_plain("tensor name", tensor.name)
        _require_plain("dtype", tensor.dtype)
        if not 0 <= tensor.shard < len(shards):
            raise VaultError(f"tensor {tensor.name} lies in no shard", tensor=tensor.name)
        if not 0 <= tensor.start <= tensor.end <= shards[tensor.shard].size:
            raise VaultError(f"tensor {tensor.name} does not fit its shard", tensor=tensor.name)
        if any(side < 0 for side in tensor.shape):
            raise VaultError(f"tensor {tensor.name} has a negative side", tensor=tensor.name)
    if len({(shards[tensor.shard].file, tensor.name) for tensor in tensors}) != len(tensors):
        raise VaultError("a tensor is listed twice")
