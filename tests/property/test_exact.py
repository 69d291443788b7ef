"""No bit of a logit depends on batch, split, threads, back end or instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from exact_models import model_of, shape_of, tensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.models.exact.backends import names
from tidegate.models.exact.model import ExactModel
from tidegate.models.exact.shape import Shape

BACKENDS = names()


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Small models: few or many queries a key head, bias or none, tied or not, odd sizes."""
    kv_heads = draw(st.integers(1, 3))
    family = draw(st.sampled_from(["llama", "qwen2"]))
    return shape_of(
        family=family,
        vocab_size=draw(st.integers(3, 150)),
        width=draw(st.sampled_from([1, 31, 64, 100, 129])),
        layers=draw(st.integers(1, 2)),
        kv_heads=kv_heads,
        heads=kv_heads * draw(st.integers(1, 5)),
        head_size=draw(st.sampled_from([2, 10, 16, 48, 64, 128])),
        ffn_size=draw(st.sampled_from([1, 37, 96, 1025, 1100])),
        eps=draw(st.sampled_from([1e-5, 1e-6])),
        qkv_bias=family == "qwen2",
        tied=draw(st.booleans()),
    )


def texts(shape: Shape, lengths: list[int], salt: int) -> list[list[int]]:
    return [
        [(salt + 7 * place * place + 31 * number) % shape.vocab_size for place in range(length)]
        for number, length in enumerate(lengths)
    ]


def last_logits(model: ExactModel, sequences: list[list[int]]) -> np.ndarray:
    return model.forward(list(enumerate(sequences)))


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=shapes(),
    lengths=st.lists(st.sampled_from([1, 2, 15, 63, 64, 65, 130]), min_size=1, max_size=4),
    salt=st.integers(0, 99),
    data=st.data(),
)
def test_split_batch_threads_and_kernels_change_no_bit(
    shape: Shape, lengths: list[int], salt: int, data: st.DataObject
):
    weights, sequences = tensors(shape), texts(shape, lengths, salt)
    expected = last_logits(model_of(shape, "numpy", weights=weights), sequences)
    assert np.isfinite(expected).all()
    for backend in (name for name in BACKENDS if name.startswith("native-")):
        model = model_of(
            shape,
            backend,
            weights=weights,
            threads=data.draw(st.integers(1, 3)),
            pass_rows=data.draw(st.sampled_from([1, 3, 64, 300])),
        )
        np.testing.assert_array_equal(last_logits(model, sequences), expected)
        for number, tokens in enumerate(sequences):  # now alone, in two parts
            cut = data.draw(st.integers(0, len(tokens) - 1))
            if cut:
                model.forward([(100 + number, tokens[:cut])])
            alone = model.forward([(100 + number, tokens[cut:])])[0]
            np.testing.assert_array_equal(alone, expected[number])


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(shape=shapes(), salt=st.integers(0, 99))
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name.startswith("torch-")])
def test_torch_gives_the_same_bits(backend: str, shape: Shape, salt: int):
    weights, sequences = tensors(shape), texts(shape, [1, 70, 9], salt)
    expected = last_logits(model_of(shape, "native-portable", weights=weights), sequences)
    model = model_of(shape, backend, weights=weights, pass_rows=40)
    np.testing.assert_array_equal(last_logits(model, sequences), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_of_32_decodes_what_each_sequence_decodes_alone(backend: str):
    shape = shape_of(width=96, heads=6, head_size=64, ffn_size=1100)
    weights = tensors(shape)
    sequences = texts(shape, [1 + 5 * number % 83 for number in range(32)], 3)
    batched = model_of(shape, backend, weights=weights)
    last_logits(batched, sequences)
    together = batched.forward([(number, [number]) for number in range(32)])
    alone = model_of(shape, "native-portable", weights=weights)
    for size in (1, 8):
        for start in range(0, 32, size):
            some = range(start, start + size)
            alone.forward([(number, sequences[number]) for number in some])
            found = alone.forward([(number, [number]) for number in some])
            np.testing.assert_array_equal(found, together[start : start + size])
            for number in some:
                alone.drop(number)


@settings(max_examples=20)
@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from(["forward", "forward", "forward", "fork", "drop"]),
            st.integers(0, 3),
            st.integers(1, 90),
        ),
        max_size=14,
    )
)
def test_any_history_of_forks_and_drops_gives_the_logits_of_the_text(
    calls: list[tuple[str, int, int]],
):
    shape = shape_of(layers=1, context_length=2_000)
    weights = tensors(shape)
    model, fresh = model_of(shape, weights=weights), model_of(shape, weights=weights)
    fresh.reuse = False
    held: dict[int, list[int]] = {}
    for kind, number, size in calls:
        if kind == "drop" and number in held:
            model.drop(number)
            del held[number]
        elif kind == "fork" and number in held and number + 10 not in held:
            model.fork(number, number + 10)
            held[number + 10] = held[number][:]
        elif kind == "forward":
            tokens = [(5 * place + size % 2) % shape.vocab_size for place in range(size)]
            held.setdefault(number, []).extend(tokens)
            found = model.forward([(number, tokens)])
            np.testing.assert_array_equal(found, fresh.forward([(0, held[number])]))
            fresh.drop(0)
    for number, tokens in held.items():
        found = model.forward([(number, [1])])
        np.testing.assert_array_equal(found, fresh.forward([(0, [*tokens, 1])]))
        fresh.drop(0)
