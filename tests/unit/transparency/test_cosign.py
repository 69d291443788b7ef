from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.transparency.cosign import Algorithm, Cosigner, WitnessKey
from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import Checkpoint, Signer

LOG = Signer("log.example", Ed25519PrivateKey.from_private_bytes(b"l" * 32))
NOTE = LOG.sign(Checkpoint(LOG.name, 7, bytes(range(32))))
TEXT = NOTE.partition("\n\n")[0] + "\n"

both = pytest.mark.parametrize("algorithm", Algorithm)


def cosigner(algorithm: Algorithm, name: str = "witness.example/w1") -> Cosigner:
    return Cosigner(name, b"w" * 32, algorithm)


@both
def test_a_cosignature_is_found_with_its_time_and_the_log_still_opens(algorithm: Algorithm) -> None:
    one = cosigner(algorithm)
    note = NOTE + one.cosign(TEXT, 1_679_315_147)
    found = one.public.find(note)
    assert found is not None
    assert (found.name, found.time) == ("witness.example/w1", 1_679_315_147)
    assert LOG.verifier.open(note).size == 7
    assert one.public.find(NOTE) is None


@both
def test_the_latest_of_one_witnesss_cosignatures_counts(algorithm: Algorithm) -> None:
    one = cosigner(algorithm)
    found = one.public.find(NOTE + one.cosign(TEXT, 20) + one.cosign(TEXT, 10))
    assert found is not None
    assert found.time == 20


@both
def test_a_cosignature_of_another_tree_spoils_the_note(algorithm: Algorithm) -> None:
    one = cosigner(algorithm)
    for other in (Checkpoint(LOG.name, 8, bytes(range(32))), Checkpoint(LOG.name, 7, bytes(32))):
        with pytest.raises(CheckpointError, match="wrong"):
            one.public.find(NOTE + one.cosign(other.text(), 5))


@both
def test_a_changed_time_or_byte_spoils_the_note(algorithm: Algorithm) -> None:
    one = cosigner(algorithm)
    name, _, encoded = one.cosign(TEXT, 5).removeprefix("— ").strip().partition(" ")
    raw = bytearray(base64.b64decode(encoded))
    for place in (11, 12, len(raw) - 1):
        raw[place] ^= 1
        with pytest.raises(CheckpointError, match="wrong"):
            one.public.find(NOTE + f"— {name} {base64.b64encode(raw).decode()}\n")
        raw[place] ^= 1
    for cut in (bytes(raw[:-1]), bytes(raw) + b"x", bytes(raw[:4]) + bytes(8) + bytes(raw[12:])):
        with pytest.raises(CheckpointError, match="malformed"):
            one.public.find(NOTE + f"— {name} {base64.b64encode(cut).decode()}\n")


def test_a_strangers_cosignature_is_passed_by() -> None:
    mine, stranger = cosigner(Algorithm.ED25519), Cosigner("witness.example/w1", b"s" * 32)
    assert mine.public.find(NOTE + stranger.cosign(TEXT, 5)) is None


def test_the_log_cannot_pass_its_own_signature_for_a_witnesss() -> None:
    same = Cosigner(LOG.name, b"l" * 32, Algorithm.ED25519)
    assert same.public.public_key == LOG.verifier.public_key
    assert same.public.find(NOTE) is None


@both
def test_a_key_reads_back_from_text(algorithm: Algorithm) -> None:
    key = cosigner(algorithm).public
    assert WitnessKey.parse(key.encode()) == key


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "name",
        LOG.verifier.encode(),
        cosigner(Algorithm.ED25519).public.encode().replace("w1+", "w2+"),
        cosigner(Algorithm.ED25519).public.encode()[:-4],
    ],
)
def test_a_malformed_key_is_refused(encoded: str) -> None:
    with pytest.raises(CheckpointError):
        WitnessKey.parse(encoded)


def test_what_cannot_be_signed_is_refused() -> None:
    for name in ("", "two words", "a+b", "n" * 256):
        with pytest.raises(CheckpointError):
            Cosigner(name, b"w" * 32)
    with pytest.raises(CheckpointError):
        Cosigner("w", b"short")
    one = cosigner(Algorithm.ML_DSA_44)
    for text, time in ((TEXT, 0), (TEXT, 2**63), ("no checkpoint\n", 5)):
        with pytest.raises(CheckpointError):
            one.cosign(text, time)
