"""Write spec/vectors for noise, range coder, symbol model and upload frames from the definitions.

Run `python tools/make_vectors.py` after a change of format, and never to make a failing test pass:
the files are what other implementations are held to. Cases of input an honest side never sends are
spelled out by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from vector_files import lines

from tidegate.coding.candidates import Candidates
from tidegate.coding.range_coder import RangeDecoder, RangeEncoder
from tidegate.coding.reference import ReferenceEncoder, Symbol
from tidegate.coding.symbol_model import Model, Prepared
from tidegate.sampling import noise
from tidegate.sampling.gumbel import GRAIN, Ranking

VECTORS = Path(__file__).parents[1] / "spec" / "vectors"
NAT = 1 << 20
READY = 32  # the flag of put_wait

Hex = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})*$")]
Note = Annotated[str, msgspec.Meta(min_length=10)]
Score = float | Literal["-inf", "inf", "nan"]


class Struct(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of all records: unknown fields are an error."""


class PhiloxCase(Struct):
    note: Note
    counter: tuple[int, int, int, int]
    key: tuple[int, int]
    words: tuple[int, int, int, int]


class GumbelCase(Struct):
    """noise: of each token, in 2**-20 nat."""

    note: Note
    seed: Hex
    position: int
    tokens: list[int]
    noise: list[int]


class SelectionCase(Struct):
    """token: what is sampled. ids, gaps, falls: the `wanted` best at grain 14. None: refused."""

    note: Note
    seed: Hex | None
    position: int
    scores: list[Score]
    token: int | None = None
    wanted: int = 8
    ids: list[int] = []
    gaps: list[int] = []
    falls: list[int] = []


class NoiseFile(Struct):
    spec: str
    philox: list[PhiloxCase]
    gumbel: list[GumbelCase]
    selection: list[SelectionCase]


class SegmentCase(Struct):
    """shares: (start, count, total) of each symbol. settled: how many bytes are sure not to change
    after each. needed: how many bytes determine each."""

    note: Note
    shares: list[tuple[int, int, int]]
    settled: list[int]
    segment: Hex
    needed: list[int]


class RangeFile(Struct):
    spec: str
    segments: list[SegmentCase]


class Cand(Struct):
    ids: list[int]
    gaps: list[int]
    falls: list[int]
    greedy: bool = False

    def ranking(self) -> Candidates:
        """The same as arrays."""
        ids, gaps, falls = (np.array(c, np.int32) for c in (self.ids, self.gaps, self.falls))
        return Ranking(ids, gaps, falls, self.greedy)


class QuestionCase(Struct):
    """yes: probability in 2**-16 that it is the candidate of each rank, given none before; asked of
    a fresh model."""

    note: Note
    cand: Cand
    spread: int
    yes: list[int]


class CostCase(Struct):
    """codes: sent one after another with the same candidates over a fresh link, `times` times over.
    cost: of all together, ideal, in 2**-16 bit. last: cost of the last. segment: all bytes."""

    note: Note
    vocab_size: int
    cand: Cand
    codes: list[int]
    times: int
    cost: int
    last: int
    segment: Hex


class ModelFile(Struct):
    spec: str
    questions: list[QuestionCase]
    costs: list[CostCase]


class Said(Struct):
    """cand: a name from the file's table. argument: a flag's context, or how many numbers."""

    kind: Literal["token", "flag", "number"]
    cand: str | None = None
    argument: int = 0


class UploadCase(Struct):
    """values: decoded, step by step (vocab_size is ABORT); for a refused case, what decodes before
    the refusal. pulls: (after step, size). refused: non_canonical, or incomplete where the frames
    do not determine a symbol."""

    note: Note
    vocab_size: int
    steps: list[list[Said]]
    pulls: list[tuple[int, int]]
    frames: list[Hex]
    values: list[list[int]]
    refused: Literal["non_canonical", "incomplete"] | None = None


class UploadFile(Struct):
    spec: str
    candidates: dict[str, Cand]
    cases: list[UploadCase]


FILES = {
    "noise": NoiseFile,
    "range-coder": RangeFile,
    "symbol-model": ModelFile,
    "upload": UploadFile,
}


def symbol(said: Said, table: dict[str, Cand]) -> Symbol:
    """As the definition takes it."""
    cand = None if said.cand is None else table[said.cand].ranking()
    return Symbol(said.kind, cand, said.argument)


def noise_file() -> NoiseFile:
    seed = bytes(range(16))
    ones = (0xFFFFFFFF,) * 4
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    philox = [
        PhiloxCase(note, counter, key, noise.philox(counter, key))
        for note, counter, key in (
            ("Random123's first known answer: all zero", (0, 0, 0, 0), (0, 0)),
            ("Random123's second: all ones", ones, ones[:2]),
            ("Random123's third: digits of pi", pi, (0xA4093822, 0x299F31D0)),
        )
    ]
    plain = [0, 1, 2, 63, 64, 65, 127, 128, 129, 49_151, 151_935]
    block = list(range(64, 128))
    gumbel = [
        GumbelCase(note, key.hex(), at, ids, [noise.gumbel(key, at, token) for token in ids])
        for note, key, at, ids in (
            ("the seed's bytes are words in little-endian order", seed, 0, plain),
            ("another position is other noise", seed, 1, plain),
            ("the last position", seed, 2**32 - 1, plain),
            ("a zero seed is a seed like any other", bytes(16), 0, plain),
            ("a whole block: one id has the first arrival, all others follow it", seed, 5, block),
            ("bytes after the sixteenth do not count", seed + b"\xff" * 16, 0, plain),
            ("the largest ids", seed, 0, [2**30 - 2, 2**30 - 1]),
        )
    ]
    ramp = [i / 8 for i in range(70)]
    masked: list[Score] = ["-inf"] * 60
    wide: list[Score] = [*ramp, *masked, 5.5]
    selection: list[tuple[str, bytes | None, list[Score]]] = [
        ("equal scores: noise alone decides", seed, [0.0] * 130),
        ("one token is no choice", seed, [-3.5]),
        ("masked tokens never win, though their noise may be the greatest", seed, wide),
        ("without a seed the highest score wins", None, wide),
        ("without a seed the lower id wins a tie", None, [1.0, 2.0, 0.5, 2.0]),
        ("ranking rounds scores half to even: to the same sixty-fourth here", None, [1 / 128, 0.0]),
        ("a peak that noise cannot reach", seed, [*[0.0] * 99, 100.0]),
        ("scores beyond 2**20 nat count from the best one", None, [3e6, 3e6 + 2, -3e6]),
        ("distances stop at 2**31 - 1", None, [0.0, -1e9, -1.0]),
        ("a NaN anywhere is refused", seed, [0.0, "nan", 1.0]),
        ("plus infinity is refused", seed, [0.0, "inf"]),
        ("nothing left is refused", seed, ["-inf", "-inf"]),
    ]
    return NoiseFile("spec/noise.md", philox, gumbel, [select(*case) for case in selection])


def select(note: str, seed: bytes | None, scores: list[Score], position: int = 3) -> SelectionCase:
    name = None if seed is None else seed.hex()
    floats = [float(score) for score in scores]
    try:
        token = noise.sample(floats, seed, position)
    except ValueError:
        return SelectionCase(note, name, position, scores)
    ranked = noise.rank(floats, seed, position, 8, GRAIN)
    ids, gaps, falls = (list(column) for column in zip(*ranked, strict=True))
    return SelectionCase(note, name, position, scores, token, 8, ids, gaps, falls)


def range_file() -> RangeFile:
    half, likely = (0, 1 << 15, 1 << 16), (0, 65534, 1 << 16)
    middle = [(1 << 14, 1, 1 << 15), (0, 1, 1), (3, 1, 7)]
    third = [(1, 1, 3)] * 25
    cases: list[tuple[str, list[tuple[int, int, int]]]] = [
        ("nothing said, nothing sent", []),
        ("a symbol that is certain needs no byte", [(0, 1, 1)] * 3),
        ("an even chance, the lower half, is one byte of zero", [half]),
        ("an even chance, the upper half", [(1 << 15, 1 << 15, 1 << 16)]),
        ("sixteen bits end in two bytes", [(0x1234, 1, 1 << 16)]),
        (
            "a byte's worth at the interval's start is certain and not yet settled",
            [(0, 256, 65536)],
        ),
        ("the last slot takes what the division leaves over", [(2, 1, 3)] * 12),
        ("the first slot of three, twelve times", [(0, 1, 3)] * 12),
        ("the middle of three: the number hovers around one half, and no byte settles", third),
        ("then downwards: no carry comes", [*third, (0, 1, 1 << 16)]),
        ("or upwards: a carry runs through what was written", [*third, (65535, 1, 1 << 16)]),
        ("a hundred nearly certain answers share one byte", [likely] * 100),
        ("an unlikely answer after likely ones", [likely] * 5 + [(65534, 2, 65536)]),
        (
            "ids of a vocabulary of 151,936 and its four controls",
            [(i, 1, 151_940) for i in (0, 1, 151_935, 151_936, 151_939, 77)],
        ),
        ("totals that share no factor", middle),
    ]
    return RangeFile("spec/range-coder.md", [segment(*case) for case in cases])


def segment(note: str, shares: list[tuple[int, int, int]]) -> SegmentCase:
    coder, settled = RangeEncoder(), []
    for share in shares:
        coder.put(*share)
        settled.append(coder.settled())
    coder.finish()
    data = coder.take(coder.settled())
    decoder, fed, needed = RangeDecoder(), 0, []
    for start, count, total in shares:
        while not (start <= min(at := decoder.slots(total)) and max(at) < start + count):
            decoder.feed(data[fed : fed + 1])
            fed += 1
        decoder.narrow(start, count, total)
        needed.append(fed)
    return SegmentCase(note, shares, settled, data.hex(), needed)


def cand(gaps: list[int], falls: list[int] | None = None, greedy: bool = False) -> Cand:
    return Cand(list(range(10, 10 + len(gaps))), gaps, falls or gaps, greedy)


def model_file() -> ModelFile:
    most = 2**31 - 1
    long = [k * k * 700 for k in range(128)]
    lists = [
        ("one candidate: whatever is asked, the answer is not sent", cand([0])),
        ("a clear winner", cand([0, 6 * NAT, 7 * NAT])),
        ("two that are level", cand([0, 0])),
        ("greedy: gaps are falls", cand([0, NAT, 3 * NAT], greedy=True)),
        ("noise lifted the second-best score to the top", cand([0, NAT // 4], [NAT, 0])),
        ("distances that stop at 2**31 - 1", cand([0, most, most], [0, most, 5])),
        ("128 candidates, evenly spread", cand(long, [k * 9000 for k in range(128)])),
        ("128 candidates, all equal", cand([0] * 128)),
    ]
    questions = []
    for note, listed in lists:
        token, model = Prepared(listed.ranking()), Model()
        yes = [model.ask(token, rank).yes for rank in range(len(listed.ids))]
        questions.append(QuestionCase(note, listed, token.spread, yes))
    five, far = cand([0, NAT // 2, NAT, 2 * NAT, 4 * NAT]), cand(long)
    runs = [
        ("the best candidate, once", 1000, five, [10], 1),
        ("the last candidate needs no yes of its own", 1000, five, [14], 1),
        ("a token that is not listed is a bare number", 1000, five, [999], 1),
        ("ABORT is the first code after the vocabulary", 1000, five, [1000], 1),
        ("without candidates all tokens are bare numbers", 151_936, cand([]), [0, 151_935], 3),
        ("a listed token dearer by rank than as a number is sent as a number", 200, far, [137], 1),
        ("the model learns that the best candidate is right", 1000, five, [10], 300),
        ("and then is surprised", 1000, five, [*[10] * 50, 13, 999], 2),
        ("every rank in turn, twice", 151_936, far, list(range(10, 138)), 2),
    ]
    return ModelFile("spec/symbol-model.md", questions, [run(*case) for case in runs])


def run(note: str, vocab_size: int, listed: Cand, codes: list[int], times: int) -> CostCase:
    encoder, total = ReferenceEncoder(vocab_size), 0
    for code in codes * times:
        encoder.put_token(listed.ranking(), code)
        total += encoder.cost
    encoder.coder.finish()
    data = encoder.coder.take(encoder.coder.settled())
    return CostCase(note, vocab_size, listed, codes, times, total, encoder.cost, data.hex())


TABLE = {
    "blind": cand([]),
    "clear": cand([0, 6 * NAT, 7 * NAT]),
    "close": cand([0, NAT // 4, NAT, 2 * NAT], [NAT, 0, NAT // 2, NAT]),
    "greedy": cand([0, 2 * NAT], greedy=True),
}
BLIND, CLEAR, CLOSE, GREEDY = (Said("token", name) for name in TABLE)
WAIT, CHOICE = Said("flag", None, READY), Said("number", None, 4)


def upload_file() -> UploadFile:
    one, many = [[CLEAR]], [[CLEAR, CLOSE], [BLIND, GREEDY], [CLOSE, WAIT, CHOICE]]
    values = [[10, 11], [999, 10], [12, 1, 3]]
    honest = [
        ("one token, one frame: the rest is zeros", one, [[10]], [(0, 8)]),
        ("a pull before anything was said is answered with zeros", one, [[10]], [(-1, 4), (0, 4)]),
        ("three steps in one frame", many, values, [(2, 16)]),
        ("a pull after each step ends a segment each", many, values, [(0, 4), (1, 6), (2, 4)]),
        ("frames of one byte: an ended segment's rest waits", many, values, [(2, 1)] * 8),
        ("a dummy between two segments", many, values, [(0, 4), (0, 4), (1, 4), (2, 4)]),
        (
            "a full frame does not end the segment",
            [[BLIND] * 4, [BLIND]],
            [[1, 2, 3, 4], [5]],
            [(0, 2), (1, 8)],
        ),
        ("a stream fails, its neighbour goes on", [[CLEAR, CLEAR]], [[1000, 10]], [(0, 8)]),
        ("a choice among one says nothing", [[Said("number", None, 1)]], [[0]], [(0, 2)]),
        (
            "token 0 as a bare number is all zeros: the schedule tells it from a dummy",
            [[BLIND]],
            [[0]],
            [(0, 4)],
        ),
    ]
    cases = [transcript(*case) for case in honest]
    return UploadFile("spec/symbol-model.md", TABLE, [*cases, *refused_cases(cases[0])])


def transcript(
    note: str, steps: list[list[Said]], values: list[list[int]], pulls: list[tuple[int, int]]
) -> UploadCase:
    encoder, frames = ReferenceEncoder(1000), []
    for step, (said, row) in enumerate(zip([[], *steps], [[], *values], strict=True), start=-1):
        for each, value in zip(said, row, strict=True):
            encoder.put(symbol(each, TABLE), value)
        frames += [encoder.take_frame(size).hex() for after, size in pulls if after == step]
    return UploadCase(note, 1000, steps, pulls, frames, values)


def forged(steps: list[tuple[int, int, int]]) -> str:
    """Eight bytes with these shares, whatever the model would have said."""
    coder = RangeEncoder()
    for share in steps:
        coder.put(*share)
    coder.finish()
    return coder.take(coder.settled()).ljust(8, b"\0").hex()


def refused_cases(one: UploadCase) -> list[UploadCase]:
    flag = 1 << 12  # a fresh flag's odds
    end = len(bytes.fromhex(one.frames[0]).rstrip(b"\0"))
    frame = bytes.fromhex(one.frames[0])
    cases: list[tuple[str, list[Said], str, list[int], Any]] = [
        ("a bit in the padding", [CLEAR], (frame[:-1] + b"\1").hex(), [10], "non_canonical"),
        (
            "a bit right behind the segment's end",
            [CLEAR],
            (frame[:end] + b"\1" + frame[end + 1 :]).hex(),
            [10],
            "non_canonical",
        ),
        (
            "another number inside the same interval",
            [CLEAR],
            bytes([frame[0] + 1, *frame[1:]]).hex(),
            [10],
            "non_canonical",
        ),
        (
            "a listed token sent as a bare number, which is a longer form",
            [CLEAR],
            forged([(0, flag, 65536), (10, 1, 1004)]),
            [10],
            "non_canonical",
        ),
        (
            "no candidates, and yet not announced as a bare number",
            [BLIND],
            forged([(flag, 65536 - flag, 65536), (7, 1, 1004)]),
            [7],
            "non_canonical",
        ),
        (
            "the first reserved control code",
            [BLIND],
            forged([(0, flag, 65536), (1001, 1, 1004)]),
            [],
            "non_canonical",
        ),
        (
            "the last reserved control code",
            [BLIND],
            forged([(0, flag, 65536), (1003, 1, 1004)]),
            [],
            "non_canonical",
        ),
        ("a byte too few to determine the token", [BLIND], "05", [], "incomplete"),
    ]
    return [
        UploadCase(note, 1000, [said], [(0, len(data) // 2)], [data], [values], refused)
        for note, said, data, values, refused in cases
    ]


def schema() -> bytes:
    """One schema for the four files."""
    _, definitions = msgspec.json.schema_components(FILES.values())
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "oneOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in FILES.values()],
        "$defs": definitions,
    }
    return msgspec.json.format(msgspec.json.encode(whole, order="sorted"), indent=2) + b"\n"


def build() -> dict[str, bytes]:
    """Contents by file name."""
    made = {
        "noise": noise_file(),
        "range-coder": range_file(),
        "symbol-model": model_file(),
        "upload": upload_file(),
    }
    files = {f"{name}.json": lines(file) for name, file in made.items()}
    return {**files, "coding.schema.json": schema()}


if __name__ == "__main__":
    for name, content in build().items():
        (VECTORS / name).write_bytes(content)
