"""Where the verify bench keeps what took long: answers and their scores, so that a run resumes.

A file is named by a hash of everything it depends on and published whole, so what is there is what
a fresh run would make on the same stack. Delete the folder to begin again.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path

import msgspec
import numpy as np

from tidegate.errors import ConfigError
from tidegate.models.cache import publish
from tidegate.verify.scores import TokenScores

_FIELDS = tuple(field.name for field in fields(TokenScores))


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer and all that re-execution is told of it. `prompt` names the prompt."""

    prompt: str
    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    temperature: float
    seed: bytes


class Work:
    """A folder of finished pieces. Raises ConfigError where one cannot be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def answers(self, name: str, key: object, make: Callable[[], list[Answer]]) -> list[Answer]:
        """The answers of `name`, made now unless they are there."""
        path = self._path(f"answers-{name}", key, "json")
        if path.exists():
            try:
                return msgspec.json.decode(path.read_bytes(), type=list[Answer])
            except msgspec.DecodeError as error:
                raise _unreadable(path, error) from error
        made = make()
        temporary = path.with_suffix(".making")
        temporary.write_bytes(msgspec.json.encode(made))
        publish(temporary, path)
        return made

    def scores(
        self, name: str, key: object, make: Callable[[], Iterable[TokenScores]]
    ) -> list[TokenScores]:
        """The scores of `name`, one of each answer, made now unless they are there."""
        path = self._path(f"scores-{name}", key, "npz")
        if path.exists():
            try:
                with np.load(path, allow_pickle=False) as stored:
                    arrays = {field: stored[field] for field in (*_FIELDS, "lengths")}
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                raise _unreadable(path, error) from error
            ends = np.cumsum(arrays["lengths"])[:-1]
            columns = [np.split(arrays[field], ends, axis=-1) for field in _FIELDS]
            return [TokenScores(*row) for row in zip(*columns, strict=True)]
        made = list(make())
        temporary = path.with_suffix(".making")
        joined = joined_scores(made)
        with temporary.open("wb") as handle:
            np.savez(
                handle,
                lengths=np.array([one.expected_T.size for one in made]),
                **{field: getattr(joined, field) for field in _FIELDS},
            )
        publish(temporary, path)
        return made

    def keep(self, name: str, body: bytes) -> None:
        """Leave a result beside the rest, for whoever wants to look."""
        (self._folder / name).write_bytes(body)

    def _path(self, name: str, key: object, ending: str) -> Path:
        digest = hashlib.blake2b(msgspec.json.encode(key), digest_size=8).hexdigest()
        return self._folder / f"{name}-{digest}.{ending}"


def joined_scores(scores: Sequence[TokenScores]) -> TokenScores:
    """Tokens of several answers as one, in order; at least one answer."""
    return TokenScores(
        *(np.concatenate([getattr(one, field) for one in scores], axis=-1) for field in _FIELDS)
    )


def _unreadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{path} cannot be read ({error}); delete it to make it again")
