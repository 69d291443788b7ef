"""Cases of documents of reference values, and of the token of NVIDIA's service."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from evidence_authorities import NOW, drawn
from evidence_intel import authority_of
from evidence_nvidia import DRIVER, NONCE, RIMS, driver_rim, rim, rim_signer
from evidence_nvidia_maker import FRESH, HOPPER, LATER, Maker


def documents(made: Maker) -> None:
    """Documents of reference values, by themselves."""

    def add(note: str, outcome: str, checks: list[str] | None = None, **more: Any) -> None:
        data = more.pop("data", None) or driver_rim(HOPPER, **more.pop("change", {}))
        more.setdefault("pin", RIMS.pin)
        more.setdefault("nonce", None)
        made.file(note, outcome, checks, name="document", data=data, kind="nvidia-rim", **more)

    good = driver_rim(HOPPER).decode()
    add("a document, all as it should be", "pass")
    add("a document, asked after revocation", "pass", revocation=True, crls=[RIMS.revoke(99)])
    add(
        "a document by a forger",
        "fail",
        ["reference values are NVIDIA's"],
        change={"signer": "forger"},
    )
    add(
        "a document whose version was changed",
        "fail",
        ["reference values are NVIDIA's"],
        change={"after": (f'"{DRIVER}"', '"560.00"')},
    )
    add("a document of later", "fail", ["reference values' key chain is in date"], now=LATER)
    add(
        "a revoked document",
        "fail",
        ["reference values' key chain is not revoked"],
        revocation=True,
        crls=[RIMS.revoke(5)],
    )
    own = authority_of("Another RIM Root CA")
    add(
        "a document under another root",
        "fail",
        ["reference values' key chains to a trusted root"],
        change={"certificates": (rim_signer(own), own.certificate)},
    )
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
    outside = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>'
    for note, data in (
        ("a document type with entities that multiply", bomb + good),
        ("a document type with an entity from a file", outside + good),
        (
            "a document type in another encoding",
            (outside + good).encode("utf-16").decode("latin-1"),
        ),
        ("a document in UTF-7 that hides a type", _utf7(outside) + good),
        ("no XML", "<SoftwareIdentity"),
        ("another root", good.replace("SoftwareIdentity", "Identity")),
        ("no signature", good.partition("<ds:Signature")[0] + "</SoftwareIdentity>"),
        ("two signatures", good.replace("<ds:Signature ", _second(good) + "<ds:Signature ")),
        ("a weaker hash", good.replace("xmldsig-more#sha384", "xmldsig-more#sha224")),
        ("a transform more", good.replace("</ds:Transforms>", _TRANSFORM + "</ds:Transforms>")),
        ("a reference to a part", good.replace('URI=""', 'URI="#part"')),
        (
            "a measurement twice",
            good.replace('index="20"', 'index="5"').replace('active="False"', 'active="True"'),
        ),
        ("a hash that is too short", good.replace('size="48"', 'size="49"', 1)),
        ("fewer hashes than it says", good.replace('alternatives="1"', 'alternatives="2"', 1)),
    ):
        add(f"a document with {note}", "malformed", data=data.encode("latin-1"))
    add("a document without a measurement", "pass", data=rim(HOPPER.chip, DRIVER, {}))


_TRANSFORM = '<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116"/>'


def _second(text: str) -> str:
    return text[text.index("<ds:Signature ") : text.index("</SoftwareIdentity>")]


def _utf7(text: str) -> str:
    return '<?xml version="1.0" encoding="utf-7"?>' + text.replace("<", "+ADw-")


def tokens(made: Maker) -> None:
    """What the service answers, which never passes."""

    def add(note: str, outcome: str, checks: list[str], *, device: str = "", **claims: Any) -> None:
        nonce = claims.pop("asked", NONCE.hex())
        made.file(
            note,
            outcome,
            checks,
            name="token",
            data=_token(device, claims),
            kind="nvidia-eat",
            nonce=nonce,
        )

    signed = "the service signed the token"
    add("a token that says yes", "cannot_verify", [signed])
    add(
        "a token that says no",
        "fail",
        ["the service said yes", signed],
        **{"x-nvidia-overall-att-result": False},
    )
    add("a token of yesterday", "fail", ["token is in date", signed], exp=1)
    add(
        "a token with another device's",
        "fail",
        ["devices' tokens have the digests that were signed", signed],
        device="other",
    )
    add(
        "a token without a device's",
        "fail",
        ["devices' tokens have the digests that were signed", signed],
        submods={},
    )
    add("a token for another nonce", "fail", [signed, FRESH], asked=drawn("other", 32).hex())
    add("a token with another time", "malformed", [], exp="soon")


def _token(device: str, claims: dict[str, Any]) -> bytes:
    """What the service answers; nobody signed this one."""

    def part(value: object) -> str:
        text = json.dumps(value, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    own = f"{part({'alg': 'ES384', 'kid': 'made-up'})}.{part({'ueid': '1'})}.c2lnbmF0dXJl"
    now = int(NOW.timestamp())
    said = {
        "iss": "https://service.example",
        "eat_nonce": NONCE.hex(),
        "nbf": now - 60,
        "exp": now + 3600,
        "x-nvidia-overall-att-result": True,
        "submods": {"GPU-0": ["DIGEST", ["SHA-256", hashlib.sha256(own.encode()).hexdigest()]]},
    } | claims
    overall = f"{part({'alg': 'ES384', 'kid': 'made-up'})}.{part(said)}.c2lnbmF0dXJl"
    return json.dumps([["JWT", overall], {"GPU-0": own + device}], separators=(",", ":")).encode()
