"""A seed is bound to everything that names the draw, and its key is never shown."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import ConfigError
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService, commitment, prompt_digest, sub_seed

VECTORS = Path(__file__).parents[3] / "spec" / "vectors" / "seed.json"
KEY = bytes(range(32))


class Params(msgspec.Struct, forbid_unknown_fields=True):
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    logit_bias: list[tuple[int, float]] = []


class SeedVector(msgspec.Struct, forbid_unknown_fields=True):
    note: str
    key: str
    request_id: str
    prompt_hash: str
    params: Params
    attempt: int
    user_seed: int | None
    choice: int
    seed: str
    commitment: str
    reasoning: str
    candidate_300: str


class DigestVector(msgspec.Struct, forbid_unknown_fields=True):
    note: str
    prompt_ids: list[int]
    digest: str


class Vectors(msgspec.Struct, forbid_unknown_fields=True):
    spec: str
    seeds: list[SeedVector]
    prompt_digests: list[DigestVector]


def _vectors() -> Vectors:
    # msgspec's own reader refuses integers beyond 64 bits.
    return msgspec.convert(json.loads(VECTORS.read_text()), Vectors)


@pytest.mark.parametrize("vector", _vectors().seeds, ids=lambda vector: vector.note)
def test_published_seeds_are_derived(vector: SeedVector) -> None:
    given_params = vector.params
    seed = SeedService(bytes.fromhex(vector.key)).derive(
        request_id=vector.request_id,
        prompt_hash=bytes.fromhex(vector.prompt_hash),
        params=SamplingParams(
            temperature=given_params.temperature,
            top_k=given_params.top_k,
            top_p=given_params.top_p,
            logit_bias=tuple(given_params.logit_bias),
        ),
        attempt=vector.attempt,
        user_seed=vector.user_seed,
        choice=vector.choice,
    )
    assert seed.hex() == vector.seed
    assert commitment(seed).hex() == vector.commitment
    assert sub_seed(seed, "reasoning").hex() == vector.reasoning
    assert sub_seed(seed, "candidate", 300).hex() == vector.candidate_300


@pytest.mark.parametrize("vector", _vectors().prompt_digests, ids=lambda vector: vector.note)
def test_published_prompt_digests_are_computed(vector: DigestVector) -> None:
    assert prompt_digest(vector.prompt_ids).hex() == vector.digest


def test_no_two_published_seeds_are_equal() -> None:
    seeds = [vector.seed for vector in _vectors().seeds]
    assert len(set(seeds)) == len(seeds)


def test_the_specified_encoding_gives_the_same_seed() -> None:
    fields = [
        b"r",
        b"hash",
        struct.pack("<dqdddddq", 1.0, 0, 1.0, 0.0, 0.0, 0.0, 1.0, 0),
        b"\x02",
        b"\x80\x00",
        b"\x00",
    ]
    message = b"".join(struct.pack("<Q", len(field)) + field for field in fields)
    expected = hashlib.blake2b(message, digest_size=32, key=KEY, person=b"tidegate.seed.v1")
    assert derive(request_id="r", prompt_hash=b"hash", attempt=2, user_seed=128) == (
        expected.digest()
    )


def derive(
    request_id: str = "r",
    prompt_hash: bytes = b"p",
    attempt: int = 0,
    user_seed: int | None = None,
    choice: int = 0,
) -> bytes:
    return SeedService(KEY).derive(
        request_id=request_id,
        prompt_hash=prompt_hash,
        params=SamplingParams(),
        attempt=attempt,
        user_seed=user_seed,
        choice=choice,
    )


draws = st.tuples(
    st.text(max_size=8),
    st.binary(max_size=8),
    st.integers(0, 300),
    st.none() | st.integers(),
    st.integers(0, 300),
)


@given(draws, draws)
def test_two_draws_share_a_seed_only_if_they_are_the_same_draw(
    first: tuple[str, bytes, int, int | None, int], second: tuple[str, bytes, int, int | None, int]
) -> None:
    assert (derive(*first) == derive(*second)) == (first == second)


@given(st.text(max_size=4), st.binary(max_size=4))
def test_moving_a_byte_between_fields_changes_the_seed(text: str, tail: bytes) -> None:
    assert derive(request_id=text + "x", prompt_hash=tail) != derive(
        request_id=text, prompt_hash=b"x" + tail
    )


def test_another_key_gives_another_seed() -> None:
    other = SeedService(bytes(32)).derive(
        request_id="r",
        prompt_hash=b"p",
        params=SamplingParams(),
        attempt=0,
        user_seed=None,
        choice=0,
    )
    assert other != derive()


@pytest.mark.parametrize("size", [0, 15, 65])
def test_a_key_of_the_wrong_length_is_refused(size: int) -> None:
    with pytest.raises(ConfigError):
        SeedService(bytes(size))


def test_the_key_is_not_shown() -> None:
    service = SeedService(b"very secret key material")
    shown = repr(service) + str(service) + f"{service}"
    assert "secret key material" not in shown
    assert b"very secret key material".hex() not in shown


def test_sub_seeds_differ_by_domain_and_index_and_from_the_seed() -> None:
    seed = derive()
    values = {seed, commitment(seed), prompt_digest([])}
    values |= {sub_seed(seed, domain, n) for domain in ("reasoning", "candidate") for n in range(9)}
    assert len(values) == 3 + 18


@pytest.mark.parametrize("size", [0, 31, 33])
def test_only_a_whole_seed_is_taken(size: int) -> None:
    with pytest.raises(ConfigError):
        sub_seed(bytes(size), "reasoning")
    with pytest.raises(ConfigError):
        commitment(bytes(size))
