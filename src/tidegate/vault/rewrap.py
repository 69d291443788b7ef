"""Wraps every data key anew, under a key service's newest version; no shard is touched."""

from __future__ import annotations

from tidegate.models.cache import Progress, no_progress
from tidegate.vault import seal_files as files
from tidegate.vault.kms_port import Kms, WrappedKey
from tidegate.vault.open_sealed import Sealed


def rewrap(
    sealed: Sealed, old: Kms, new: Kms | None = None, progress: Progress = no_progress
) -> None:
    """Wrap every data key of a sealed folder anew; `new` moves them to another key service.

    Each is replaced in one step. An interrupted call leaves keys of both kinds, which all open
    while `old` is not revoked; run it again before that. Raises KmsError, OSError.
    """
    total = len(sealed.manifest.shards)
    for number in range(total):
        progress("wrapping keys", number, total)
        wrapped = sealed.wrapped(number)
        context = sealed.manifest.key_context(number)
        holder = new if new is not None and _is_of(wrapped, new) else old
        key = holder.unwrap(wrapped, context)
        files.write_key(sealed.folder, number, (new or old).wrap(key, context))
    progress("wrapping keys", total, total)


def _is_of(wrapped: WrappedKey, kms: Kms) -> bool:
    return (wrapped.kms, wrapped.key) == (kms.kind, kms.key)
