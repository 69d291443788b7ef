"""The tap's meter as the gate sees it: a program elsewhere that is asked over a pipe."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from tidegate.gate.meter_port import Boundary, MeterError, Reading

PATIENCE_S: Final = 5.0
"""A tap that has not answered by now is not waited for."""

_MOST_BYTES: Final = 1 << 16


class _Ready(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the program says first."""

    ready: bool


class TapMeter:
    """Asks `tap_program` on the tap's host.

    Args:
        command: starts the program there and carries its standard input and output, such as
            `ssh taphost python -m tidegate.gate.tap_program span0 02:…`.
        name: as the program calls itself, `tap` or `capture`.
        patience_s: how long it may take to answer.

    Raises:
        MeterError: it does not start, or cannot capture.
    """

    def __init__(
        self, command: Sequence[str], *, name: str = "tap", patience_s: float = PATIENCE_S
    ) -> None:
        self.name = name
        self._patience_ms = int(1000 * patience_s)
        try:
            self._process = subprocess.Popen(  # noqa: S603  from the operator's own policy
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            raise MeterError(f"the tap's command does not start: {error.strerror}") from error
        self._held = b""
        try:
            self._decoded(self._line(12 * self._patience_ms), _Ready)
        except MeterError:
            self.close()
            raise

    def read(self, boundary: Boundary) -> Reading:
        """As `Meter.read`."""
        stdin = self._process.stdin
        try:
            if stdin is None or not stdin.write(msgspec.json.encode(boundary) + b"\n"):
                raise MeterError("the tap was closed")
        except (OSError, ValueError) as error:
            raise MeterError("the tap is gone") from error
        reading: Reading = self._decoded(self._line(self._patience_ms), Reading)
        if reading.boundary != boundary or reading.meter != self.name:
            raise MeterError("the tap answered something that it was not asked")
        return reading

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.wait()
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                end.close()

    def _line(self, patience_ms: int) -> bytes:
        stdout = self._process.stdout
        if stdout is None or stdout.closed:
            raise MeterError("the tap was closed")
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        while b"\n" not in self._held:
            if len(self._held) > _MOST_BYTES or not poll.poll(patience_ms):
                raise MeterError("the tap does not answer")
            read = os.read(stdout.fileno(), _MOST_BYTES)
            if not read:
                raise MeterError("the tap is gone")
            self._held += read
        line, _, self._held = self._held.partition(b"\n")
        return line

    @staticmethod
    def _decoded(line: bytes, kind: Any) -> Any:
        try:
            return msgspec.json.decode(line, type=kind)
        except msgspec.ValidationError:
            raise MeterError(f"the tap cannot say: {_said(line)}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise MeterError("the tap's answer is not JSON") from error


def _said(line: bytes) -> str:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "its answer is not JSON"
    return str(found.get("error", found)) if isinstance(found, dict) else str(found)
