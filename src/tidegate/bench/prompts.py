"""Real prompts for measurements: the packaged sample, or a larger file beside the checkout."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import msgspec

from tidegate.errors import ConfigError


class Prompt(msgspec.Struct, frozen=True):
    """One prompt with where it comes from and under which licence."""

    id: str
    prompt: str
    source: str
    licence: str
    category: str


BESIDE = Path("../shared/data/prompts.jsonl")


def beside_or_packaged() -> Path | None:
    """The larger prompt file beside the checkout where there is one; None for the sample."""
    return BESIDE if BESIDE.is_file() else None


def read(path: Path | None) -> list[Prompt]:
    """All prompts of a file, or of the packaged sample, in its order. Raises ConfigError."""
    packaged = files("tidegate.data") / "prompts.jsonl"
    try:
        text = path.read_bytes() if path else packaged.read_bytes()
        return [msgspec.json.decode(line, type=Prompt) for line in text.splitlines() if line]
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"cannot read prompts from {_name(path)}: {error}") from error


def load(path: Path | None, limit: int, longest: int) -> list[Prompt]:
    """The first `limit` prompts of at most `longest` characters, drawn evenly over the file.

    Without a path, the packaged sample. Raises ConfigError for a missing or malformed file, or when
    it holds fewer prompts than asked for.
    """
    rows = read(path)
    fitting = [row for row in rows if len(row.prompt) <= longest]
    if len(fitting) < limit:
        raise ConfigError(
            f"{_name(path)} holds {len(fitting)} prompts of {longest} characters, not {limit}"
        )
    # A file is ordered by source; every stretch of the run should see them all.
    stride = next(
        s for s in range(len(fitting) // 3 + 1, 2 * len(fitting)) if _coprime(s, len(fitting))
    )
    return [fitting[i * stride % len(fitting)] for i in range(limit)]


def _name(path: Path | None) -> str:
    return str(path) if path else "the packaged sample"


def _coprime(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1
