"""The kernel against its definition, and the bound against the arithmetic it rests on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tidegate.models.exact.shape import MAX_INPUTS
from tidegate.prove.freivalds import (
    Columns,
    column_bits,
    columns_for,
    combine,
    draw,
    products,
    range_limit,
    reference_products,
    row_bits,
)

LARGEST = 2**31 - 1


@given(st.data(), st.integers(0, 9), st.integers(1, 40), st.integers(1, 3))
def test_the_kernel_multiplies_as_python_does(
    data: st.DataObject, rows: int, inputs: int, columns: int
) -> None:
    rows_NI = data.draw(hnp.arrays(np.int32, (rows, inputs)))
    secret_CI = data.draw(hnp.arrays(np.uint64, (columns, inputs)))
    found_NC, _ = products(rows_NI, secret_CI, LARGEST)
    assert found_NC.tolist() == reference_products(rows_NI, secret_CI)


@given(st.data(), st.integers(1, 9), st.integers(1, 40), st.integers(0, LARGEST))
def test_the_first_row_out_of_range_is_named(
    data: st.DataObject, rows: int, inputs: int, limit: int
) -> None:
    rows_NI = data.draw(hnp.arrays(np.int32, (rows, inputs)))
    _, beyond = products(rows_NI, np.ones((2, inputs), np.uint64), limit)
    wide_NI = np.abs(rows_NI.astype(np.int64)) > limit
    assert beyond == next((row for row in range(rows) if wide_NI[row].any()), None)


def test_rows_may_lie_apart() -> None:
    apart_NI = np.arange(12 * 9, dtype=np.int32).reshape(12, 9)[::2, 1:6]
    secret_CI = np.arange(10, dtype=np.uint64).reshape(2, 5) + np.uint64(2**63)
    assert products(apart_NI, secret_CI, LARGEST)[0].tolist() == reference_products(
        apart_NI, secret_CI
    )


@pytest.mark.parametrize(
    ("rows", "secret", "limit"),
    [
        (np.zeros((1, 4), np.int64), np.zeros((2, 4), np.uint64), 1),
        (np.zeros((1, 4), np.int32), np.zeros((2, 4), np.int64), 1),
        (np.zeros((1, 4), np.int32), np.zeros((2, 5), np.uint64), 1),
        (np.zeros((1, 4), np.int32), np.zeros((2, 4), np.uint64), 1 << 31),
    ],
)
def test_what_the_kernel_cannot_read_is_refused(
    rows: np.ndarray, secret: np.ndarray, limit: int
) -> None:
    with pytest.raises(ValueError, match="int32"):
        products(rows, secret, limit)


@pytest.mark.parametrize("inputs", [1, 576, 1_536, 2_080, 2_081, 8_960, MAX_INPUTS])
def test_every_number_of_inputs_has_the_columns_its_bound_needs(inputs: int) -> None:
    # The most often divisible difference of two numbers in range decides the chance of one column.
    power = (2 * range_limit(inputs)).bit_length() - 1
    assert 2**power <= 2 * range_limit(inputs) < 2 ** (power + 1)
    assert column_bits(inputs) == 64 - power
    assert row_bits(inputs) >= 78
    assert (columns_for(inputs) - 1) * column_bits(inputs) < 78


def test_smollm2s_shape_needs_two_columns_and_qwens_three() -> None:
    assert [columns_for(inputs) for inputs in (576, 1_536, 8_960)] == [2, 2, 3]
    assert row_bits(1_536) == 78


@given(st.data(), st.integers(1, 12), st.integers(1, 80))
def test_a_right_product_passes_and_any_other_fails(
    data: st.DataObject, inputs: int, outputs: int
) -> None:
    codes = st.integers(-127, 127)
    weight_OK = data.draw(hnp.arrays(np.int8, (outputs, inputs), elements=codes))
    q_NK = data.draw(hnp.arrays(np.int8, (3, inputs), elements=codes))
    r_CO = draw(b"s" * 32, 3, "qkv", outputs, columns_for(inputs))
    columns = Columns(r_CO, combine(weight_OK, r_CO))
    acc_NO = (q_NK.astype(np.int32) @ weight_OK.T.astype(np.int32)).astype(np.int32)
    assert columns.first_wrong(q_NK, acc_NO) is None
    row, output = data.draw(st.integers(0, 2)), data.draw(st.integers(0, outputs - 1))
    change = data.draw(hnp.arrays(np.int32, (), elements=st.integers(-(2**31), LARGEST)))
    wrong_NO = acc_NO.copy()
    with np.errstate(over="ignore"):
        wrong_NO[row, output] += change
    found = columns.first_wrong(q_NK, wrong_NO)
    assert (found is None) == (change == 0)
    assert found is None or found[0] == row


def test_of_two_wrong_rows_the_first_is_named_whatever_is_wrong_with_it() -> None:
    r_CO = draw(b"s" * 32, 0, "o", 4, 2)
    columns = Columns(r_CO, combine(np.ones((4, 8), np.int8), r_CO))
    q_NK = np.ones((3, 8), np.int8)
    right_NO = np.full((3, 4), 8, np.int32)
    wide_NO, off_NO = right_NO.copy(), right_NO.copy()
    wide_NO[1, 0], wide_NO[2, 0] = LARGEST, 9
    off_NO[1, 0], off_NO[2, 0] = 9, LARGEST
    named = [columns.first_wrong(q_NK, acc_NO) for acc_NO in (wide_NO, off_NO)]
    assert [found and found[0] for found in named] == [1, 1]
    assert "outside" in str(named[0])
    assert "product" in str(named[1])


def test_secret_columns_differ_by_secret_place_and_column() -> None:
    drawn = [
        draw(secret, layer, op, 8, 2)
        for secret in (b"a" * 32, b"b" * 32)
        for layer in (0, 1)
        for op in ("qkv", "o")
    ]
    columns = {tuple(column) for r_CO in drawn for column in r_CO.tolist()}
    assert len(columns) == 16
