"""An inner half's strong model out of a sealed folder, and what is refused on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from proof_world import SHAPE, write_folder
from sealed_world import OWNER

from tidegate.cli import half_sealed, parts
from tidegate.config import Models, Sealed, Settings
from tidegate.errors import ConfigError, TidegateError
from tidegate.models import load
from tidegate.vault.errors import TamperedError, VaultError
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.lease_socket import LeaseServer
from tidegate.vault.open_sealed import open_sealed
from tidegate.vault.seal import seal


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted model, sealed, with its owner's key and the wrapping key beside it."""
    folder: Path = tmp_path_factory.mktemp("sealed")
    write_folder(folder / "plain", SHAPE)
    kms = LocalKms.create(folder / "kms")
    seal(folder / "plain", folder / "sealed", model="tiny", kms=kms, signer=OWNER)
    (folder / "owner.pub").write_text(OWNER.verifier.encode() + "\n")
    return folder


@pytest.fixture(autouse=True)
def _leave_this_process_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_sealed, "keep_off_disk", lambda: None)


def settings(place: Path, strong: str = "sealed", **how: object) -> Settings:
    chosen = {"owner": place / "owner.pub", "kms": f"local:{place / 'kms'}"} | how
    return Settings(models=Models(strong=str(place / strong)), sealed=Sealed.model_validate(chosen))


def test_a_sealed_model_runs_as_the_plain_one_does(place: Path):
    with half_sealed.at_hand(settings(place)) as models:
        held = parts.strong_model(models)
        opened = Path(models.strong)
    assert not opened.exists()
    plain = load.load_strong(str(place / "plain"))
    assert held.fingerprint == plain.fingerprint
    batch = [(0, [5, 6, 7])]
    assert np.array_equal(held.forward(batch), plain.forward(batch))


def test_a_model_in_the_clear_needs_nothing(place: Path):
    clear = Settings(models=Models(strong=str(place / "plain")))
    with half_sealed.at_hand(clear) as models:
        assert models == clear.models


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        (lambda place: Settings(models=Models(strong=str(place / "sealed"))), "is sealed; say"),
        (lambda place: settings(place, strong="plain"), "is no sealed folder"),
        (lambda place: settings(place, kms=None), "needs both"),
        (lambda place: settings(place, kms="paper:note"), "no key service"),
    ],
    ids=["nobody says whose", "the folder was swapped", "no keys", "no such service"],
)
def test_folder_and_settings_have_to_go_together(
    place: Path, chosen: Callable[[Path], Settings], says: str
):
    with pytest.raises(ConfigError, match=says), half_sealed.at_hand(chosen(place)):
        pass


def test_an_older_sealing_is_refused_where_one_is_named(place: Path):
    named = settings(place, manifest="00" * 32)
    with pytest.raises(TamperedError), half_sealed.at_hand(named):
        pass


def test_the_outer_half_is_told_that_it_needs_a_tokenizer_of_its_own(place: Path):
    with pytest.raises(ConfigError, match="holds the tokenizer"):
        parts.load_tokenizer(settings(place).models)


@dataclass
class HeldLease:
    """Stands for a lease that `tidegate vault release` holds."""

    keys: dict[int, bytes]
    seconds: list[float] = field(default_factory=lambda: [5.0])

    def key(self, shard: int) -> bytes:
        return self.keys[shard]

    def left(self) -> float:
        return self.seconds[0]

    def check(self) -> bool:
        return self.seconds[0] > 0


def test_keys_of_a_lease_open_it_and_its_end_is_noticed(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(half_sealed, "LOOK_S", 0.01)
    opened = open_sealed(place / "sealed", OWNER.verifier)
    key_of = opened.key_from(LocalKms(place / "kms"))
    lease = HeldLease({shard.number: key_of(shard.number) for shard in opened.manifest.shards})
    socket = tmp_path / "lease.sock"
    leased = settings(place, kms=f"lease:{socket}")

    async def watch() -> None:
        watching = asyncio.create_task(half_sealed.until_lease_ends(leased.sealed))
        await asyncio.sleep(0.1)
        assert not watching.done()
        lease.seconds[0] = 0.0
        with pytest.raises(VaultError, match="is over"):
            await asyncio.wait_for(watching, 10)

    with LeaseServer(lease, socket):  # type: ignore[arg-type]
        with half_sealed.at_hand(leased) as models:
            parts.strong_model(models)
        asyncio.run(watch())
    with pytest.raises(TidegateError, match="No lease is held"):
        asyncio.run(half_sealed.until_lease_ends(leased.sealed))
