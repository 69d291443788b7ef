"""`tidegate vault open`: a sealed model in memory, and in an engine."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.progress import bars
from tidegate.cli.vault_kms import KMS_HELP, kms_of
from tidegate.cli.vault_seal import (
    AsJson,
    Folder,
    OfModel,
    Owner,
    Pinned,
    Workers,
    opened_folder,
    refusals,
    show,
)
from tidegate.errors import ConfigError
from tidegate.vault.lease_socket import LeaseCalls
from tidegate.vault.open_memory import in_memory, keep_off_disk
from tidegate.vault.open_sealed import KeyOf, Sealed


def open_model(
    sealed: Folder,
    owner: Owner,
    kms: Annotated[
        str,
        typer.Option(help=f"{KMS_HELP} Or lease:SOCKET of `tidegate vault release`."),
    ],
    model_id: OfModel = None,
    manifest: Pinned = None,
    tensor: Annotated[
        str | None, typer.Option(help="Write this tensor's bytes to --out, and open no other.")
    ] = None,
    file: Annotated[
        str | None, typer.Option(help="The file of the tensor, where several have one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the tensor goes, in the clear; `-`: to a pipe.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Load the engine, and let the model answer this.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 32,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Open a sealed model into memory. No byte of it is written to a disk.

    Without `--tensor` or `--prompt` everything is decrypted, checked and dropped again. Refused on
    a host with swap, unless the process may lock its memory.
    """
    if (tensor is None) != (out is None):
        raise ConfigError("--tensor and --out go together")
    keep_off_disk()
    with refusals(), bars() as progress:
        opened = opened_folder(sealed, owner, model_id, manifest)
        key_of = key_source(kms, opened)
        if tensor is not None and out is not None:
            _write(out, opened.read_tensor(tensor, key_of, file))
            return
        begun = time.perf_counter()
        with in_memory(opened, key_of, workers=workers, progress=progress) as folder:
            seconds = time.perf_counter() - begun
            answer = _answer(folder, prompt, max_tokens, workers) if prompt is not None else None
    size = sum(one.size for one in opened.manifest.files)
    shown: dict[str, str | int | float] = {
        "model": opened.manifest.model,
        "manifest": opened.manifest.digest.hex(),
        "shards": len(opened.manifest.shards),
        "bytes": size,
        "seconds": round(seconds, 3),
    }
    if answer is not None:
        shown["answer"] = answer
    show(f"opened {opened.manifest.model} in memory", shown, as_json)


def key_source(name: str, opened: Sealed) -> KeyOf:
    """Data keys from a key service, or from the lease that this host holds. Raises ConfigError."""
    kind, _, place = name.partition(":")
    return LeaseCalls(Path(place)).key if kind == "lease" else opened.key_from(kms_of(name))


def _write(out: Path, raw: bytearray) -> None:
    if str(out) == "-":
        if sys.stdout.isatty():
            raise ConfigError("a tensor is not written to a terminal; pipe it, or give --out FILE")
        sys.stdout.buffer.write(raw)
        return
    with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        handle.write(raw)


def _answer(folder: Path, prompt: str, max_tokens: int, threads: int | None) -> str:
    """The likeliest tokens, one after the other."""
    from tidegate.models import load, tokenizer

    model = load.load_strong(str(folder), threads=threads)
    words = tokenizer.load(folder)
    said: list[int] = []
    ids = words.chat([{"role": "user", "content": prompt}])
    for _ in range(min(max_tokens, model.context_length - len(ids))):
        token = int(model.forward([(0, said[-1:] or ids)])[0].argmax())
        if token in model.eos_ids:
            break
        said.append(token)
    return words.decode(said)
