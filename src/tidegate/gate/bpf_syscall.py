"""bpf(2): make a map, load a program, read the map. Nothing else of it.

The kernel's verifier has the last word on every program; what it says of one that it refuses is
what the error says.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

import numpy as np
import numpy.typing as npt

from tidegate.gate.meter_port import MeterError

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
_MAP_LOOKUP_BATCH = 24
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _PROG_LOAD, _OBJECT_INFO = 0, 1, 2, 5, 15
_ARRAY, _PER_CPU_ARRAY = 2, 6
_SCHED_CLS = 3
_LOG_BYTES = 1 << 20
_ATTRIBUTE_BYTES = 128
_LICENCE = b"Apache-2.0\0"
"""The program calls no helper that is kept for GPL programs."""

_LIBC = ctypes.CDLL(None, use_errno=True)


def possible_processors() -> int:
    """How many values a per-processor map holds a key.

    Raises:
        MeterError: the kernel does not say.
    """
    try:
        with open("/sys/devices/system/cpu/possible") as file:
            last = file.read().strip().rpartition(",")[2].rpartition("-")[2]
        return int(last) + 1
    except (OSError, ValueError) as error:
        raise MeterError(f"the kernel does not say how many processors there are: {error}") from (
            error
        )


class CounterMap:
    """An array of `rows` rows of `counters` 64-bit numbers, one set a processor.

    Raises:
        MeterError: no BPF in this kernel, or not for this process.
    """

    def __init__(self, rows: int, counters: int) -> None:
        self.rows, self.counters = rows, counters
        self._processors = possible_processors()
        create = struct.pack("<IIIII", _PER_CPU_ARRAY, 4, 8 * counters, rows, 0)
        self.descriptor = _bpf(_MAP_CREATE, create, "make a counter map")

    def read(self) -> npt.NDArray[np.int64]:
        """Sums over processors, shape (rows, counters), each counter at some instant of the call.

        Raises:
            MeterError: the map cannot be read.
        """
        sums: npt.NDArray[np.int64] = self._values().sum(axis=1)
        return sums

    def add(self, row: int, counter: int, amount: int) -> None:
        """Falsify one counter by `amount`: for tests that need a lying meter."""
        values = self._values()[row].copy()
        values[0, counter] += amount
        self._element(_MAP_UPDATE, row, values)

    def close(self) -> None:
        """Let go of the map; a program that counts in it keeps it alive."""
        os.close(self.descriptor)

    def _values(self) -> npt.NDArray[np.int64]:
        values = np.empty((self.rows, self._processors, self.counters), np.int64)
        if not self._filled(values):
            # Kernels before 5.13 give one row a call.
            for row in range(self.rows):
                self._element(_MAP_LOOKUP, row, values[row])
        return values

    def _filled(self, values: npt.NDArray[np.int64]) -> bool:
        keys, after = np.empty(self.rows, np.uint32), ctypes.c_uint64()
        places = (0, ctypes.addressof(after), keys.ctypes.data, values.ctypes.data)
        request = struct.pack("<QQQQIIQQ", *places, self.rows, self.descriptor, 0, 0)
        try:
            _call(_MAP_LOOKUP_BATCH, request)
        except OSError as error:
            # It says so where it reached the end of the map, which is what was asked for.
            return error.errno == errno.ENOENT
        return True

    def _element(self, command: int, row: int, values: npt.NDArray[np.int64]) -> None:
        key = ctypes.c_uint32(row)
        places = (self.descriptor, ctypes.addressof(key), values.ctypes.data, 0)
        _bpf(command, struct.pack("<IxxxxQQQ", *places), "use a counter map")


class SharedArray:
    """An array of `rows` 64-bit numbers that all processors share; all zero at first.

    Raises:
        MeterError: no BPF in this kernel, or not for this process.
    """

    def __init__(self, rows: int) -> None:
        self.descriptor = _bpf(
            _MAP_CREATE, struct.pack("<IIIII", _ARRAY, 4, 8, rows, 0), "make an array"
        )

    def get(self, row: int) -> int:
        """The number there."""
        value = ctypes.c_uint64()
        self._element(_MAP_LOOKUP, row, value)
        return value.value

    def put(self, row: int, value: int) -> None:
        """Make it another number, in one step."""
        self._element(_MAP_UPDATE, row, ctypes.c_uint64(value))

    def close(self) -> None:
        """Let go of the array; a program that uses it keeps it alive."""
        os.close(self.descriptor)

    def _element(self, command: int, row: int, value: ctypes.c_uint64) -> None:
        key = ctypes.c_uint32(row)
        places = (self.descriptor, ctypes.addressof(key), ctypes.addressof(value), 0)
        _bpf(command, struct.pack("<IxxxxQQQ", *places), "use an array")


def load_classifier(program: bytes, name: str) -> int:
    """Load a program for clsact; the descriptor it is then open as.

    Raises:
        MeterError: the kernel refuses it; `log` has the end of what its verifier said.
    """
    try:
        return _load(program, name, None)
    except OSError:
        # Only a refusal is worth the verifier's long explanation.
        log = ctypes.create_string_buffer(_LOG_BYTES)
        try:
            return _load(program, name, log)
        except OSError as error:
            said = log.value.decode(errors="replace").strip()[-500:]
            raise MeterError(
                f"the kernel does not take the meter's program: {_reason(error)}", log=said
            ) from error


def identity(descriptor: int) -> int:
    """The number by which the kernel knows a loaded program for as long as it lives.

    Raises:
        MeterError: the kernel does not say.
    """
    info = ctypes.create_string_buffer(64)
    request = struct.pack("<IIQ", descriptor, len(info), ctypes.addressof(info))
    _bpf(_OBJECT_INFO, request, "ask about a program")
    return int(struct.unpack_from("<I", info.raw, 4)[0])


def _load(program: bytes, name: str, log: ctypes.Array[ctypes.c_char] | None) -> int:
    instructions = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(_LICENCE)
    head = struct.pack(
        "<IIQQ",
        _SCHED_CLS,
        len(program) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
    )
    said = (1, len(log), ctypes.addressof(log)) if log is not None else (0, 0, 0)
    tail = struct.pack("<IIQII16s", *said, 0, 0, name.encode()[:15])
    return _call(_PROG_LOAD, head + tail)


def _bpf(command: int, attribute: bytes, doing: str) -> int:
    try:
        return _call(command, attribute)
    except OSError as error:
        raise MeterError(f"cannot {doing}: {_reason(error)}", errno=error.errno) from error


def _call(command: int, attribute: bytes) -> int:
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"bpf(2) has no known number on {platform.machine()}")
    buffer = ctypes.create_string_buffer(attribute, _ATTRIBUTE_BYTES)
    result = _LIBC.syscall(number, command, ctypes.byref(buffer), _ATTRIBUTE_BYTES)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)


def _reason(error: OSError) -> str:
    hints = {
        errno.EPERM: "this process may not use BPF; run it as root, or give it CAP_BPF and "
        "CAP_NET_ADMIN",
        errno.ENOSYS: "this kernel has no BPF; use the qdisc's statistics instead",
    }
    return hints.get(error.errno or 0, error.strerror or str(error))
