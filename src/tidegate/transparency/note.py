"""Signed checkpoints: a log's size and root in a form that others can keep and countersign.

Formats: C2SP signed-note and tlog-checkpoint (https://c2sp.org/signed-note,
https://c2sp.org/tlog-checkpoint) with Ed25519 (RFC 8032), signature type 0x01. A checkpoint kept on
another machine is what makes a rewritten or rolled-back log visible.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tidegate.transparency.errors import CheckpointError

MAX_NOTE_BYTES = 65_536
"""A checkpoint is under 300 bytes; the rest is room for witnesses' signatures, up to 5 kB each."""

_ED25519 = b"\x01"
_DASH = "\u2014 "
KEY_NAME = re.compile(r"[^\s+\x00-\x1f]+")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tree head of the log called `origin`: `size` leaves under the 32-byte `root`."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The note's text: three lines."""
        return f"{self.origin}\n{self.size}\n{b64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a note's text. Extension lines are allowed and ignored.

        Raises:
            CheckpointError: not a checkpoint.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
            raise CheckpointError("A checkpoint has at least three lines, none of them empty.")
        if not _SIZE.fullmatch(lines[1]):
            raise CheckpointError("The tree size of a checkpoint is a decimal number.")
        root = unb64(lines[2])
        if len(root) != 32:
            raise CheckpointError("The root of a checkpoint is 32 bytes.")
        return cls(lines[0], int(lines[1]), root)


class SignedNote(NamedTuple):
    """A note taken apart: whole lines of text, and (key name, key id and signature) a line."""

    text: str
    signatures: tuple[tuple[str, bytes], ...]


def take_apart(note: str) -> SignedNote:
    """The parts of `note`; says nothing about who signed it.

    Raises:
        CheckpointError: malformed, or too large.
    """
    if len(note.encode()) > MAX_NOTE_BYTES:
        raise CheckpointError("The note is too large.")
    if any(character < " " and character != "\n" for character in note):
        raise CheckpointError("A note holds no control characters.")
    body, blank, signatures = note.rpartition("\n\n")
    if not blank or not signatures.endswith("\n"):
        raise CheckpointError("A note ends in a blank line and signature lines.")
    return SignedNote(body + "\n", signature_lines(signatures))


def signature_lines(lines: str) -> tuple[tuple[str, bytes], ...]:
    """Signature lines, as a note ends in and as witnesses answer. Raises CheckpointError."""
    if not lines.endswith("\n"):
        raise CheckpointError("A signature line ends in a newline.")
    return tuple(map(_signature_line, lines[:-1].split("\n")))


def signature_line(name: str, signature: bytes) -> str:
    """One signature line, with its newline; `signature` begins with the key id."""
    return f"{_DASH}{name} {b64(signature)}\n"


def note_text(note: str) -> str:
    """What a note says, whoever signed it: for notes that are one's own. Raises CheckpointError."""
    return take_apart(note).text


class Signer:
    """An Ed25519 key with the name it signs under, which is also the log's origin.

    Args:
        name: by convention a URL without its scheme, such as `example.com/ledger`.
        key: the private key.

    Raises:
        CheckpointError: the name is empty or holds a space, a plus sign or a control character.
    """

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.verifier = Verifier(name, key.public_key().public_bytes_raw())
        self._key = key

    @property
    def name(self) -> str:
        """The key's name."""
        return self.verifier.name

    def sign(self, checkpoint: Checkpoint) -> str:
        """The signed note for `checkpoint`.

        Raises:
            CheckpointError: the checkpoint is of another log.
        """
        if checkpoint.origin != self.name:
            raise CheckpointError("A log signs its own checkpoints only.")
        return self.sign_text(checkpoint.text())

    def sign_text(self, text: str) -> str:
        """The signed note for any text of whole lines without control characters.

        Raises:
            CheckpointError: the text could not be read back from the note.
        """
        signature = self.verifier.key_id + self._key.sign(text.encode())
        note = f"{text}\n{signature_line(self.name, signature)}"
        if self.verifier.open_text(note) != text:
            raise CheckpointError("Only whole lines can be signed.")
        return note


@dataclass(frozen=True, slots=True)
class Verifier:
    """A trusted key: its name and its 32 public bytes."""

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        if not KEY_NAME.fullmatch(self.name) or len(self.public_key) != 32:
            raise CheckpointError("A key has a name without spaces or plus signs, and 32 bytes.")

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256(name || 0x0A || 0x01 || public key)."""
        named = self.name.encode() + b"\n" + _ED25519 + self.public_key
        return hashlib.sha256(named).digest()[:4]

    def encode(self) -> str:
        """`name+hex(key id)+base64(0x01 || public key)`, to put in a configuration file."""
        return f"{self.name}+{self.key_id.hex()}+{b64(_ED25519 + self.public_key)}"

    @classmethod
    def parse(cls, encoded: str) -> Verifier:
        """Read what `encode` wrote.

        Raises:
            CheckpointError: malformed, not Ed25519, or the key id does not fit the key.
        """
        name, _, rest = encoded.partition("+")
        key_id, _, key = rest.partition("+")
        raw = unb64(key)
        if raw[:1] != _ED25519:
            raise CheckpointError("Only Ed25519 keys (type 0x01) are supported.")
        verifier = cls(name, raw[1:])
        if verifier.key_id.hex() != key_id:
            raise CheckpointError("The key id does not belong to this name and key.")
        return verifier

    def open_text(self, note: str) -> str:
        """The text of `note`, once this key's signature under it was checked.

        Raises:
            CheckpointError: malformed, too large, not signed by this key, or wrongly signed.
        """
        text, signatures = take_apart(note)
        mine = False
        for name, signature in signatures:
            if (name, signature[:4]) == (self.name, self.key_id):
                self._check(text, signature[4:])
                mine = True
        if not mine:
            raise CheckpointError(f"The note is not signed by {self.name}.")
        return text

    def open(self, note: str) -> Checkpoint:
        """The checkpoint in a note signed by this key, for the log of this key's name.

        Raises:
            CheckpointError: as `open_text`; not a checkpoint; or of another log.
        """
        checkpoint = Checkpoint.parse(self.open_text(note))
        if checkpoint.origin != self.name:
            raise CheckpointError("The checkpoint is of another log.")
        return checkpoint

    def _check(self, text: str, signature: bytes) -> None:
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, text.encode())
        except InvalidSignature as error:
            raise CheckpointError(f"The signature of {self.name} is wrong.") from error


def _signature_line(line: str) -> tuple[str, bytes]:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not KEY_NAME.fullmatch(name):
        raise CheckpointError("A signature line is a dash, a key name and a signature.")
    signature = unb64(encoded)
    if len(signature) < 5:
        raise CheckpointError("A signature is longer than its key id.")
    return name, signature


def opened_by(keys: Sequence[Verifier], note: str) -> Checkpoint:
    """The checkpoint in a note that at least one of a log's keys signed, and none wrongly.

    Raises:
        CheckpointError: malformed, not signed by any of them, wrongly signed, or of another log.
    """
    named = {(name, signature[:4]) for name, signature in take_apart(note).signatures}
    signers = [key for key in keys if (key.name, key.key_id) in named]
    if not signers:
        raise CheckpointError("The checkpoint is not signed by a trusted key.")
    opened = [key.open(note) for key in signers]
    return opened[0]


def b64(raw: bytes) -> str:
    """Base64 (RFC 4648, section 4)."""
    return base64.b64encode(raw).decode()


def unb64(encoded: str) -> bytes:
    """Canonical base64 back to bytes. Raises CheckpointError."""
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CheckpointError("This is not base64.") from error
    if b64(raw) != encoded:
        raise CheckpointError("This is not canonical base64.")
    return raw
