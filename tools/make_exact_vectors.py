"""Write spec/vectors/exact.json and its schema from the definitions in numpy.

Run `python tools/make_exact_vectors.py` after a change of the specification, and never to make a
failing test pass: the file is what other implementations are held to.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from vector_files import lines

from tidegate.models.exact.cases import CASES, Case, hash_of, step_by_step
from tidegate.models.exact.model import ExactModel
from tidegate.models.exact.ops import PAGE, Queries, Rows
from tidegate.models.exact.ops_numpy import (
    NumpyLinear,
    NumpyOps,
    attention_unit,
    exp2,
    quantise,
    silu,
)
from tidegate.models.exact.parameters import parameters_of
from tidegate.models.exact.seeded import tensors_of
from tidegate.models.exact.shape import Shape, to_config
from tidegate.models.port import ModelInfo

VECTORS = Path(__file__).parents[1] / "spec" / "vectors"

Bits = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]
Sha = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Note = Annotated[str, msgspec.Meta(min_length=10)]

F32 = np.float32


class Struct(msgspec.Struct, forbid_unknown_fields=True):
    """Base of all records: unknown fields are an error. A float is the 8 hex digits of its bits."""


class FunctionCase(Struct):
    note: Note
    x: list[Bits]
    y: list[Bits]


class QuantiseCase(Struct):
    """q and scale of one row; null where the row is refused."""

    note: Note
    x: list[Bits]
    q: list[int] | None
    scale: Bits | None


class LinearCase(Struct):
    """y = what the sums `acc` mean: scale of the row, scale and bias of each channel."""

    note: Note
    acc: list[int]
    scale: Bits
    channel_scale: list[Bits]
    bias: list[Bits] | None
    y: list[Bits]


class NormaliseCase(Struct):
    """x is the normalised row before q8. eps is a float64."""

    note: Note
    h: list[Bits]
    gain: list[Bits]
    eps: float
    x: list[Bits]


class RotateCase(Struct):
    note: Note
    x: list[Bits]
    cos: list[Bits]
    sin: list[Bits]
    y: list[Bits]


class AttendCase(Struct):
    """One head: q against each position's k and v; out is before q8. unit = c of the head size."""

    note: Note
    unit: Bits
    q: list[int]
    q_scale: Bits
    k: list[list[int]]
    k_scale: list[Bits]
    v: list[list[int]]
    v_scale: list[Bits]
    out: list[Bits]


class ModelCase(Struct):
    """A whole model derived from `seed`.

    tensors_sha256 covers name, a zero byte and the little-endian bytes of every tensor, by name.
    logits_sha256 covers the logits after every token of every sequence, sequences in order, as
    little-endian float32; first_logits are those after the first token, the first eight.
    """

    note: Note
    config: dict[str, Any]
    seed: str
    wide_embedding: bool
    tensors_sha256: Sha
    sequences: list[list[int]]
    first_logits: list[Bits]
    logits_sha256: Sha


class ExactFile(Struct):
    spec: str
    exp2: list[FunctionCase]
    silu: list[FunctionCase]
    quantise: list[QuantiseCase]
    linear: list[LinearCase]
    normalise: list[NormaliseCase]
    rotate: list[RotateCase]
    attend: list[AttendCase]
    models: list[ModelCase]


def hexed(x: Any) -> list[str]:
    """Bits of float32 numbers."""
    return [f"{int(bits):08x}" for bits in np.atleast_1d(np.asarray(x, F32)).view(np.uint32)]


def floats(bits: Sequence[str]) -> Any:
    """float32 numbers of bits."""
    return np.array([int(word, 16) for word in bits], np.uint32).view(F32)


def function_cases() -> tuple[list[FunctionCase], list[FunctionCase]]:
    t = np.array([0, -0.0, -0.25, -0.5, -0.75, -1, -1.5, -2.5, -7.3, -99.9, -100, -101, -1e30], F32)
    g = np.array([0, -0.0, 1, -1, 0.3, -8.66135, 30, -30, 100, -100, 1e9, -1e9, 1e-30], F32)
    return (
        [FunctionCase("2**t for t <= 0; below -100 counts as -100", hexed(t), hexed(exp2(t)))],
        [FunctionCase("g / (1 + e**-g)", hexed(g), hexed(silu(g)))],
    )


def quantise_case(note: str, x: Any, refused: bool = False) -> QuantiseCase:
    x_K = np.array(x, F32)
    if refused:
        return QuantiseCase(note, hexed(x_K), None, None)
    q_1K, scale_1 = quantise(x_K[None])
    return QuantiseCase(note, hexed(x_K), q_1K[0].tolist(), hexed(scale_1)[0])


def quantise_cases() -> list[QuantiseCase]:
    quiet = np.nextafter(F32(2.0**-100), F32(0))
    return [
        quantise_case("nothing special", [1, -2, 0.5, 0.007, -0.008]),
        quantise_case("halves go to the even side", [127, 0.5, 1.5, 2.5, -0.5, -1.5, -126.5]),
        quantise_case("the loudest may be negative", [-3, 1, 2.999]),
        quantise_case("zeros have scale zero", [0, -0.0, 0]),
        quantise_case("just quiet enough to count as zeros", [quiet, -quiet]),
        quantise_case("just loud enough not to", [2.0**-100, 2.0**-108, 2.0**-107]),
        quantise_case("the loudest that is allowed", [2.0**40, 1, -(2.0**39)]),
        quantise_case("louder is refused", [np.nextafter(F32(2.0**40), F32(np.inf)), 1], True),
        quantise_case("infinity is refused", [np.inf, 1], True),
        quantise_case("what is no number is refused", [1, np.nan], True),
    ]


def linear_cases() -> list[LinearCase]:
    acc = np.array([0, 1, -1, 2**24 + 1, -(2**24) - 3, 2_114_060_289, 33_554_435, 77], np.int32)
    scale, channel = F32(0.0123), np.linspace(0.001, 0.02, 8, dtype=F32)
    bias = np.linspace(-1, 1, 8, dtype=F32)
    cases = []
    for note, added in (
        ("three roundings: the sum, times the row's scale, times the channel's", None),
        ("a fourth for the bias", bias),
    ):
        y = acc.astype(F32) * scale * channel
        y = y if added is None else y + added
        told = None if added is None else hexed(added)
        cases.append(
            LinearCase(note, acc.tolist(), hexed(scale)[0], hexed(channel), told, hexed(y))
        )
    return cases


def small(shape: Shape) -> NumpyOps:
    return NumpyOps(parameters_of(shape, tensors_of(shape, "vectors")))


def normalise_cases() -> list[NormaliseCase]:
    cases = []
    rows = {
        "nothing special": [0.5, -1.25, 3, 0.001, -2, 0.75],
        "one number dwarfs the others": [1000, -0.01, 0.02, 0.5, -0.004, 0.3],
        "so small that eps decides": [1e-6, 2e-6, -3e-6, 0, 1e-7, 5e-7],
        "quiet: the sum of squares counts as zero": [2.0**-101, -(2.0**-103), 0, 0, 0, 2.0**-110],
        "as loud as it may be": [2.0**39, -(2.0**38), 3e11, 1, 0, -1e10],
    }
    for eps in (1e-5, 9.999999974752427e-07):
        shape = dataclasses.replace(CASES[2].shape, width=6, eps=eps)
        gain = np.array([1, 0.5, 2, -1, 0.3, 1.7], F32)
        for note, row in rows.items():
            x = small(shape).rms_norm(np.array([row], F32), gain)[0]
            cases.append(NormaliseCase(note, hexed(row), hexed(gain), eps, hexed(x)))
    return cases


def rotate_cases() -> list[RotateCase]:
    x = np.array([1, -0.5, 2.25, 3.125, -4, 0.1], F32)
    cos, sin = np.array([0.6, -0.28, 1], F32), np.array([0.8, 0.96, 0], F32)
    one, two = x[:3], x[3:]
    y = np.concatenate([one * cos - two * sin, two * cos + one * sin])
    return [
        RotateCase(
            "the first half turns with the second", hexed(x), hexed(cos), hexed(sin), hexed(y)
        )
    ]


def attend_case(
    note: str, q: Any, q_scale: float, k: Any, k_scale: Any, v: Any, v_scale: Any
) -> AttendCase:
    """The last position of a head that reads all positions."""
    size = len(q)
    shape = dataclasses.replace(
        CASES[2].shape, heads=1, kv_heads=1, head_size=size, layers=1, width=size
    )
    ops, count = small(shape), len(k)
    pool = ops.pool(1)
    pool.keys[0, 0, 0, :count], pool.key_scales[0, 0, 0, :count] = k, np.array(k_scale, F32)
    pool.values[0, 0, 0, :count], pool.value_scales[0, 0, 0, :count] = v, np.array(v_scale, F32)
    rows = Rows(
        token_N=np.zeros(1, np.int32),
        sequence_N=np.zeros(1, np.int32),
        position_N=np.array([count - 1], np.int32),
        tables_SP=np.zeros((1, -(-count // PAGE)), np.int32),
        last_L=np.zeros(1, np.int32),
        ids=(0,),
    )
    queries = Queries(np.array([[q]], np.int16), np.array([[q_scale]], F32))
    return AttendCase(
        note,
        hexed(attention_unit(shape))[0],
        list(q),
        hexed(q_scale)[0],
        [list(row) for row in k],
        hexed(k_scale),
        [list(row) for row in v],
        hexed(v_scale),
        hexed(ops.attention(queries, rows, pool, 0)[0]),
    )


def attend_cases() -> list[AttendCase]:
    k = [[4095, -200, 17, 900], [-4095, 4095, 0, 3], [100, 100, 4095, -77], [0, 0, 0, 1]]
    v = [[4095, 0, -1, 5], [-4095, 4095, 2000, -5], [1, 2, 4095, -3], [-4095, -4095, -4095, 0]]
    scales = [0.001, 0.0007, 0.0012, 0.3]
    return [
        attend_case(
            "one position weighs everything",
            [4095, 5, 0, -9],
            0.01,
            k[:1],
            scales[:1],
            v[:1],
            scales[:1],
        ),
        attend_case(
            "a mixture of four positions", [4095, 4095, -300, 7], 0.0004, k, scales, v, scales
        ),
        attend_case("equal logits share equally", [0] * 4, 0.0, k, scales, v, scales),
        attend_case("a loud key leaves the others 2**-100", [4095] * 4, 10.0, k, scales, v, scales),
        attend_case(
            "values of scale zero give zeros", [1, 2, 3, 4095], 0.01, k, scales, v, [0.0] * 4
        ),
        attend_case(
            "the largest numbers in the largest head",
            [4095] * 128,
            1.0,
            [[4095] * 128, [-4095] * 128],
            [1.0, 1.0],
            [[4095] * 128, [-4095] * 128],
            [1.0, 0.5],
        ),
    ]


def model_case(case: Case) -> ModelCase:
    tensors = case.tensors()
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        little = np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<"))
        digest.update(name.encode() + b"\0" + little.tobytes())
    parameters = parameters_of(case.shape, tensors)
    info = ModelInfo(name="vectors", parameters=0, licence="", provenance="", numerics="")
    model = ExactModel(
        parameters,
        NumpyLinear(case.shape, tensors),
        NumpyOps(parameters),
        info=info,
        fingerprint="",
        eos_ids=frozenset(),
    )
    logits = step_by_step(model, case.sequences())
    return ModelCase(
        case.note,
        to_config(case.shape),
        case.seed,
        case.wide_embedding,
        digest.hexdigest(),
        case.sequences(),
        hexed(logits[0][0, :8]),
        hash_of(logits),
    )


def exact_file() -> ExactFile:
    exponentials, gates = function_cases()
    return ExactFile(
        "spec/exact.md",
        exponentials,
        gates,
        quantise_cases(),
        linear_cases(),
        normalise_cases(),
        rotate_cases(),
        attend_cases(),
        [model_case(case) for case in CASES],
    )


def build() -> dict[str, bytes]:
    """Contents by file name."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **msgspec.json.schema(ExactFile),
    }
    text = msgspec.json.format(msgspec.json.encode(schema, order="sorted"), indent=2) + b"\n"
    return {"exact.json": lines(exact_file()), "exact.schema.json": text}


if __name__ == "__main__":
    for name, content in build().items():
        (VECTORS / name).write_bytes(content)
