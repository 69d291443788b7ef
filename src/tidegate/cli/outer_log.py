"""The record that the outer half keeps, opened from settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.cli.ground import secret_bytes
from tidegate.clock import SystemClock
from tidegate.config import Models, Settings
from tidegate.errors import ConfigError
from tidegate.models.exact.format import is_converted
from tidegate.models.packages import pins
from tidegate.models.port import Model
from tidegate.models.prepared import MANIFEST, content_hash, manifest_of, prepare
from tidegate.models.tokenizer import FileTokenizer
from tidegate.record.entries import Does, Stack
from tidegate.record.private import Clear, Seal
from tidegate.transparency.note import Signer
from tidegate.units import Seconds
from tidegate.verify.record_commit import GroupCommit
from tidegate.verify.record_seal import SealTo
from tidegate.verify.record_store_files import FileStore
from tidegate.verify.record_writer import Writer


@asynccontextmanager
async def open_log(
    settings: Settings,
    folder: Path,
    tokenizer: FileTokenizer,
    weak: Model,
    incident: Callable[[str], None],
) -> AsyncIterator[GroupCommit]:
    """The record in `folder`, of no other process. Raises ConfigError or RecordError.

    `incident` hears when it cannot be written.
    """
    record = settings.record
    signer = record_signer(record.key_file, record.origin)
    stack = stack_of(settings, tokenizer, weak)
    with closing(FileStore(folder)) as store:

        def open_writer(more: Sequence[Does]) -> Writer:
            return Writer(
                store,
                signer,
                SystemClock(),
                stack,
                more=more,
                segment_bytes=record.segment_mib << 20,
            )

        async with GroupCommit(
            open_writer,
            SystemClock(),
            on_failure=record.on_failure,
            sign_after=Seconds(record.sign_ms / 1000),
            incident=incident,
        ) as log:
            yield log


def record_signer(path: Path, origin: str) -> Signer:
    """The key that signs checkpoints, made if need be; its public part is written beside it.

    Raises ConfigError.
    """
    signer = Signer(origin, Ed25519PrivateKey.from_private_bytes(secret_bytes(path)))
    public = path.with_name(path.name + ".pub")
    try:
        public.write_text(signer.verifier.encode() + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {public}: {error.strerror}") from error
    return signer


def seal_of(settings: Settings) -> Seal:
    """What hides the private part of answers, as settings say. Raises ConfigError."""
    key = settings.record.verifier
    return Clear() if key is None else SealTo(bytes.fromhex(key))


def stack_of(settings: Settings, tokenizer: FileTokenizer, weak: Model) -> Stack:
    """What answers, by fingerprint. Raises ConfigError where the strong model's is not known."""
    models = settings.models
    model = settings.record.model or _strong_fingerprint(models)
    if model is None:
        raise ConfigError(
            f"the fingerprint of {models.strong} is not known here; set [record] model to what the "
            "inner half's model says, so that a verifier can tell which model to replay"
        )
    engine = "exact" if _is_exact(models) else models.engine
    return Stack(
        model=model,
        tokenizer=tokenizer.fingerprint,
        template=tokenizer.template_hash,
        weak=weak.fingerprint,
        vocabulary=weak.vocab_size,
        engine=engine,
        numerics="as converted" if engine in ("exact", "llama.cpp") else models.dtype,
    )


def _is_exact(models: Models) -> bool:
    """Whether the strong model is a converted one, as far as this half knows it."""
    if models.tokenizer is not None or models.engine != "transformers":
        return False
    return is_converted(prepare(models.strong, dtype=models.dtype))


def _strong_fingerprint(models: Models) -> str | None:
    """As the engine's adapter works it out, from the pins and manifests that this half may have.

    A half with a tokenizer of its own has no strong model, and `strong` may be a mere default.
    """
    if models.tokenizer is not None:
        return None
    if models.engine == "llama.cpp":
        pin = pins().get(models.strong)
        return None if pin is None else pin.sha256
    folder = prepare(models.strong, dtype=models.dtype)
    if not (folder / MANIFEST).exists():
        return None
    manifest = manifest_of(folder, frozenset())
    # A converted folder's model is named by its root, whatever type the settings say.
    return manifest.root or content_hash(manifest, models.dtype)
