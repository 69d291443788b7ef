"""One suite over every key service: in this process, an OpenBao server, a PKCS#11 module."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from key_services import (
    LACKING_SOFTHSM,
    SOFTHSM,
    openbao,
    openbao_kms,
    softhsm_kms,
    softhsm_token,
)

from tidegate.vault.errors import KmsError, RevokedKeyError
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.kms_openbao import OpenBaoKms
from tidegate.vault.kms_pkcs11 import Pkcs11Kms
from tidegate.vault.kms_port import Kms

Make = Callable[[], Kms]
KEY = secrets.token_bytes(32)
CONTEXT = b"tidegate-key/1\nmodel\n0\n"


@pytest.fixture(scope="module", params=["local", "openbao", "pkcs11"])
def make(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Make]:
    folder: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "local":
        yield lambda: LocalKms.create(folder / secrets.token_hex(4))
    elif request.param == "openbao":
        with openbao() as (address, token):
            yield lambda: openbao_kms(address, token)
    else:
        if SOFTHSM is None:
            pytest.skip(LACKING_SOFTHSM)
        label = softhsm_token()
        yield lambda: softhsm_kms(label)


@pytest.fixture
def kms(make: Make) -> Kms:
    return make()


def test_a_key_comes_back_under_its_context(kms: Kms):
    wrapped = kms.wrap(KEY, CONTEXT)
    assert (wrapped.kms, wrapped.key, wrapped.version) == (kms.kind, kms.key, 1)
    assert KEY not in wrapped.wrapped
    assert kms.unwrap(wrapped, CONTEXT) == KEY


def test_wrapping_twice_gives_two_ciphertexts(kms: Kms):
    assert kms.wrap(KEY, CONTEXT).wrapped != kms.wrap(KEY, CONTEXT).wrapped


@pytest.mark.parametrize("context", [b"", CONTEXT + b"\n", CONTEXT.replace(b"0", b"1")])
def test_another_context_opens_nothing(kms: Kms, context: bytes):
    with pytest.raises(KmsError):
        kms.unwrap(kms.wrap(KEY, CONTEXT), context)


@pytest.mark.parametrize("place", [10, 20, -5])
def test_a_changed_wrapped_key_opens_nothing(kms: Kms, place: int):
    wrapped = kms.wrap(KEY, CONTEXT)
    raw = bytearray(wrapped.wrapped)
    raw[place] ^= 2
    with pytest.raises(KmsError):
        kms.unwrap(dataclasses.replace(wrapped, wrapped=bytes(raw)), CONTEXT)
    with pytest.raises(KmsError):
        kms.unwrap(dataclasses.replace(wrapped, wrapped=wrapped.wrapped[:-1]), CONTEXT)


def test_another_services_key_is_named_and_not_tried(kms: Kms, make: Make):
    with pytest.raises(KmsError, match="was wrapped by"):
        make().unwrap(kms.wrap(KEY, CONTEXT), CONTEXT)


def test_a_stated_version_that_is_not_the_keys_opens_nothing(kms: Kms):
    wrapped = kms.wrap(KEY, CONTEXT)
    kms.rotate()
    for version in (0, 2, 7):
        with pytest.raises(KmsError):
            kms.unwrap(dataclasses.replace(wrapped, version=version), CONTEXT)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_only_data_keys_are_wrapped(kms: Kms, size: int):
    with pytest.raises(KmsError):
        kms.wrap(bytes(size), CONTEXT)


def test_rotation_wraps_anew_and_old_keys_still_open(kms: Kms):
    old = kms.wrap(KEY, CONTEXT)
    assert kms.rotate() == 2
    new = kms.wrap(KEY, CONTEXT)
    assert new.version == 2
    assert kms.unwrap(old, CONTEXT) == kms.unwrap(new, CONTEXT) == KEY


def test_revoked_key_never_opens_again(kms: Kms):
    old = kms.wrap(KEY, CONTEXT)
    kms.rotate()
    middle = kms.wrap(KEY, CONTEXT)
    kms.rotate()
    new = kms.wrap(KEY, CONTEXT)
    kms.revoke(2)
    for gone in (old, middle):
        with pytest.raises(RevokedKeyError):
            kms.unwrap(gone, CONTEXT)
    assert kms.unwrap(new, CONTEXT) == KEY
    kms.revoke(2)
    kms.revoke(1)
    assert kms.unwrap(new, CONTEXT) == KEY


def test_the_newest_version_is_not_revoked_and_no_other_than_there_are(kms: Kms):
    kms.rotate()
    for version in (0, 2, 3):
        with pytest.raises(KmsError):
            kms.revoke(version)
    assert kms.unwrap(kms.wrap(KEY, CONTEXT), CONTEXT) == KEY


def test_errors_hold_no_secrets(kms: Kms):
    wrapped = kms.wrap(KEY, CONTEXT)
    with pytest.raises(KmsError) as caught:
        kms.unwrap(wrapped, b"another")
    told = str(caught.value.diagnostics()) + repr(caught.value.__cause__)
    assert KEY.hex() not in told
    assert wrapped.wrapped.hex() not in told


def test_a_token_never_crosses_the_net_in_clear():
    for address in ("http://bao.example:8200", "ftp://127.0.0.1", "bao.example:8200"):
        with pytest.raises(KmsError):
            OpenBaoKms(address, "weights", "token")


def test_a_server_that_is_gone_or_a_token_that_it_does_not_know_is_an_error():
    with pytest.raises(KmsError, match="does not answer"):
        OpenBaoKms("http://127.0.0.1:9", "weights", "token").wrap(KEY, CONTEXT)
    with openbao() as (address, token):
        right = openbao_kms(address, token)
        wrapped = right.wrap(KEY, CONTEXT)
        wrong = OpenBaoKms(address, right.key.partition("/")[2], "not-" + token)
        with pytest.raises(KmsError, match="refused") as caught:
            wrong.unwrap(wrapped, CONTEXT)
        assert token not in str(caught.value)


@pytest.mark.skipif(SOFTHSM is None, reason=LACKING_SOFTHSM)
def test_a_wrong_pin_or_token_is_an_error():
    label = softhsm_token()
    for token, pin in ((label, "4321"), ("no-such-token", "1234")):
        with pytest.raises(KmsError):
            Pkcs11Kms(str(SOFTHSM), token, "weights", pin).wrap(KEY, CONTEXT)


@pytest.mark.skipif(SOFTHSM is None, reason=LACKING_SOFTHSM)
def test_a_modules_key_cannot_be_read_out_of_it():
    import pkcs11

    label = softhsm_token()
    kms = softhsm_kms(label)
    with kms._session() as session:
        (key,) = kms._versions(session).values()
        with pytest.raises(pkcs11.exceptions.AttributeSensitive):
            _ = key[pkcs11.Attribute.VALUE]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-9],
        lambda text: text.replace("tidegate-local-kms/1", "another"),
        lambda text: text.replace('"newest":1', '"newest":2'),
        lambda text: text.replace('{"1":"', '{"1":"!'),
        lambda text: text.replace('{"1":"', '{"1":"AAAA'),
    ],
)
def test_a_damaged_key_file_is_an_error_that_quotes_nothing_of_it(tmp_path: Path, change):
    kms = LocalKms.create(tmp_path / "keys")
    text = (tmp_path / "keys").read_text()
    secret = text.partition('{"1":"')[2].partition('"')[0]
    (tmp_path / "keys").write_text(change(text))
    with pytest.raises(KmsError) as caught:
        kms.wrap(KEY, CONTEXT)
    assert secret not in str(caught.value)


def test_wrapping_keys_are_never_replaced_by_new_ones(tmp_path: Path):
    kms = LocalKms.create(tmp_path / "keys")
    wrapped = kms.wrap(KEY, CONTEXT)
    with pytest.raises(KmsError, match="exists already"):
        LocalKms.create(tmp_path / "keys")
    assert LocalKms(tmp_path / "keys").unwrap(wrapped, CONTEXT) == KEY
