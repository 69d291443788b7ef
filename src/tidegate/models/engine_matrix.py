"""Which features of serving engines can be used, by engine and version, as tests found them.

The table is data, made by `tools/engine_matrix.py` from checks; *unknown* means that nobody looked.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

import msgspec

from tidegate.errors import ModelError


class Cell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of one feature of one engine, and what it rests on."""

    status: Literal["supported", "refused", "unknown"]
    how: str


class Matrix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`features`: by name, a cell for each of `engines`."""

    engines: tuple[str, ...]
    features: dict[str, dict[str, Cell]]


def load() -> Matrix:
    """The packaged table. Raises ModelError where the package is damaged."""
    try:
        raw = (files("tidegate.data") / "engine_matrix.json").read_bytes()
        return msgspec.json.decode(raw, type=Matrix)
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelError(f"the packaged matrix of engines cannot be read: {error}") from error
