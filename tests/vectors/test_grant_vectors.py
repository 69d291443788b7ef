"""The published vectors of grants hold, for the code and for the sentences of the specification."""

from __future__ import annotations

import hashlib

import make_grant_vectors as tool
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tidegate.vault.grant_entries import parse
from tidegate.vault.grant_errors import GrantError
from tidegate.vault.release_seal import opened

FILE = msgspec.json.decode((tool.VECTORS / "grants.json").read_bytes(), type=tool.GrantFile)


def cases(group: str):
    return [pytest.param(case, id=case.prose) for case in getattr(FILE, group)]


def sha256(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("name", ["grants.json", "grants.schema.json"])
def test_the_code_produces_the_published_files(name):
    assert (tool.VECTORS / name).read_bytes() == tool.build()[name]


@pytest.mark.parametrize("case", cases("requests"))
def test_a_requests_hash_and_what_is_signed_are_as_written(case):
    assert sha256(b"tidegate grant request v1\n", case.request.encode()) == case.hash
    digest = bytes.fromhex(case.hash)
    assert sha256(b"tidegate grant approve v1\n", digest) == case.approve
    assert sha256(b"tidegate grant deny v1\n", digest) == case.deny


@pytest.mark.parametrize("case", cases("bindings"))
def test_what_evidence_binds_is_as_written(case):
    parts = [bytes.fromhex(part) for part in (case.nonce, case.request, case.key)]
    assert sha256(f"tidegate {case.what} v1\n".encode(), *parts) == case.binding


@pytest.mark.parametrize("case", cases("packages"))
def test_a_package_opens(case):
    private = X25519PrivateKey.from_private_bytes(bytes.fromhex(case.private))
    found = opened(private, bytes.fromhex(case.request), bytes.fromhex(case.package))
    assert found.lease == case.lease_ms
    assert [(number, key.hex()) for number, key in found.keys] == case.keys


def test_the_journal_chains():
    head = hashlib.sha256(b"tidegate ledger v1").digest()
    for n, case in enumerate(FILE.journal):
        parse(case.entry.encode(), n)
        head = hashlib.sha256(b"\x02" + head + case.entry.encode()).digest()
        assert head.hex() == case.head


@pytest.mark.parametrize("case", cases("refused"))
def test_what_is_no_entry_is_refused(case):
    with pytest.raises(GrantError):
        parse(case.entry.encode(), case.n)
