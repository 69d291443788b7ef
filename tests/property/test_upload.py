"""Whatever is sent, in whatever frames, comes out as it went in, and nothing else would have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate._native._kernels import ffi, lib
from tidegate.coding.candidates import CANDIDATES, Candidates, candidates, no_candidates
from tidegate.coding.reference import ReferenceDecoder, ReferenceEncoder
from tidegate.coding.upload import ABORT, MAX_TOKEN_BITS, MAX_VOCAB, UploadDecoder, UploadEncoder
from tidegate.errors import LinkError, NonCanonicalError
from tidegate.sampling.gumbel import Noise, Ranking

VOCAB = 1000


@dataclass(frozen=True)
class Put:
    """One symbol: a token's candidates and the token, or a flag, or a choice."""

    kind: str
    cand: Candidates
    value: int
    count: int = 0


def scene(rng: np.random.Generator, kind: str, sharpness: float) -> Put:
    seed, position = rng.bytes(32), int(rng.integers(0, 1 << 32))
    strong = rng.normal(0, sharpness, VOCAB).astype(np.float32)
    weak = strong + rng.normal(0, 1, VOCAB).astype(np.float32)
    greedy = bool(rng.integers(0, 2))
    noise = Noise(VOCAB) if greedy else Noise(VOCAB, seed, position)
    cand = candidates(weak, 0.0 if greedy else 1.0, seed, position)
    if kind == "token":
        return Put(kind, cand, noise.sample(strong))
    if kind == "stranger":
        return Put("token", cand, int(rng.integers(0, VOCAB)))
    if kind == "blind":
        return Put("token", no_candidates(greedy), int(rng.integers(0, VOCAB)))
    if kind == "wait":
        return Put(kind, cand, int(rng.integers(0, 2)))
    if kind == "choice":
        return Put(kind, cand, int(rng.integers(0, 5)), 5)
    return Put("abort", cand, ABORT)


def put(encoder: UploadEncoder, symbol: Put) -> int:
    if symbol.kind == "token":
        return encoder.put_token(symbol.cand, symbol.value)
    if symbol.kind == "wait":
        return encoder.put_wait(bool(symbol.value))
    if symbol.kind == "choice":
        return encoder.put_choice(symbol.value, symbol.count)
    return encoder.put_abort(symbol.cand)


def get(decoder: UploadDecoder, symbol: Put) -> int | None:
    if symbol.kind == "wait":
        return decoder.get_wait()
    if symbol.kind == "choice":
        return decoder.get_choice(symbol.count)
    return decoder.get_token(symbol.cand)


KINDS = st.sampled_from(["token"] * 6 + ["stranger", "blind", "wait", "choice", "abort"])
STEPS = st.lists(st.lists(KINDS, max_size=4), min_size=1, max_size=30)


@given(
    steps=STEPS,
    pulls=st.lists(st.tuples(st.integers(0, 30), st.sampled_from([1, 2, 4, 16, 64])), max_size=40),
    seed=st.integers(0, 2**32),
    sharpness=st.sampled_from([0.1, 3.0, 12.0]),
)
@settings(max_examples=150, deadline=None)
def test_what_is_decoded_is_what_was_put(steps, pulls, seed, sharpness):
    rng = np.random.default_rng(seed)
    encoder, decoder = UploadEncoder(VOCAB), UploadDecoder(VOCAB)
    plan = sorted(p for p in pulls if p[0] < len(steps))
    sent = [[scene(rng, kind, sharpness) for kind in step] for step in steps]
    frames, costs = [], []
    for number, symbols in enumerate(sent):
        costs += [put(encoder, symbol) for symbol in symbols]
        frames += [encoder.take_frame(size) for after, size in plan if after == number]
    last = len(steps) - 1
    while encoder.settled_bytes() or encoder._native.encoder.started:  # pull what is left
        plan.append((last, 8))
        frames.append(encoder.take_frame(8))

    for after, size in plan:
        decoder.pull(after, size)
    arriving = iter(frames)
    decoded_costs = []
    for number, symbols in enumerate(sent):
        for symbol in symbols:
            while (value := get(decoder, symbol)) is None:
                decoder.receive(next(arriving))
            assert value == symbol.value
            decoded_costs.append(decoder.last_cost)
        decoder.end_step(number)
    for frame in arriving:
        decoder.receive(frame)
    assert decoded_costs == costs
    assert max(costs, default=0) <= MAX_TOKEN_BITS << 16
    # Frames hold the symbols' information, at most two bytes a segment for ending it, and padding.
    information = sum(costs) / 65536 / 8
    carried = encoder.bytes_sent - encoder.padding_bytes
    assert information - 0.01 * len(costs) <= carried <= information + 2 * len(frames) + 1


def transcript(count: int = 40):
    rng = np.random.default_rng(7)
    encoder = UploadEncoder(VOCAB)
    symbols = [scene(rng, "token", 2.0) for _ in range(count)]
    for symbol in symbols:
        put(encoder, symbol)
    frames = []
    while encoder.settled_bytes() or encoder._native.encoder.started:
        frames.append(encoder.take_frame(16))
    return symbols, frames


def decode(symbols: list[Put], frames: list[bytes]) -> list[int | None]:
    decoder = UploadDecoder(VOCAB)
    for frame in frames:
        decoder.pull(0, len(frame))
        decoder.receive(frame)
    tokens = [decoder.get_token(symbol.cand) for symbol in symbols]
    decoder.end_step(0)
    return tokens


def test_an_honest_transcript_decodes():
    symbols, frames = transcript()
    assert decode(symbols, frames) == [symbol.value for symbol in symbols]


@given(position=st.integers(0, 10_000), mask=st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_is_another_answer_or_refused_never_slack(position, mask):
    """A frame that differs and decodes to the same tokens is refused."""
    symbols, frames = transcript()
    index, offset = divmod(position % sum(map(len, frames)), 16)
    changed = bytearray(frames[index])
    changed[offset] ^= mask
    frames[index] = bytes(changed)
    truth = [symbol.value for symbol in symbols]
    try:
        tokens = decode(symbols, frames)
    except LinkError:
        return
    assert None in tokens or tokens != truth


def test_bits_in_the_padding_are_refused():
    symbols, frames = transcript()
    changed = bytearray(frames[-1])
    assert changed[-1] == 0
    changed[-1] = 1
    with pytest.raises(NonCanonicalError):
        decode(symbols, [*frames[:-1], bytes(changed)])


def test_a_longer_form_of_the_same_token_is_refused():
    """A listed token sent as a bare number decodes to the right token, and is not canonical."""
    rng = np.random.default_rng(3)
    symbol = scene(rng, "token", 12.0)
    honest = UploadEncoder(VOCAB)
    honest.put_token(symbol.cand, symbol.value)
    frame = honest.take_frame(8)

    devious = UploadEncoder(VOCAB)
    lib.tg_put_flag(devious._native, _direct_flag(symbol.cand), 1)
    lib.tg_put_number(devious._native, symbol.value, VOCAB + 4)
    forged = devious.take_frame(8)
    assert forged != frame
    decoder = UploadDecoder(VOCAB)
    decoder.pull(0, 8)
    decoder.receive(forged)
    assert decoder.get_token(symbol.cand) == symbol.value
    with pytest.raises(NonCanonicalError):
        decoder.end_step(0)


def _direct_flag(cand: Candidates) -> int:
    token = ffi.new("tg_token *")
    lib.tg_token_init(
        token,
        len(cand.ids),
        ffi.from_buffer("int32_t[]", cand.gaps),
        ffi.from_buffer("int32_t[]", cand.falls),
        int(cand.greedy),
    )
    return token.greedy * 16 + token.spread


def test_a_frame_nobody_asked_for_is_refused():
    with pytest.raises(LinkError):
        UploadDecoder(VOCAB).receive(b"\0" * 16)


def test_a_frame_of_another_size_is_refused():
    decoder = UploadDecoder(VOCAB)
    decoder.pull(0, 16)
    with pytest.raises(LinkError):
        decoder.receive(b"\0" * 15)


def test_a_frame_without_symbols_is_all_zeros():
    assert UploadEncoder(VOCAB).take_frame(16) == bytes(16)


MOST = 2**31 - 1
GAPS = st.one_of(
    st.integers(0, MOST),
    st.integers(0, 1 << 24),
    st.sampled_from([0, 1, (1 << 12) - 1, 1 << 12, 1 << 16, 1 << 20, MOST - 1, MOST]),
)


@st.composite
def extreme(draw, vocab: int) -> Candidates:
    """Candidates no model would give: one alone, all equal, gaps that saturate, odd falls."""
    count = draw(st.sampled_from([n for n in (1, 2, 3, 5, 127, CANDIDATES) if n <= vocab]))
    few = draw(st.lists(GAPS, min_size=1, max_size=6))
    gaps = sorted((few * count)[:count])
    falls = (draw(st.lists(GAPS, min_size=1, max_size=6)) * count)[:count]
    start = draw(st.integers(0, vocab - count))
    ids = np.arange(start, start + count)[:: draw(st.sampled_from([1, -1]))]
    columns = (np.ascontiguousarray(column, np.int32) for column in (ids, gaps, falls))
    return Ranking(*columns, greedy=draw(st.booleans()))


@st.composite
def extreme_tokens(draw) -> tuple[int, list[tuple[Candidates, int]]]:
    vocab = draw(st.sampled_from([1, 2, 130, 151_936, MAX_VOCAB]))
    symbols = []
    for _ in range(draw(st.integers(1, 12))):
        cand = draw(extreme(vocab))
        ids = cand.ids.tolist()
        listed = st.sampled_from([ids[0], ids[-1], ids[len(ids) // 2]])
        controls = st.integers(vocab, vocab + 3)
        code = draw(st.one_of(listed, listed, st.integers(0, vocab - 1), controls))
        # A token again and again drives the counters to their ends.
        symbols += [(cand, code)] * draw(st.sampled_from([1, 1, 2, 40]))
    return vocab, symbols


@given(case=extreme_tokens(), size=st.sampled_from([1, 16]))
@settings(max_examples=80, deadline=None)
def test_kernel_and_definition_agree_on_extreme_candidates(case, size):
    vocab, symbols = case
    encoder, reference = UploadEncoder(vocab), ReferenceEncoder(vocab)
    data = b""
    for cand, code in symbols:
        cost = encoder._put(cand, code)
        reference.put_token(cand, code)
        assert cost == reference.cost
        assert cost <= MAX_TOKEN_BITS << 16
        while encoder.settled_bytes() >= size:
            data += encoder.take_frame(size)
            assert data[-size:] == reference.take_frame(size)
    data += encoder.take_frame(64)
    assert data[-64:] == reference.take_frame(64)

    outer, mirror = UploadDecoder(vocab), ReferenceEncoder(vocab)
    outer.pull(0, len(data))
    outer.receive(data)
    decoder = ReferenceDecoder(mirror, data)
    for cand, code in symbols:
        assert decoder.get_token(cand) == code
        mirror.put_token(cand, code)
        if code <= vocab:
            assert outer.get_token(cand) == (ABORT if code == vocab else code)
        else:
            with pytest.raises(NonCanonicalError, match="reserved"):
                outer.get_token(cand)
            return


@given(
    frames=st.lists(st.one_of(st.binary(min_size=8, max_size=8), st.just(bytes(8))), max_size=30),
    kinds=st.lists(KINDS, min_size=1, max_size=40),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=100, deadline=None)
def test_garbage_is_decoded_to_something_or_refused(frames, kinds, seed):
    """No bit string crashes the decoder, hangs it, or makes it and the definition differ."""
    rng = np.random.default_rng(seed)
    decoder, mirror = UploadDecoder(VOCAB), ReferenceEncoder(VOCAB)
    definition = ReferenceDecoder(mirror)
    for frame in frames:
        decoder.pull(1, len(frame))
        decoder.receive(frame)
        definition.feed(frame)
    for kind in kinds:
        symbol = scene(rng, kind, 3.0)
        expected = decode_by_definition(definition, mirror, symbol)
        try:
            assert get(decoder, symbol) == expected
        except NonCanonicalError:
            assert expected is not None
            assert expected > VOCAB
            return
        if expected is None:
            return


def decode_by_definition(
    definition: ReferenceDecoder, mirror: ReferenceEncoder, symbol: Put
) -> int | None:
    if symbol.kind == "wait":
        if (value := definition.get_flag(32)) is not None:
            mirror.put_flag(32, value)
        return value
    if symbol.kind == "choice":
        if (value := definition.get_number(symbol.count)) is not None:
            mirror.put_number(value, symbol.count)
        return value
    if (value := definition.get_token(symbol.cand)) is not None:
        mirror.put_token(symbol.cand, value)
    return ABORT if value == VOCAB else value


@given(tokens=st.lists(st.integers(0, VOCAB - 1), min_size=2, max_size=12))
@settings(max_examples=100, deadline=None)
def test_a_token_comes_out_as_early_as_the_definition_allows(tokens):
    """Fed byte by byte, kernel and definition return each token at the same byte."""
    cand = no_candidates()
    encoder = UploadEncoder(VOCAB)
    for token in tokens:
        encoder.put_token(cand, token)
    frame = encoder.take_frame(64)
    decoder, mirror = UploadDecoder(VOCAB), ReferenceEncoder(VOCAB)
    definition = ReferenceDecoder(mirror)
    arriving = iter(frame)
    for token in tokens:
        while True:
            value = decoder.get_token(cand)
            assert value == definition.get_token(cand)
            if value is not None:
                break
            byte = bytes([next(arriving)])
            decoder.pull(0, 1)
            decoder.receive(byte)
            definition.feed(byte)
        assert value == token
        mirror.put_token(cand, token)
