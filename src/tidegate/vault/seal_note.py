"""The owner's signature under a sealed model: a C2SP signed note, as other rooms sign theirs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import Signer, Verifier
from tidegate.vault.errors import TamperedError

FORMAT: Final = "tidegate-seal/1"
_FIELDS: Final = ("model", "manifest", "shards", "root")
_HASH = re.compile(r"[0-9a-f]{64}")
_COUNT = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Seal:
    """What is signed: the model's id, the manifest's digest, how many shards, their root."""

    model: str
    manifest: bytes
    shards: int
    root: bytes

    def text(self) -> str:
        """Five lines."""
        values = (self.model, self.manifest.hex(), str(self.shards), self.root.hex())
        lines = [f"{name} {value}" for name, value in zip(_FIELDS, values, strict=True)]
        return "\n".join([FORMAT, *lines]) + "\n"


def sign(seal: Seal, signer: Signer) -> str:
    """The signed note."""
    return signer.sign_text(seal.text())


def open_note(note: str, owner: Verifier) -> Seal:
    """The seal in a note that `owner` signed.

    Raises TamperedError where he did not, or where it is no seal.
    """
    try:
        text = owner.open_text(note)
    except CheckpointError as error:
        raise TamperedError(f"the seal is not {owner.name}'s: {error.message}") from error
    lines = text.removesuffix("\n").split("\n")
    values = [line.partition(" ")[2] for line in lines[1:]]
    if len(values) != len(_FIELDS) or not (
        _HASH.fullmatch(values[1]) and _COUNT.fullmatch(values[2]) and _HASH.fullmatch(values[3])
    ):
        raise TamperedError("this note is no seal")
    seal = Seal(values[0], bytes.fromhex(values[1]), int(values[2]), bytes.fromhex(values[3]))
    if seal.text() != text:
        raise TamperedError("this note is no seal")
    return seal
