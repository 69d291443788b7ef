"""The published vectors of sealed shards hold, for the code and for their definition in Python."""

from __future__ import annotations

import hashlib
import hmac

import make_sealed_vectors as tool
import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tidegate.transparency.note import Verifier
from tidegate.vault.errors import TamperedError
from tidegate.vault.manifest import Manifest
from tidegate.vault.seal_chunks import HEADER, SEALED_CHUNK, Chunks, Decryptor, sealed_size
from tidegate.vault.seal_files import root_of
from tidegate.vault.seal_groups import count
from tidegate.vault.seal_note import open_note

FILE = msgspec.json.decode((tool.VECTORS / tool.NAME).read_bytes(), type=tool.SealedFile)


def cases(group: str):
    return [pytest.param(case, id=case.note) for case in getattr(FILE, group)]


@pytest.mark.parametrize("name", [tool.NAME, "sealed-shards.schema.json"])
def test_the_code_produces_the_published_files(name):
    assert (tool.VECTORS / name).read_bytes() == tool.build()[name]


@pytest.mark.parametrize("case", cases("manifests"))
def test_manifests_digests_and_contexts(case):
    if case.digest is None:
        with pytest.raises(TamperedError):
            Manifest.parse(case.text.encode())
        return
    manifest = Manifest.parse(case.text.encode())
    assert manifest.digest.hex() == case.digest == hashlib.sha256(case.text.encode()).hexdigest()
    lines = f"{manifest.model}\n{case.shard}\n{case.digest}\n"
    assert manifest.shard_context(case.shard).decode() == case.shard_context
    assert case.shard_context == "tidegate-shard/1\n" + lines
    assert manifest.key_context(case.shard).decode() == case.key_context
    assert case.key_context == "tidegate-key/1\n" + lines


def expand(key: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand with SHA-512 (RFC 5869)."""
    out, block = b"", b""
    for number in range(1, 3):
        block = hmac.new(key, block + info + bytes([number]), "sha512").digest()
        out += block
    return out[:size]


def encrypt(case: tool.ShardCase) -> bytes:
    """As C2SP's text defines it."""
    header, key = bytes.fromhex(case.header), bytes.fromhex(case.key)
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00" + header[:24]
    derived = expand(key, info + case.context.encode(), 76)
    assert derived[44:] == header[24:]
    plain, sealed = tool.plain(case.size), header
    for number in range(case.size // 16_384 + 1):
        nonce = (int.from_bytes(derived[32:44], "big") ^ number).to_bytes(12, "big")
        chunk = plain[number * 16_384 : (number + 1) * 16_384]
        sealed += AESGCM(derived[:32]).encrypt(nonce, chunk, None)
    return sealed


@pytest.mark.parametrize("case", cases("shards"))
def test_shards_and_their_digests(case):
    sealed = encrypt(case)
    assert len(sealed) == sealed_size(case.size)
    assert hashlib.sha256(sealed).hexdigest() == case.ciphertext
    assert not case.whole or sealed.hex() == case.whole
    body = sealed[HEADER:]
    groups = [body[start : start + 262_400] for start in range(0, len(body), 262_400)]
    found = [hashlib.sha256(part).hexdigest() for part in (sealed[:HEADER], *groups)]
    assert found == case.digests
    assert len(found) == count(case.size)
    assert root_of([bytes.fromhex(one) for one in found]).hex() == case.root


@pytest.mark.parametrize("case", cases("shards"))
def test_shards_open_as_streams_and_by_chunk(case):
    key, sealed, plain = bytes.fromhex(case.key), encrypt(case), tool.plain(case.size)
    stream = Decryptor(key, case.context.encode())
    assert stream.update(sealed) + stream.finalize() == plain
    chunks = Chunks(key, case.context.encode(), sealed[:HEADER])
    for number in reversed(range(case.size // 16_384 + 1)):
        place = HEADER + number * SEALED_CHUNK
        part = memoryview(sealed)[place : place + SEALED_CHUNK]
        out = bytearray(len(part) - 16)
        chunks.open(number, part, memoryview(out))
        assert out == plain[number * 16_384 : (number + 1) * 16_384]


@pytest.mark.parametrize("case", cases("seals"))
def test_seals(case):
    seal = open_note(case.note_text, Verifier.parse(case.key))
    assert (seal.model, seal.manifest.hex(), seal.shards) == (case.model, case.manifest, 3)
    assert seal.root == root_of([bytes.fromhex(root) for root in case.roots])
