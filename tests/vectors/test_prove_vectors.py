"""The published proof vectors hold, for the code and for its definitions in Python."""

from __future__ import annotations

import hashlib

import make_prove_vectors as tool
import msgspec
import numpy as np
import pytest

from tidegate.prove import receipt
from tidegate.prove.freivalds import Columns, combine, draw
from tidegate.prove.statement import Statement, digests
from tidegate.transparency.note import Verifier

FILE = msgspec.json.decode((tool.VECTORS / "prove.json").read_bytes(), type=tool.ProveFile)


def cases(group: str):
    return [pytest.param(case, id=case.note) for case in getattr(FILE, group)]


@pytest.mark.parametrize("name", ["prove.json", "prove.schema.json"])
def test_the_code_produces_the_published_files(name):
    assert (tool.VECTORS / name).read_bytes() == tool.build()[name]


@pytest.mark.parametrize("case", cases("bounds"))
def test_bounds_are_arithmetic(case):
    # The largest power of two that divides a difference of two numbers in range.
    power = max(v for v in range(40) if 2**v <= 2 * 127**2 * case.inputs)
    assert case.limit == 127**2 * case.inputs
    assert case.column_bits == 64 - power
    assert case.row_bits == case.columns * case.column_bits >= 78
    assert (case.columns - 1) * case.column_bits < 78


@pytest.mark.parametrize("case", cases("columns"))
def test_secret_columns_are_shake256(case):
    for column, words in enumerate(case.words):
        label = b"tidegate.freivalds.v1" + bytes.fromhex(case.secret)
        label += case.layer.to_bytes(4, "little") + column.to_bytes(4, "little")
        raw = hashlib.shake_256(label + case.op.encode()).digest(8 * case.outputs)
        found = [int.from_bytes(raw[8 * i : 8 * i + 8], "little") for i in range(len(words))]
        assert [f"{word:016x}" for word in found] == words


@pytest.mark.parametrize("case", cases("checks"))
def test_images_products_and_verdicts(case):
    weight_OK, q_NK = np.array(case.weight, np.int8), np.array(case.q, np.int8)
    acc_NO = np.array(case.acc, np.int32)
    r_CO = draw(bytes.fromhex(case.secret), case.layer, case.op, len(case.weight), 2)
    columns = Columns(r_CO, combine(weight_OK, r_CO))
    image = [[int(word, 16) for word in row] for row in case.image]
    assert columns.weighted_CK.tolist() == image
    found = columns.first_wrong(q_NK, acc_NO)
    assert (found and found[0]) == case.wrong
    for row, products in zip(case.q, case.products, strict=True):
        sums = [sum(x * s for x, s in zip(row, one, strict=True)) % 2**64 for one in image]
        equal = [f"{one:016x}" for one in sums] == products
        assert equal == (case.q.index(row) != case.wrong)


@pytest.mark.parametrize("case", cases("receipts"))
def test_digests_and_receipts(case):
    statement = Statement(
        request=case.asked.request(), tokens=tuple(case.tokens), reason=case.reason
    )
    found = {name: value.hex() for name, value in digests(statement).items()}
    assert found == case.digests
    trusted = Verifier.parse(case.key)
    opened = receipt.open_receipt(case.note_text, trusted)
    receipt.compare(opened, statement)
    assert opened.text() == case.text
    assert (opened.trace and opened.trace.hex()) == case.trace
