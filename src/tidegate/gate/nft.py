"""nftables through its own library: text in, what the kernel says out. One call, one transaction.

The library is what the `nft` program is made of. Calling it spares a process for each heartbeat.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tidegate.errors import GateError
from tidegate.gate.accounts import Used
from tidegate.gate.nft_render import ALIVE, TABLE

_LIBRARY = "libnftables.so.1"
_JSON_OUTPUT = 1 << 4
_LOOKS = 4
_MOVING = {"quota", "counter", "metainfo"}


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the kernel has of a gate's tables."""

    quotas: tuple[Used, ...]
    passed: tuple[tuple[str, int, int], ...]
    """(counter, packets, bytes)."""
    alive: bool
    """Whether a heartbeat is in force."""
    shape: tuple[str, ...]
    """Tables, chains, rules and sets without what changes as packets pass: two equal shapes let
    the same out."""
    objects: tuple[tuple[str, str, str], ...]
    """(kind, family, name) of chains, quotas, limits and counters."""
    complete: bool
    """Whether both tables are there, and the set that heartbeats go to."""


def load(text: str) -> None:
    """Run commands as one transaction: all or none. Raises GateError with what nft said."""
    _call(text, 0)


def look() -> Kernel | None:
    """What there is of a gate; None where neither table is there. Raises GateError.

    A table may go between being listed and being read, where somebody loads rules meanwhile; then
    it is looked again.
    """
    for _ in range(_LOOKS - 1):
        with suppress(GateError):
            return _look()
    return _look()


def _look() -> Kernel | None:
    tables = [value for kind, value in _listed("tables") if kind == "table" and _owned(kind, value)]
    if not tables:
        return None
    ours = [pair for table in tables for pair in _listed(f"table {table['family']} {TABLE}")]
    counters = [value for kind, value in ours if kind == "counter"]
    sets = [value for kind, value in ours if kind == "set"]
    kinds = {"chain", "quota", "limit", "counter"}
    return Kernel(
        quotas=_used(value for kind, value in ours if kind == "quota"),
        passed=tuple((c["name"], c["packets"], c["bytes"]) for c in counters),
        alive=any(value.get("elem") for value in sets),
        shape=tuple(_shape(kind, value) for kind, value in ours if kind not in _MOVING),
        objects=tuple((k, value["family"], value["name"]) for k, value in ours if k in kinds),
        complete=len(tables) == 2 and any(value["name"] == ALIVE for value in sets),
    )


def quotas() -> tuple[Used, ...]:
    """The quota objects alone: for each heartbeat. Raises GateError where the table is gone."""
    return _used(
        value for kind, value in _listed(f"quotas table netdev {TABLE}") if kind == "quota"
    )


def _used(quotas: Iterable[dict[str, Any]]) -> tuple[Used, ...]:
    return tuple(Used(quota["name"], quota["used"], quota["bytes"] - 1) for quota in quotas)


def check(text: str) -> None:
    """Have the kernel look at commands without running them. Raises GateError."""
    _call(text, 0, dry=True)


def _listed(what: str) -> list[tuple[str, dict[str, Any]]]:
    entries = json.loads(_call(f"list {what}", _JSON_OUTPUT))["nftables"]
    return [(kind, value) for entry in entries for kind, value in entry.items()]


def _owned(kind: str, value: dict[str, Any]) -> bool:
    return (value["name"] if kind == "table" else value.get("table")) == TABLE


def _shape(kind: str, value: dict[str, Any]) -> str:
    still = {key: item for key, item in value.items() if key not in {"handle", "elem"}}
    return json.dumps([kind, still], sort_keys=True)


def _call(text: str, flags: int, *, dry: bool = False) -> str:
    library = _library()
    context = library.nft_ctx_new(0)
    if not context:
        raise GateError("nftables gives no context: is the kernel's nf_tables there?")
    try:
        library.nft_ctx_output_set_flags(context, flags)
        library.nft_ctx_set_dry_run(context, dry)
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        status = library.nft_run_cmd_from_buffer(context, text.encode())
        said: bytes = library.nft_ctx_get_error_buffer(context) or b""
        output: bytes = library.nft_ctx_get_output_buffer(context) or b""
    finally:
        library.nft_ctx_free(context)
    if status != 0:
        reason = ": ".join(said.decode(errors="replace").split("\n")[:2])
        raise GateError(f"nftables refused: {reason}", status=status)
    return output.decode()


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise GateError(f"there is no {_LIBRARY}: install the package nftables") from error
    context = ctypes.c_void_p
    library.nft_ctx_new.restype = context
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [context]
    library.nft_ctx_output_set_flags.argtypes = [context, ctypes.c_uint]
    library.nft_ctx_set_dry_run.argtypes = [context, ctypes.c_bool]
    library.nft_run_cmd_from_buffer.argtypes = [context, ctypes.c_char_p]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [context]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [context]
        getattr(library, name).restype = ctypes.c_char_p
    return library
