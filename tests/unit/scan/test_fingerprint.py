from __future__ import annotations

import json

import numpy as np
import pytest
import scan_bytes

from tidegate.bench.scan_formats import FORMATS, WRAPPINGS
from tidegate.errors import ModelError
from tidegate.scan.fingerprint import Fingerprints, Matcher, Tensor, patterns, siphash
from tidegate.scan.fingerprint_make import make, tensors_of
from tidegate.scan.sighting import Kind
from tidegate.scan.stream import Settings, scan

KEY = bytes(range(16))
FIRST, SECOND = scan_bytes.weights(512, seed=1), scan_bytes.weights(512, seed=2)
BEGIN = 1_000


def _known(key: bytes = KEY) -> Fingerprints:
    data = [FORMATS["bf16"](rows) for rows in (FIRST, SECOND)]
    tensors = (
        Tensor("first", "a.safetensors", BEGIN, 2),
        Tensor("second", "b.safetensors", BEGIN, 2),
    )
    return make("ours", zip(tensors, data, strict=True), key)


KNOWN = _known()


def test_tags_are_siphash() -> None:
    # The reference implementation's vector for the message 00 … 07 under the key 00 … 0f.
    word = np.array([int.from_bytes(bytes(range(8)), "little")], np.uint64)
    assert int(siphash(word, KEY)[0]) == 0x93F5F5799A932462


def test_patterns_are_runs_of_signs() -> None:
    signs = np.arange(100) % 3 == 0
    found = patterns(signs)
    texts = ["".join("1" if s else "0" for s in signs[at : at + 40]) for at in range(61)]
    assert [int(p) for p in found] == [int(text, 2) for text in texts]


@pytest.mark.parametrize("shift", [0, 1, 2, 3, 7, 4097])
@pytest.mark.parametrize("form", FORMATS)
def test_a_piece_is_named_in_every_format_from_any_byte_on(form: str, shift: int) -> None:
    data = FORMATS[form](SECOND)
    match = Matcher(KNOWN).match(data[shift : shift + 65_536])
    assert match is not None
    assert (match.place.shard, match.place.tensor) == ("b.safetensors", "second")


def test_a_raw_piece_is_placed_to_the_byte() -> None:
    data = FORMATS["bf16"](FIRST)
    match = Matcher(KNOWN).match(data[20_002:85_538])
    assert match is not None
    assert match.place.offset == BEGIN + 20_002


@pytest.mark.parametrize("wrapping", ["base64", "gzip", "hex"])
def test_the_scanner_names_a_wrapped_piece(wrapping: str) -> None:
    packed = WRAPPINGS[wrapping](FORMATS["q8_0"](FIRST[:256]))
    seen = scan(packed, Settings(matcher=Matcher(KNOWN)))
    own = [s for s in seen if s.kind is Kind.OWN_WEIGHTS]
    assert {s.weight.tensor for s in own if s.weight} == {"first"}


@pytest.mark.parametrize("form", FORMATS)
def test_a_stranger_is_not_taken_for_our_own(form: str) -> None:
    data = FORMATS[form](scan_bytes.weights(256, seed=3))
    assert Matcher(KNOWN).match(data[:65_536]) is None


def test_noise_text_and_one_sign_are_not_taken_for_our_own() -> None:
    matcher = Matcher(KNOWN)
    for data in (scan_bytes.random(65_536), scan_bytes.prose(65_536), bytes(65_536), b""):
        assert matcher.match(data) is None


def test_fingerprints_under_another_key_have_nothing_in_common() -> None:
    other = _known(bytes(16))
    assert not set(other.tag_N.tolist()) & set(KNOWN.tag_N.tolist())


def test_the_key_is_not_shown() -> None:
    assert KEY.hex() not in repr(KNOWN)
    assert str(KEY) not in repr(KNOWN)


def test_a_header_that_is_none_names_the_shard() -> None:
    with pytest.raises(ModelError, match="shard-7"):
        tensors_of("shard-7", b'{"w": 3}', 8)


def test_tensors_without_signs_are_left_out() -> None:
    table = {
        "ids": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]},
        "w": {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]},
        "__metadata__": {"format": "pt"},
    }
    assert tensors_of("s", json.dumps(table).encode(), 100) == ((Tensor("w", "s", 116, 4), 8),)
