"""The published vectors hold for the kernels and for the definitions in Python."""

from __future__ import annotations

import json

import make_vectors as tool
import msgspec
import numpy as np
import pytest

from tidegate._native._kernels import ffi, lib
from tidegate.coding.reference import decode_frames
from tidegate.coding.upload import ABORT, UploadDecoder, UploadEncoder
from tidegate.errors import EngineError, LinkError, NonCanonicalError
from tidegate.sampling.gumbel import Noise

FILES = {
    name: msgspec.json.decode((tool.VECTORS / f"{name}.json").read_bytes(), type=kind)
    for name, kind in tool.FILES.items()
}


def cases(name: str, group: str):
    return [pytest.param(case, id=case.note) for case in getattr(FILES[name], group)]


@pytest.mark.parametrize("name", [*(f"{name}.json" for name in FILES), "coding.schema.json"])
def test_the_definitions_produce_the_published_files(name):
    assert (tool.VECTORS / name).read_bytes() == tool.build()[name]


def test_the_schema_names_all_fields_and_allows_no_others():
    definitions = json.loads((tool.VECTORS / "coding.schema.json").read_text())["$defs"]
    records = [d for d in definitions.values() if d.get("type") == "object"]
    assert len(records) == len(definitions) >= 13
    assert not any(record["additionalProperties"] for record in records)


@pytest.mark.parametrize("case", cases("noise", "gumbel"))
def test_kernel_draws_the_published_noise(case):
    stream = ffi.new("tg_stream *")
    lib.tg_stream_init(stream, bytes.fromhex(case.seed), case.position)
    assert [lib.tg_gumbel(stream, token) for token in case.tokens] == case.noise


@pytest.mark.parametrize("case", cases("noise", "selection"))
def test_kernel_selects_the_published_tokens(case):
    scores_V = np.array([float(score) for score in case.scores], np.float32)
    seed = None if case.seed is None else bytes.fromhex(case.seed)
    noise = Noise(scores_V.size, seed, case.position)
    if case.token is None:
        with pytest.raises(EngineError):
            noise.sample(scores_V)
        return
    assert noise.sample(scores_V) == case.token
    ranking = noise.rank(scores_V, case.wanted)
    assert ranking.ids.tolist() == case.ids
    assert ranking.gaps.tolist() == case.gaps
    assert ranking.falls.tolist() == case.falls


class KernelCoder:
    """The kernel fed with bare shares: single slots as numbers, others as answers of set odds."""

    def __init__(self) -> None:
        self.link = ffi.gc(lib.tg_link_new(1000), lib.tg_link_free)

    def _odds(self, start: int, count: int) -> bool:
        self.link.model.flag_F[0].odds = start or count
        return start == 0

    def put(self, start: int, count: int, total: int) -> None:
        if count == 1:
            lib.tg_put_number(self.link, start, total)
        else:
            assert total == 1 << 16
            lib.tg_put_flag(self.link, 0, self._odds(start, count))

    def decodes(self, share: tuple[int, int, int], data: bytes) -> bool:
        """Whether these bytes determine the share; if so it is taken."""
        start, count, total = share
        if count == 1:
            value = ffi.new("uint32_t *")
            found = lib.tg_get_number(self.link, data, len(data), total, value)
            return bool(found) and value[0] == start
        expected, yes = self._odds(start, count), ffi.new("int *")
        found = lib.tg_get_flag(self.link, data, len(data), 0, yes)
        return bool(found) and bool(yes[0]) == expected


@pytest.mark.parametrize("case", cases("range-coder", "segments"))
def test_kernel_codes_the_published_segments(case):
    coder, settled = KernelCoder(), []
    for share in case.shares:
        coder.put(*share)
        settled.append(lib.tg_settled(coder.link))
    assert settled == case.settled
    lib.tg_finish(coder.link)
    data = bytearray(lib.tg_settled(coder.link))
    lib.tg_take(coder.link, len(data), ffi.from_buffer("uint8_t[]", data))
    assert data.hex() == case.segment

    needed, known = [], 0
    for share in case.shares:
        while not coder.decodes(share, bytes(data[:known])):
            known += 1
            assert known <= len(data)
        needed.append(known)
    assert needed == case.needed


@pytest.mark.parametrize("case", cases("symbol-model", "questions"))
def test_kernel_asks_as_published(case):
    cand = case.cand.ranking()
    link = ffi.gc(lib.tg_link_new(1000), lib.tg_link_free)
    token, question = ffi.new("tg_token *"), ffi.new("tg_question *")
    columns = (ffi.from_buffer("int32_t[]", column) for column in (cand.gaps, cand.falls))
    lib.tg_token_init(token, len(cand.ids), *columns, int(cand.greedy))
    assert token.spread == case.spread
    for rank, yes in enumerate(case.yes):
        lib.tg_ask(ffi.addressof(link.model), token, rank, question)
        assert question.yes == yes


@pytest.mark.parametrize("case", cases("symbol-model", "costs"))
def test_encoder_costs_and_writes_as_published(case):
    encoder, cand = UploadEncoder(case.vocab_size), case.cand.ranking()
    costs = [encoder._put(cand, code) for code in case.codes * case.times]
    assert (sum(costs), costs[-1]) == (case.cost, case.last)
    size = len(bytes.fromhex(case.segment))
    assert encoder.take_frame(size + 4).hex() == case.segment + "00" * 4


def put(encoder: UploadEncoder, symbol, value: int) -> None:
    if symbol.cand is not None:
        encoder._put(symbol.cand, value)
    elif symbol.kind == "flag":
        encoder.put_wait(bool(value))
    else:
        encoder.put_choice(value, symbol.argument)


def get(decoder: UploadDecoder, symbol) -> int:
    if symbol.cand is not None:
        value = decoder.get_token(symbol.cand)
    elif symbol.kind == "flag":
        value = decoder.get_wait()
    else:
        value = decoder.get_choice(symbol.argument)
    if value is None:
        raise LinkError("incomplete")
    return int(value)


def symbols_of(case):
    table = FILES["upload"].candidates
    return [[tool.symbol(said, table) for said in step] for step in case.steps]


def encoded(case) -> list[str]:
    encoder, frames = UploadEncoder(case.vocab_size), []
    steps = zip([[], *symbols_of(case)], [[], *case.values], strict=True)
    for step, (symbols, values) in enumerate(steps, start=-1):
        for symbol, value in zip(symbols, values, strict=True):
            put(encoder, symbol, value)
        frames += [encoder.take_frame(size).hex() for after, size in case.pulls if after == step]
    return frames


def decoded(case, values: list[list[int]]) -> None:
    """Fills `values` as far as decoding goes; raises as the decoder does."""
    decoder = UploadDecoder(case.vocab_size)
    for pull, frame in zip(case.pulls, case.frames, strict=True):
        decoder.pull(*pull)
        decoder.receive(bytes.fromhex(frame))
    for step, symbols in enumerate(symbols_of(case)):
        values.append([])
        for symbol in symbols:
            value = get(decoder, symbol)
            values[-1].append(case.vocab_size if value == ABORT else value)
        decoder.end_step(step)


@pytest.mark.parametrize("case", cases("upload", "cases"))
def test_frames_are_the_published_ones_or_are_refused(case):
    frames = [bytes.fromhex(frame) for frame in case.frames]
    values: list[list[int]] = []
    if case.refused is None:
        assert encoded(case) == case.frames
        decoded(case, values)
        assert values == case.values
        definition = decode_frames(case.vocab_size, symbols_of(case), case.pulls, frames)
        assert definition == case.values
        return
    error = NonCanonicalError if case.refused == "non_canonical" else LinkError
    with pytest.raises(LinkError) as refusal:
        decoded(case, values)
    assert type(refusal.value) is error
    assert values == case.values
    with pytest.raises(LinkError) as refusal:
        decode_frames(case.vocab_size, symbols_of(case), case.pulls, frames)
    assert type(refusal.value) is error
