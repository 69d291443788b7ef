"""The strong model of an inner half, wherever it lies: in the clear, or sealed.

A sealed one is decrypted into memory files, loaded from there and nowhere else, and the files are
gone when loading is done. What a lease released is used for as long as the lease lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog

from tidegate.cli.vault_open import key_source
from tidegate.cli.vault_seal import opened_folder
from tidegate.config import Models, Sealed, Settings
from tidegate.errors import ConfigError
from tidegate.models.cache import Progress, no_progress
from tidegate.models.exact.stage import layers_among, names_of, span_of
from tidegate.models.prepared import EXACT
from tidegate.vault.errors import VaultError
from tidegate.vault.lease_socket import LeaseCalls
from tidegate.vault.open_memory import in_memory, keep_off_disk
from tidegate.vault.open_part import Chooses, part_in_memory, shards_of
from tidegate.vault.seal_files import NOTE

_log = structlog.get_logger(__name__)

LEASE: Final = "lease:"
LOOK_S: Final = 1.0
"""How often a half looks whether the lease of its keys still lasts."""


@contextmanager
def at_hand(
    settings: Settings, rank: int = 0, progress: Progress = no_progress
) -> Iterator[Models]:
    """The models' settings, with a strong model that can be loaded while the context is open.

    Where several ranks run it, no more of a sealed one is opened than `rank` needs.

    Raises ConfigError where the folder and `[sealed]` do not go together, VaultError where it
    cannot be opened, TamperedError where it is not what its owner sealed.
    """
    models, how = settings.models, settings.sealed
    folder = Path(models.strong)
    sealed = (folder / NOTE).is_file()
    if how.owner is None and how.kms is None:
        if sealed:
            raise ConfigError(f"{folder} is sealed; say in [sealed] whose it is and who has keys")
        yield models
        return
    if not sealed:
        # Weights in the clear where sealed ones were asked for: somebody swapped the folder.
        raise ConfigError(f"[sealed] is set, and {models.strong} is no sealed folder")
    if how.owner is None or how.kms is None:
        raise ConfigError("a sealed model needs both [sealed] owner and kms")
    if models.engine != "transformers" or models.strong.startswith(EXACT):
        raise ConfigError("a sealed model runs from its own files: transformers or converted ones")
    keep_off_disk()
    opened = opened_folder(folder, how.owner, how.model_id, how.manifest)
    key_of = key_source(how.kms, opened)
    shards = len(opened.manifest.shards)
    ranks = 1 + len(settings.ranks.addresses)
    if ranks == 1:
        opening = in_memory(opened, key_of, progress=progress)
    else:
        chooses = part_of(rank, ranks)
        shards = len(shards_of(opened.manifest, chooses))
        opening = part_in_memory(opened, key_of, chooses, progress=progress)
    with opening as plain:
        _log.info("sealed_opened", model=opened.manifest.model, shards=shards)
        yield models.model_copy(update={"strong": str(plain)})


def part_of(rank: int, ranks: int) -> Chooses:
    """The tensors that a rank needs, of a converted model's."""

    def chooses(names: Collection[str]) -> Collection[str]:
        return names_of(names, span_of(layers_among(names), rank, ranks))

    return chooses


async def until_lease_ends(how: Sealed) -> None:
    """Wait while the lease that the keys came under lasts; for ever where there is none.

    Raises VaultError when it is over. A holder that does not answer holds no lease.
    """
    if how.kms is None or not how.kms.startswith(LEASE):
        await asyncio.Event().wait()
        return
    calls = LeaseCalls(Path(how.kms.removeprefix(LEASE)))
    while await asyncio.to_thread(calls.left) > 0:
        await asyncio.sleep(LOOK_S)
    raise VaultError("the lease of the model's keys is over, so its weights may not be held")
