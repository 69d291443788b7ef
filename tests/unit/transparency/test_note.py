from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import Checkpoint, Signer, Verifier

NAME = "example.com/ledger"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = Signer(NAME, KEY)
HEAD = Checkpoint(NAME, 7, bytes(32))

# From the documentation of Go's golang.org/x/mod/sumdb/note: another implementation's note.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_NOTE = (
    f"{GO_TEXT}\n— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_another_implementations_note_opens() -> None:
    verifier = Verifier.parse(GO_KEY)
    assert verifier.open_text(GO_NOTE) == GO_TEXT
    assert verifier.encode() == GO_KEY


def test_a_signed_checkpoint_opens_to_itself() -> None:
    assert SIGNER.verifier.open(SIGNER.sign(HEAD)) == HEAD


@pytest.mark.parametrize("size", [0, 7, 2**62])
def test_a_larger_size_under_an_old_signature_is_refused(size: int) -> None:
    note = SIGNER.sign(Checkpoint(NAME, size, bytes(32)))
    with pytest.raises(CheckpointError, match="wrong"):
        SIGNER.verifier.open(note.replace(f"\n{size}\n", f"\n{size + 1}\n", 1))


@pytest.mark.parametrize("text", ["", "no end of line", "a tab\tin it\n", "a return\r\n"])
def test_only_text_that_reads_back_is_signed(text: str) -> None:
    with pytest.raises(CheckpointError):
        SIGNER.sign_text(text)
    assert SIGNER.verifier.open_text(SIGNER.sign_text("two\nlines\n")) == "two\nlines\n"


def test_a_strangers_signature_is_not_enough() -> None:
    stranger = Signer(NAME, Ed25519PrivateKey.from_private_bytes(bytes(32)))
    with pytest.raises(CheckpointError, match="not signed by"):
        SIGNER.verifier.open(stranger.sign(HEAD))


def test_a_witness_may_countersign() -> None:
    witness = Signer("witness.example", Ed25519PrivateKey.from_private_bytes(b"w" * 32))
    text = HEAD.text()
    line = Signer(NAME, KEY).sign(HEAD).removeprefix(text + "\n")
    countersigned = SIGNER.sign(HEAD) + line.replace(NAME, witness.name)
    assert SIGNER.verifier.open(countersigned) == HEAD


def test_one_wrong_signature_of_a_known_key_spoils_the_note() -> None:
    note = SIGNER.sign(HEAD)
    other = SIGNER.sign(Checkpoint(NAME, 8, bytes(32)))
    with pytest.raises(CheckpointError, match="wrong"):
        SIGNER.verifier.open(note + other.rpartition("\n\n")[2])


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        HEAD.text() + "\n",
        HEAD.text() + "\nnot a signature line\n",
        HEAD.text() + f"\n— {NAME} !!!!\n",
        HEAD.text() + f"\n— {NAME} AAAA\n",
        SIGNER.sign(HEAD).replace("\n", "\r\n"),
        SIGNER.sign(HEAD) + "x" * 70_000 + "\n",
        SIGNER.sign(HEAD).removesuffix("\n"),
    ],
)
def test_a_malformed_note_is_refused(note: str) -> None:
    with pytest.raises(CheckpointError):
        SIGNER.verifier.open(note)


@pytest.mark.parametrize(
    "text",
    [
        "log\n1\n",
        "log\n01\n" + "A" * 43 + "=\n",
        "log\n-1\n" + "A" * 43 + "=\n",
        "log\n١\n" + "A" * 43 + "=\n",
        "log\n1\nAAAA\n",
        "log\n1\n" + "A" * 42 + "B=\n",
        "\n1\n" + "A" * 43 + "=\n",
        "log\n1\n" + "A" * 43 + "=",
    ],
)
def test_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint.parse(text)


def test_extension_lines_are_allowed() -> None:
    assert Checkpoint.parse(HEAD.text() + "extension\n") == HEAD


def test_a_key_vouches_for_no_other_log() -> None:
    text = Checkpoint("example.com/other", 7, bytes(32)).text()
    signature = base64.b64encode(SIGNER.verifier.key_id + KEY.sign(text.encode())).decode()
    with pytest.raises(CheckpointError, match="another log"):
        SIGNER.verifier.open(f"{text}\n— {NAME} {signature}\n")


def test_a_log_signs_only_itself() -> None:
    with pytest.raises(CheckpointError, match="own"):
        SIGNER.sign(Checkpoint("example.com/other", 1, bytes(32)))


@pytest.mark.parametrize(
    "encoded",
    [
        "name",
        "na me+00000000+AQ==",
        GO_KEY.replace("c74f20a3", "c74f20a4"),
        GO_KEY.replace("+ARpc", "+BRpc"),
    ],
)
def test_a_malformed_key_is_refused(encoded: str) -> None:
    with pytest.raises(CheckpointError):
        Verifier.parse(encoded)
