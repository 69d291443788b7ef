"""A real PostgreSQL server from Debian, in a folder of its own, reached over a socket only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FOLDERS = "/usr/lib/postgresql/*/bin"
MISSING = "PostgreSQL is not installed (Debian: postgresql): its store is not tested here"


class Server:
    """A running server. `kill` ends it as a crash would; `start` brings it back."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._process: subprocess.Popen[bytes] | None = None
        # The server refuses to run as root; Debian's package brings a user for it.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", "tidegate", "-N"],
            user=self._user,
            check=True,
            capture_output=True,
            cwd=folder,
        )

    @property
    def url(self) -> str:
        return f"postgresql://tidegate@/postgres?host={self.folder}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                self._programs / "postgres",
                *("-D", self.folder / "data", "-k", self.folder, "-c", "listen_addresses="),
            ],
            user=self._user,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(300):
            asked = subprocess.run(
                [self._programs / "pg_isready", "-q", "-h", self.folder], cwd=self.folder
            )
            if asked.returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """As a power cut: no checkpoint, no goodbye."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None


@contextmanager
def server() -> Iterator[Server]:
    """Starts one, or skips the test, saying why."""
    programs = sorted(Path("/").glob(FOLDERS.lstrip("/")))
    if not programs:
        pytest.skip(MISSING)
    # A socket's path has to be short.
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        running = Server(programs[-1], Path(folder))
        running.start()
        try:
            yield running
        finally:
            running.stop()
