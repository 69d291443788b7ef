"""Genuine evidence of Intel's processors, and what must come of each file."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tidegate.attest.certificates import pem_blocks
from tidegate.bench.vault_evidence import (
    Case,
    Files,
    Flip,
    Given,
    flipped_bytes,
    flipped_der,
    flipped_evidence,
    flipped_fields,
)

_QVL, _GOOGLE, _TRUSTEE = "tdx-dcap-qvl", "tdx-go-tdx-guest", "trustee"

_HEADER: Final = {
    "version": 2,
    "key_type": 2,
    "tee_type": 4,
    "svn or reserved": 4,
    "qe_vendor": 16,
    "user_data": 20,
}
_ENCLAVE: Final = {
    "cpu_svn": 16,
    "misc_select": 4,
    "reserved 1": 12,
    "isv_ext_prod_id": 16,
    "attributes": 16,
    "mrenclave": 32,
    "reserved 2": 32,
    "mrsigner": 32,
    "reserved 3": 32,
    "config_id": 64,
    "isv_prod_id": 2,
    "isv_svn": 2,
    "config_svn": 2,
    "reserved 4": 42,
    "isv_family_id": 16,
    "report_data": 64,
}
_DOMAIN: Final = {
    "tee_tcb_svn": 16,
    "mrseam": 48,
    "mrsignerseam": 48,
    "seam_attributes": 8,
    "td_attributes": 8,
    "xfam": 8,
    "mrtd": 48,
    "mrconfigid": 48,
    "mrowner": 48,
    "mrownerconfig": 48,
    "rtmr0": 48,
    "rtmr1": 48,
    "rtmr2": 48,
    "rtmr3": 48,
    "report_data": 64,
}
_DOMAIN_15: Final = {**_DOMAIN, "tee_tcb_svn2": 16, "mrservicetd": 48}
_QE: Final = {f"qe_report.{name}": size for name, size in _ENCLAVE.items()}
_SIGNED: Final = {"signature": 64, "attestation_key": 64}


def quote_layout(data: bytes) -> dict[str, int]:
    """The fields of a quote with 32 bytes of authentication data, in order, with their sizes."""
    version = data[0]
    layout = dict(_HEADER)
    if version == 5:
        layout |= {"body_type": 2, "body_size": 4}
    domain = _DOMAIN_15 if version == 5 else _DOMAIN
    layout |= _ENCLAVE if version == 3 else domain
    layout |= {"signature_size": 4, **_SIGNED}
    if version > 3:
        layout |= {"outer certification_type": 2, "outer certification_size": 4}
    layout |= {**_QE, "qe_signature": 64, "qe_auth_size": 2, "qe_auth": 32}
    layout |= {"certification_type": 2, "certification_size": 4}
    used = sum(layout.values())
    size = int.from_bytes(data[used - 4 : used], "little")
    layout["certification"] = size
    if len(data) > used + size:
        layout["trailing"] = len(data) - used - size
    return layout


def quote_flips(files: Files) -> Iterator[Flip]:
    """Every byte of the quote, its certificates' PEM and the zeros after it among them."""
    yield from flipped_evidence(files, flipped_fields(quote_layout(files.evidence), files.evidence))


def collateral_flips(files: Files) -> Iterator[Flip]:
    """Every byte of the signatures, every other byte of the texts that Intel signed, every element
    of the certificates and of the root's list, one byte in eight of the other list."""
    found = json.loads(files.others[0])
    for name in ("tcb_info_signature", "qe_identity_signature"):
        for _, part in flipped_bytes(name, bytes.fromhex(found[name])):
            yield _with(files, name, {**found, name: part.hex()})
    for name in ("tcb_info", "qe_identity"):
        for _, part in flipped_bytes(name, found[name].encode(), 2):
            yield _with(files, name, {**found, name: part.decode("latin-1")})
    for _, part in flipped_der("root_ca_crl", bytes.fromhex(found["root_ca_crl"])):
        yield _with(files, "root_ca_crl", {**found, "root_ca_crl": part.hex()})
    for _, part in flipped_bytes("pck_crl", bytes.fromhex(found["pck_crl"]), 8):
        yield _with(files, "pck_crl", {**found, "pck_crl": part.hex()})
    for name in ("tcb_info_issuer_chain", "qe_identity_issuer_chain"):
        blocks = pem_blocks(found[name].encode(), b"CERTIFICATE", name)
        for place, block in enumerate(blocks):
            field = f"{name} {place}"
            for _, der in flipped_der(field, block):
                chain = (*blocks[:place], der, *blocks[place + 1 :])
                yield _with(files, field, {**found, name: "".join(map(_pem, chain))})


def _with(files: Files, field: str, found: dict[str, str]) -> Flip:
    return Flip(field, replace(files, others=(json.dumps(found).encode(),)))


def _pem(der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"


def _files(quote: str, collateral: str | None = None) -> Callable[[Path], Files]:
    def load(folder: Path) -> Files:
        others = () if collateral is None else ((folder / collateral).read_bytes(),)
        return Files(evidence=(folder / quote).read_bytes(), others=others)

    return load


MEASURED: Final = {
    f"{_QVL}/tdx_quote": (
        "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407"
        "de03ae6dc5f87f27428b2538873118b7"
    ),
    f"{_QVL}/tdx_quote_outdated": (
        "273828c46252fcbdd8ad2dd907130222b03466d52a2911d70c1a5950895d6bd1"
        "ae451d382d5a9b1b4c0ed0e5ae9a3dbd"
    ),
    f"{_GOOGLE}/quote_v5_sample.dat": (
        "7348651a34b2d2d3462822e3a750ec6110125f36757c78480bbfc69cc0d21fb0"
        "01a1ced3ee19747dda8f750c3bc8f876"
    ),
    f"{_GOOGLE}/tdx_prod_quote_SPR_E4.dat": (
        "6363b8043668a3ad953278e10389574d326c6749fb78aa810ecd9336923db86f"
        "22fc00b8dcd404bc10d5e119d7215cbb"
    ),
    f"{_TRUSTEE}/az-tdx-quote.bin": (
        "024a32b070383331181619fa387cb4d55d1e38879f989933055ccad5bc2db795"
        "d1737b66205949d15469dc8c1ba7ab7b"
    ),
    f"{_TRUSTEE}/tdx_quote_4.dat": (
        "705ee9381b8633a9fbe532b52345e8433343d2868959f57889d84ca377c395b6"
        "89cac1599ccea1b7d420483a9ce5f031"
    ),
    f"{_TRUSTEE}/tdx_quote_5.dat": (
        "dfba221b48a22af8511542ee796603f37382800840dcd978703909bf8e64d4c8"
        "a1e9de86e7c9638bfcba422f3886400a"
    ),
    f"{_TRUSTEE}/tdx_quote_6.dat": (
        "21e8dead92d6c69d7cbba79816686c03a48485c7df0c11f6f04792d5e1d378f6"
        "b8c46615ba6946adccac6becffbb1e88"
    ),
    f"{_QVL}/sgx_quote": "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb",
}
"""MRTD of domains, MRENCLAVE of the enclave."""

BOUND: Final = {
    f"{_QVL}/tdx_quote": (
        "9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9"
        "eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20"
    ),
    f"{_QVL}/tdx_quote_outdated": (
        "d2142b643598eb5fae2bc8529dd79a558b29f868ccbb6531cb28dab9dce47728"
    ),
    f"{_GOOGLE}/quote_v5_sample.dat": (
        "945eaacf5abc1f719d8666a942fda03d1edcb4490277396093dc5a5289ab9f1e"
        "094aed63060cd4a4933a4dd537ed1255c9c79ecb3ed82cd1b486233e31c25c3a"
    ),
    f"{_GOOGLE}/tdx_prod_quote_SPR_E4.dat": (
        "6c62dec1b8191749a31dab490be532a35944dea47caef1f980863993d9899545"
        "eb7406a38d1eed313b987a467dacead6f0c87a6d766c66f6f29f8acb281f1113"
    ),
    f"{_TRUSTEE}/az-tdx-quote.bin": (
        "9734504f161d104c74e3165c15f779b06a9bb40dfa71937817d7eee68e593839"
    ),
    f"{_TRUSTEE}/tdx_quote_4.dat": (
        "7c71fe2c86eff65a7cf8dbc22b3275689fd0464a267baced1bf94fc1324656ae"
        "b755da3d44d098c0c87382f3a5f85b45c8a28fee1d3bdb38342bf96671501429"
    ),
    f"{_TRUSTEE}/tdx_quote_5.dat": (
        "6d6ab13b046cff606ac0074be13981b07b6325dba10b5facc96febf551c0c3be"
        "2b75f92fe1f88f4bb996969ad0174b4b7a70261b7b85c844f4b33a4674fd049f"
    ),
    f"{_TRUSTEE}/tdx_quote_6.dat": (
        "26cae1c77185617fb6a03fc29bf1f924596e52352b9b7594940b576ae126cd4a"
        "570cc3202a900c5d19a6eb0a95b32cfd"
    ),
    f"{_QVL}/sgx_quote": "48656c6c6f2c20776f726c6421000000",
}
"""REPORT_DATA, without the zeros at its end."""

_TDX: Final = f"{_QVL}/tdx_quote"
_SGX: Final = f"{_QVL}/sgx_quote"
_OUTDATED: Final = f"{_QVL}/tdx_quote_outdated"
_V5: Final = f"{_GOOGLE}/quote_v5_sample.dat"
_PADDED: Final = f"{_GOOGLE}/tdx_prod_quote_SPR_E4.dat"
_AZURE: Final = f"{_TRUSTEE}/az-tdx-quote.bin"
_SERVICE: Final = (
    "383c87d3bbb047b2d171eaca95312ede99f258088dc788f6ae2ccf8b6dd848fe"
    "8d47629e08b3f6cbd4a00dd47a5a033d"
)
_SPRING: Final = datetime(2026, 3, 1, tzinfo=UTC)
_TODAY: Final = datetime(2026, 11, 21, tzinfo=UTC)
_OWN: Final = "_collateral.json"


def _policy(quote: str, **more: object) -> dict[str, object]:
    return {"mrenclave" if quote == _SGX else "mrtd": [MEASURED[quote]], **more}


def _signed_only(quote: str, why: str, want: Given, **more: object) -> Case:
    """A quote without collateral, every byte of which is turned."""
    return Case(
        name=f"{quote.replace('/', ': ')}, signatures",
        kind="sgx" if quote == _SGX else "tdx",
        why=why,
        load=_files(quote),
        policy=_policy(quote, **more),
        nonce=bytes.fromhex(BOUND[quote]),
        at=_SPRING,
        want=want,
        flips=quote_flips,
        unsigned=frozenset({"trailing"} if "trailing" in more else ()),
    )


def _with_collateral(
    name: str, quote: str, why: str, want: Given, collateral: str = "", **more: Any
) -> Case:
    policy = more.pop("policy", {})
    return Case(
        name=name,
        kind="sgx" if quote == _SGX else "tdx",
        why=why,
        load=_files(quote, collateral or quote + _OWN),
        policy=_policy(quote, **policy),
        nonce=bytes.fromhex(BOUND[quote]),
        revocation=True,
        want=want,
        **more,
    )


CASES: Final[tuple[Case, ...]] = (
    _with_collateral(
        "dcap-qvl: TDX", _TDX, "UpToDate, nothing revoked", "pass", flips=collateral_flips
    ),
    _with_collateral(
        "dcap-qvl: TDX, today", _TDX, "collateral and lists have expired", "fail", at=_TODAY
    ),
    _with_collateral(
        "dcap-qvl: SGX",
        _SGX,
        "ConfigurationAndSWHardeningNeeded, which this policy takes",
        "pass",
        policy={"statuses": ["ConfigurationAndSWHardeningNeeded"]},
    ),
    _with_collateral(
        "dcap-qvl: SGX, by default", _SGX, "ConfigurationAndSWHardeningNeeded", "fail"
    ),
    _with_collateral(
        "dcap-qvl: outdated TDX", _OUTDATED, "reaches no TCB level", "fail", at=_SPRING
    ),
    _with_collateral(
        "go-tdx-guest: TDX 1.5 with collateral of its family",
        _V5,
        "UpToDate",
        "pass",
        collateral=_OUTDATED + _OWN,
        at=_SPRING,
    ),
    _with_collateral(
        "dcap-qvl: TDX with SGX's collateral", _TDX, "of another kind", "fail", _SGX + _OWN
    ),
    _with_collateral(
        "dcap-qvl: TDX with collateral of another family",
        _TDX,
        "of another family",
        "fail",
        _OUTDATED + _OWN,
        at=_SPRING,
    ),
    _signed_only(_TDX, "verifies to Intel's root", "cannot_verify"),
    _signed_only(_SGX, "verifies to Intel's root", "cannot_verify"),
    _signed_only(_OUTDATED, "verifies to Intel's root", "cannot_verify"),
    _signed_only(_V5, "verifies to Intel's root", "cannot_verify"),
    _signed_only(
        _PADDED,
        "verifies to Intel's root; its makers put text after it that nobody signed",
        "cannot_verify",
        trailing=True,
        sept_ve_disable=False,
    ),
    _signed_only(
        _AZURE,
        "verifies to Intel's root; Azure's paravisor leaves SEPT_VE_DISABLE off",
        "cannot_verify",
        sept_ve_disable=False,
    ),
    _signed_only(
        f"{_TRUSTEE}/tdx_quote_4.dat",
        "verifies to Intel's root; its domain is open to debugging, which no policy takes",
        "fail",
    ),
    _signed_only(
        f"{_TRUSTEE}/tdx_quote_5.dat",
        "verifies to Intel's root; a service domain is bound to it",
        "cannot_verify",
        service_domains=[_SERVICE],
    ),
    _signed_only(f"{_TRUSTEE}/tdx_quote_6.dat", "verifies to Intel's root", "cannot_verify"),
)
