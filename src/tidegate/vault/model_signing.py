"""OpenSSF model signatures: which files a model has, by SHA-256, under its maker's key.

A Sigstore bundle (v0.3) around a DSSE envelope around an in-toto statement, as `model_signing` 1.x
writes it with an elliptic-curve key. Signatures by certificate or through Sigstore's services need
their tool and its roots of trust, and are refused here with that reason.
https://github.com/ossf/model-signing-spec
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tidegate.vault.errors import TamperedError, VaultError
from tidegate.vault.manifest import require_path

MAX_BUNDLE_BYTES: Final = 64 << 20

_MEDIA: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD: Final = "application/vnd.in-toto+json"
_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "https://model_signing/signature/v1.0"
_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}

_Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class _Signature(msgspec.Struct):
    sig: str
    keyid: str = ""


class _Envelope(msgspec.Struct, rename="camel"):
    payload: str
    payload_type: str
    signatures: list[_Signature]


class _Bundle(msgspec.Struct, rename="camel"):
    media_type: str
    verification_material: dict[str, Any]
    dsse_envelope: _Envelope


class _Subject(msgspec.Struct):
    name: str
    digest: dict[str, str]


class _Resource(msgspec.Struct):
    name: str
    algorithm: str
    digest: _Hex


class _Predicate(msgspec.Struct):
    serialization: dict[str, Any]
    resources: list[_Resource]


class _Statement(msgspec.Struct, rename={"type": "_type", "predicate_type": "predicateType"}):
    type: str
    subject: list[_Subject]
    predicate_type: str
    predicate: _Predicate


@dataclass(frozen=True, slots=True)
class Signed:
    """What a maker signed: the model's name, (path, hex SHA-256) of each file, paths to ignore."""

    name: str
    files: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...]


def open_bundle(raw: bytes, public_key_pem: bytes) -> Signed:
    """Check a bundle against its maker's key, and read it.

    Raises TamperedError for a wrong signature, and VaultError for a kind that is not supported.
    """
    key = _public(public_key_pem)
    try:
        bundle = msgspec.json.decode(raw, type=_Bundle)
        payload = base64.b64decode(bundle.dsse_envelope.payload, validate=True)
        signatures = [
            base64.b64decode(one.sig, validate=True) for one in bundle.dsse_envelope.signatures
        ]
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error) as error:
        raise TamperedError(f"this is no model signature: {error}") from error
    if "publicKey" not in bundle.verification_material:
        raise VaultError(
            "this model signature is by certificate or through Sigstore; check it with "
            "`model_signing verify` first, or have it signed with a key"
        )
    if bundle.dsse_envelope.payload_type != _PAYLOAD or len(signatures) != 1:
        raise TamperedError("this is no model signature: not one in-toto statement, signed once")
    try:
        key.verify(signatures[0], _authenticated(payload), ec.ECDSA(_HASHES[key.curve.name]))
    except InvalidSignature as error:
        raise TamperedError("the model's signature is not by this key, or was changed") from error
    return _statement(payload)


def sign(name: str, files: Mapping[str, str], private_key_pem: bytes) -> bytes:
    """A bundle over files (path to hex SHA-256), as `model_signing sign key` makes one.

    Raises VaultError for a key that is none of NIST's curves.
    """
    try:
        key = serialization.load_pem_private_key(private_key_pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise VaultError("this is no PEM private key without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
        raise VaultError("models are signed with keys on P-256, P-384 or P-521")
    resources = [_Resource(path, "sha256", digest) for path, digest in sorted(files.items())]
    serialized = {"method": "files", "hash_type": "sha256", "allow_symlinks": True}
    statement = _Statement(
        _STATEMENT,
        [_Subject(name, {"sha256": _root(resources)})],
        _PREDICATE,
        _Predicate(serialized, resources),
    )
    payload = msgspec.json.encode(statement)
    signature = key.sign(_authenticated(payload), ec.ECDSA(_HASHES[key.curve.name]))
    hint = hashlib.sha256(_pem(key.public_key())).hexdigest()
    bundle = _Bundle(
        _MEDIA,
        {"publicKey": {"hint": hint}, "tlogEntries": []},
        _Envelope(_b64(payload), _PAYLOAD, [_Signature(_b64(signature))]),
    )
    return msgspec.json.encode(bundle)


def compare(signed: Signed, folder: Path, files: tuple[str, ...]) -> None:
    """Check that `files` of `folder` are those that were signed, every one and no other.

    Raises TamperedError naming the first that is not, VaultError for one that cannot be read.
    """
    expected = dict(signed.files)
    ignored = {*signed.ignored, "model.sig"}
    for name in files:
        if name in ignored or any(name.startswith(path + "/") for path in ignored):
            continue
        if name not in expected:
            raise TamperedError(f"{name} is not among the files that were signed", file=name)
        if not hmac.compare_digest(sha256_hex(folder / name), expected.pop(name)):
            raise TamperedError(f"{name} is not the file that was signed", file=name)
    # Hidden files are signed by the tool as well, but not sealed.
    missing = [name for name in expected if not _hidden(name)]
    if missing:
        raise TamperedError(f"{missing[0]} was signed and is not there", file=missing[0])


def sha256_hex(path: Path) -> str:
    """Of a file. Raises VaultError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise VaultError(f"cannot read {path}: {error.strerror}", file=str(path)) from error


def _statement(payload: bytes) -> Signed:
    try:
        stated = msgspec.json.decode(payload, type=_Statement)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TamperedError(f"this is no statement about a model's files: {error}") from error
    if (stated.type, stated.predicate_type) != (_STATEMENT, _PREDICATE) or len(stated.subject) != 1:
        raise TamperedError("this is no statement about a model's files")
    resources = stated.predicate.resources
    method = stated.predicate.serialization.get("method")
    if method != "files" or any(one.algorithm != "sha256" for one in resources):
        raise VaultError("only model signatures over whole files with SHA-256 are supported")
    if stated.subject[0].digest.get("sha256") != _root(resources):
        raise TamperedError("the statement's digest is not that of its files")
    for one in resources:
        require_path(one.name)
    if len({one.name for one in resources}) != len(resources):
        raise TamperedError("the statement names a file twice")
    ignored = stated.predicate.serialization.get("ignore_paths")
    return Signed(
        stated.subject[0].name,
        tuple((one.name, one.digest) for one in resources),
        tuple(str(path) for path in ignored) if isinstance(ignored, list) else (),
    )


def _root(resources: list[_Resource]) -> str:
    return hashlib.sha256(b"".join(bytes.fromhex(one.digest) for one in resources)).hexdigest()


def _authenticated(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return f"DSSEv1 {len(_PAYLOAD)} {_PAYLOAD} {len(payload)} ".encode() + payload


def _public(pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VaultError("this is no PEM public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise VaultError("models are signed with keys on P-256, P-384 or P-521")
    return key


def _pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
