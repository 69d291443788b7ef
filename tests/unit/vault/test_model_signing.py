"""OpenSSF model signatures: what their own tool made is read, what does not fit is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tidegate.vault.errors import TamperedError, VaultError
from tidegate.vault.model_signing import compare, open_bundle, sha256_hex, sign

MADE: dict[str, Any] = json.loads((Path(__file__).parent / "model_signing_1_1_1.json").read_text())
BUNDLE, KEY = MADE["bundle"].encode(), MADE["public_key"].encode()
NAMES = tuple(sorted(MADE["files"]))


def private(curve: ec.EllipticCurve) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(curve)
    held = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return held, key.public_key().public_bytes(serialization.Encoding.PEM, form)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in MADE["files"].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_signature_of_the_tool_is_read_and_its_model_found_whole(folder: Path):
    signed = open_bundle(BUNDLE, KEY)
    assert tuple(name for name, _ in signed.files) == NAMES
    compare(signed, folder, NAMES)


def test_a_changed_missing_or_added_file_is_named(folder: Path):
    signed = open_bundle(BUNDLE, KEY)
    with pytest.raises(TamperedError, match="was signed and is not there"):
        compare(signed, folder, NAMES[:1])
    (folder / "more.bin").write_text("more")
    with pytest.raises(TamperedError, match=r"more\.bin is not among"):
        compare(signed, folder, (*NAMES, "more.bin"))
    (folder / "config.json").write_text("{}")
    with pytest.raises(TamperedError, match=r"config\.json is not the file"):
        compare(signed, folder, NAMES)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_what_we_sign_opens_again(folder: Path, curve: ec.EllipticCurve):
    held, public = private(curve)
    made = sign("m", {name: sha256_hex(folder / name) for name in NAMES}, held)
    compare(open_bundle(made, public), folder, NAMES)
    with pytest.raises(TamperedError, match="not by this key"):
        open_bundle(made, private(curve)[1])


def test_we_name_the_subject_as_the_tool_does(folder: Path):
    held, _ = private(ec.SECP256R1())
    ours = sign("m", {name: sha256_hex(folder / name) for name in NAMES}, held)

    def subject(bundle: bytes) -> object:
        payload = json.loads(bundle)["dsseEnvelope"]["payload"]
        return json.loads(base64.b64decode(payload))["subject"]

    assert subject(ours) == subject(BUNDLE)


def altered(change: Callable[[dict[str, Any]], None]) -> bytes:
    bundle = json.loads(BUNDLE)
    change(bundle)
    return json.dumps(bundle).encode()


def _payload(bundle: dict[str, Any]) -> None:
    envelope = bundle["dsseEnvelope"]
    text = base64.b64decode(envelope["payload"]).replace(b"config", b"canfig")
    envelope["payload"] = base64.b64encode(text).decode()


def _type(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["payloadType"] = "text/plain"


def _twice(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"] *= 2


def _none(bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"] = []


@pytest.mark.parametrize("change", [_payload, _type, _twice, _none])
def test_a_changed_bundle_is_refused(change: Callable[[dict[str, Any]], None]):
    with pytest.raises(TamperedError):
        open_bundle(altered(change), KEY)


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b"[1]"])
def test_what_is_no_bundle_is_refused(raw: bytes):
    with pytest.raises(TamperedError):
        open_bundle(raw, KEY)


def test_a_signature_by_certificate_is_refused_with_the_reason():
    def by_certificate(bundle: dict[str, Any]) -> None:
        bundle["verificationMaterial"] = {"certificate": {}, "tlogEntries": []}

    with pytest.raises(VaultError, match="model_signing verify"):
        open_bundle(altered(by_certificate), KEY)


def test_keys_of_other_kinds_are_refused():
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    key = rsa.generate_private_key(65_537, 2048).public_key()
    for pem in (key.public_bytes(serialization.Encoding.PEM, form), b"no key"):
        with pytest.raises(VaultError):
            open_bundle(BUNDLE, pem)
