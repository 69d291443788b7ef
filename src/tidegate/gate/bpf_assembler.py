"""A small assembler for BPF: a list of instructions with labels becomes what the kernel loads.

Only what the kernel meter's program needs, so that a production gate carries no compiler
(`docs/adr/`). Encoding: RFC 9669, section 3. Registers are numbered as there: 0 holds results, 1 to
5 arguments, 6 to 9 survive calls, 10 points at the end of a 512-byte stack.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tidegate.errors import GateError

SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
_OPERATIONS = {"add": 0x0, "sub": 0x1, "mul": 0x2, "div": 0x3, "and": 0x5, "lsh": 0x6, "rsh": 0x7}
_CONDITIONS = {"==": 0x10, "!=": 0x50, ">": 0x20, ">=": 0x30, "signed<=": 0xD0}
_ALU64, _LDX, _ST, _STX, _JUMP = 0x07, 0x61, 0x62, 0x63, 0x05
_FROM_REGISTER, _MOVE, _TO_BIG_ENDIAN = 0x08, 0xB7, 0xDC
_LOAD_64, _MAP_BY_DESCRIPTOR = 0x18, 1


@dataclass(frozen=True, slots=True)
class Register:
    """r0 to r10."""

    number: int


@dataclass(frozen=True, slots=True)
class Instruction:
    """Eight bytes for the kernel; `target` is the label that a jump still has to find."""

    opcode: int
    to: int = 0
    source: int = 0
    offset: int = 0
    immediate: int = 0
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """A place to jump to; no bytes."""

    name: str


Line = Instruction | Label

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = (Register(number) for number in range(11))


def move(to: Register, value: Register | int) -> Instruction:
    """to = value"""
    return _with_operand(_MOVE, to, value)


def compute(operation: str, to: Register, value: Register | int) -> Instruction:
    """to = to `operation` value, 64 bits wide; operations: add, sub, mul, div, and, lsh, rsh."""
    return _with_operand(_ALU64 | _OPERATIONS[operation] << 4, to, value)


def from_network(to: Register, bits: int) -> Instruction:
    """Turn `bits` (16, 32 or 64) read in network order into the machine's order."""
    return Instruction(_TO_BIG_ENDIAN, to.number, immediate=bits)


def load(size: int, to: Register, base: Register, offset: int) -> Instruction:
    """to = the `size` bytes at base + offset"""
    return Instruction(_LDX | SIZES[size], to.number, base.number, offset)


def store(size: int, base: Register, offset: int, value: Register | int) -> Instruction:
    """The `size` bytes at base + offset = value"""
    if isinstance(value, Register):
        return Instruction(_STX | SIZES[size], base.number, value.number, offset)
    return Instruction(_ST | SIZES[size], base.number, 0, offset, value)


def jump(target: str) -> Instruction:
    """Go on at `target`."""
    return Instruction(_JUMP, target=target)


def jump_if(left: Register, condition: str, right: Register | int, target: str) -> Instruction:
    """Go on at `target` where `left condition right`: ==, !=, > and >= (unsigned), signed<=."""
    return replace(_with_operand(_JUMP | _CONDITIONS[condition], left, right), target=target)


def call(helper: int) -> Instruction:
    """r0 = helper(r1 … r5); r1 to r5 are lost."""
    return Instruction(0x85, immediate=helper)


def leave() -> Instruction:
    """Return r0."""
    return Instruction(0x95)


def load_map(to: Register, descriptor: int) -> tuple[Instruction, Instruction]:
    """to = the map that this process has open as `descriptor`; two instructions long."""
    first = Instruction(_LOAD_64, to.number, _MAP_BY_DESCRIPTOR, immediate=descriptor)
    return first, Instruction(0)


def assemble(lines: Sequence[Line]) -> bytes:
    """Bytes of the program, eight an instruction.

    Raises:
        GateError: a jump goes to a label that there is not, or backwards, or a label is there
            twice.
    """
    places: dict[str, int] = {}
    program: list[Instruction] = []
    for line in lines:
        if isinstance(line, Instruction):
            program.append(line)
        elif line.name in places:
            raise GateError(f"the label {line.name!r} is there twice")
        else:
            places[line.name] = len(program)
    return b"".join(_encode(line, at, places) for at, line in enumerate(program))


def _encode(line: Instruction, at: int, places: dict[str, int]) -> bytes:
    offset = line.offset
    if line.target is not None:
        if places.get(line.target, -1) <= at:
            raise GateError(f"no label {line.target!r} follows the jump to it")
        offset = places[line.target] - at - 1
    registers = line.source << 4 | line.to
    return struct.pack("<BBhi", line.opcode, registers, offset, line.immediate)


def _with_operand(opcode: int, to: Register, value: Register | int) -> Instruction:
    if isinstance(value, Register):
        return Instruction(opcode | _FROM_REGISTER, to.number, value.number)
    return Instruction(opcode, to.number, immediate=value)
