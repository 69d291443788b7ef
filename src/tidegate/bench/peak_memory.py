"""Runs `tidegate` in a process of its own and tells its peak memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# The kernel counts a process's memory from where it was started; what a parent holds is left out.
_MEASURED = """
import atexit, pathlib, re, sys
def told():
    status = pathlib.Path("/proc/self/status").read_text()
    print(re.search("VmHWM: *\\t *([0-9]+)", status)[1], file=sys.stderr)
atexit.register(told)
from tidegate.cli.main import main
main()
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended: its exit status, what it wrote, and its peak resident bytes without
    its children; `peak` is None where it did not live to tell."""

    status: int
    output: bytes
    errors: str
    peak: int | None


def run(*words: str, cwd: Path | None = None) -> Ran:
    """Run `tidegate` with these words after it."""
    command = [sys.executable, "-c", _MEASURED, *words]
    done = subprocess.run(command, cwd=cwd, capture_output=True, check=False)  # noqa: S603
    return _ran(done.returncode, done.stdout, done.stderr)


def run_fed(fed: Iterable[bytes], *words: str, cwd: Path | None = None) -> Ran:
    """As `run`, with `fed` on standard input, which need not fit into memory."""
    command = [sys.executable, "-c", _MEASURED, *words]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        with subprocess.Popen(  # noqa: S603
            command, cwd=cwd, stdin=subprocess.PIPE, stdout=output, stderr=errors
        ) as process:
            if process.stdin is not None:
                with suppress(BrokenPipeError), process.stdin as pipe:
                    pipe.writelines(fed)
        output.seek(0)
        errors.seek(0)
        return _ran(process.returncode, output.read(), errors.read())


def _ran(status: int, output: bytes, errors: bytes) -> Ran:
    lines = errors.decode().strip().splitlines()
    told = lines.pop() if lines and lines[-1].isdecimal() else None
    peak = None if told is None else 1024 * int(told)
    return Ran(status, output, "\n".join(lines), peak)
