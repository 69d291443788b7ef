"""Two real PostgreSQL servers, one following the other, in a folder: killed, promoted, rebuilt."""

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
from typing import Final

from tidegate.errors import TidegateError

_PROGRAMS: Final = "usr/lib/postgresql/*/bin"
"""Where Debian's package puts them."""

MISSING: Final = "PostgreSQL is not installed (Debian: apt-get install postgresql)"

_SETTINGS: Final = """
listen_addresses = ''
max_connections = 40
shared_buffers = 32MB
wal_log_hints = on
wal_keep_size = 256MB
wal_retrieve_retry_interval = 100ms
synchronous_standby_names = '*'
"""

_PATIENCE_S: Final = 30.0


class PostgresMissingError(TidegateError):
    """The servers' programs are not on this machine."""

    code = "postgres_missing"


def programs() -> Path:
    """The newest PostgreSQL's programs. Raises PostgresMissingError."""
    found = sorted(Path("/").glob(_PROGRAMS))
    if not found:
        raise PostgresMissingError(MISSING)
    return found[-1]


class Node:
    """One server with a folder, a socket in it, and a life of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.url = f"postgresql://tidegate@/postgres?host={folder}"
        self._programs = programs()
        # The server refuses to run as root; Debian's package brings a user for it.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        if self._user:
            shutil.chown(folder, self._user)

    def make(self) -> None:
        """A new, empty cluster that waits for any standby before it says "committed"."""
        self.run("initdb", "-D", self.data, "-A", "trust", "-U", "tidegate", "-N")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(_SETTINGS + f"unix_socket_directories = '{self.folder}'\n")

    def follow(self, primary: Node) -> None:
        """Become a fresh standby of `primary`, whatever this was, and start."""
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)
        where = f"host={primary.folder} user=tidegate application_name={self.folder.name}"
        self.run("pg_basebackup", "-d", where, "-D", self.data, "-R", "-c", "fast", "-N")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"unix_socket_directories = '{self.folder}'\n")
        self.start()

    def start(self) -> None:
        """Start, and wait until it takes connections. Raises TidegateError."""
        self._process = subprocess.Popen(  # noqa: S603
            [self._programs / "postgres", "-D", self.data],
            user=self._user,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
        )
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            asked = subprocess.run(  # noqa: S603
                [self._programs / "pg_isready", "-q", "-h", self.folder], cwd=self.folder
            )
            if asked.returncode == 0:
                return
            time.sleep(0.05)
        raise TidegateError(f"the server did not start; see {self.folder}/log")

    def kill(self) -> None:
        """As a power cut: no checkpoint, no goodbye."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """In good order, but without waiting for its clients."""
        self._end(signal.SIGINT)

    def promote(self) -> None:
        """From standby to primary, on a timeline of its own."""
        self.run("pg_ctl", "promote", "-w", "-D", self.data)

    def set(self, setting: str, value: str) -> None:
        """Change a setting of a running server."""
        self.ask(f"ALTER SYSTEM SET {setting} TO '{value}'")
        self.ask("SELECT pg_reload_conf()")
        until = time.monotonic() + _PATIENCE_S
        while self.ask(f"SHOW {setting}") != value and time.monotonic() < until:
            time.sleep(0.02)

    def ask(self, statement: str) -> str:
        """What `psql` prints for a statement."""
        return self.run(
            "psql", "-h", self.folder, "-U", "tidegate", "-Atqc", statement, "postgres"
        ).strip()

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run one of the server's programs as the server's user. Raises TidegateError."""
        done = subprocess.run(  # noqa: S603
            [self._programs / program, *arguments],
            user=self._user,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode:
            raise TidegateError(f"{program} failed: {done.stderr.strip()[-500:]}")
        return done.stdout

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_PATIENCE_S)
            self._process = None


class Cluster:
    """A primary that waits for its standby."""

    def __init__(self, folder: Path) -> None:
        self.primary, self.standby = Node(folder / "a"), Node(folder / "b")
        self.primary.make()
        self.primary.start()
        self.standby.follow(self.primary)

    @property
    def urls(self) -> tuple[str, str]:
        """Both servers', always in the same order."""
        first, second = sorted((self.primary.url, self.standby.url))
        return first, second

    def fail_over(self) -> None:
        """The primary dies; the standby takes its place, and the dead one follows it anew."""
        self.primary.kill()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary
        self.standby.follow(self.primary)

    def close(self) -> None:
        """End both."""
        self.standby.stop()
        self.primary.stop()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Two servers in a temporary folder. Raises PostgresMissingError."""
    programs()
    # A socket's path has to be short.
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        folder = Path(name)
        folder.chmod(0o755)
        running = Cluster(folder)
        try:
            yield running
        finally:
            running.close()
