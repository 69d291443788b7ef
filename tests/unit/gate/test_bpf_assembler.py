"""The assembler against encodings worked out by hand from RFC 9669."""

from __future__ import annotations

import pytest

from tidegate.errors import GateError
from tidegate.gate.bpf_assembler import (
    R0,
    R1,
    R2,
    R10,
    Label,
    Line,
    assemble,
    call,
    compute,
    from_network,
    jump,
    jump_if,
    leave,
    load,
    load_map,
    move,
    store,
)


@pytest.mark.parametrize(
    ("line", "encoded"),
    [
        (move(R0, -1), "b7 00 00 00 ff ff ff ff"),
        (move(R2, R1), "bf 12 00 00 00 00 00 00"),
        (compute("add", R2, 12), "07 02 00 00 0c 00 00 00"),
        (compute("div", R1, R2), "3f 21 00 00 00 00 00 00"),
        (load(4, R1, R2, 160), "61 21 a0 00 00 00 00 00"),
        (load(1, R1, R10, -16), "71 a1 f0 ff 00 00 00 00"),
        (store(8, R10, -24, R1), "7b 1a e8 ff 00 00 00 00"),
        (store(4, R10, -28, 7), "62 0a e4 ff 07 00 00 00"),
        (from_network(R1, 16), "dc 01 00 00 10 00 00 00"),
        (call(26), "85 00 00 00 1a 00 00 00"),
        (leave(), "95 00 00 00 00 00 00 00"),
    ],
)
def test_an_instruction_has_the_bytes_of_the_standard(line: Line, encoded: str) -> None:
    assert assemble([line]) == bytes.fromhex(encoded)


def test_a_map_takes_two_instructions_and_jumps_count_both() -> None:
    program = assemble([jump_if(R1, "==", 0x0800, "end"), *load_map(R1, 5), Label("end"), leave()])
    assert program == bytes.fromhex(
        "15 01 02 00 00 08 00 0018 11 00 00 05 00 00 00" + "00" * 8 + "95" + "00" * 7
    )


def test_a_jump_without_a_label_after_it_is_refused() -> None:
    with pytest.raises(GateError, match="nowhere"):
        assemble([jump("nowhere"), leave()])
    with pytest.raises(GateError, match="back"):
        assemble([Label("back"), jump("back")])


def test_a_label_that_is_there_twice_is_refused() -> None:
    with pytest.raises(GateError, match="twice"):
        assemble([Label("here"), Label("here"), leave()])
