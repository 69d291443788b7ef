"""The two halves as child processes: started, awaited, ended, with their logs in files."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO

from tidegate.cli.toml import to_toml
from tidegate.config import Settings, overrides
from tidegate.errors import ConfigError

PATIENCE = 300.0
"""Seconds the halves may take to load their models."""

SETTINGS = "settings.toml"

_GRACE = 40.0
"""Seconds that a process is given to end: more than a half drains by default."""

_WITH_API = ("outer", "direct")


class Servers:
    """Context manager over the processes. `folder` gets settings, logs and the ready file.

    `halves` are started in order and ended in reverse; the one with the API says when it is ready.
    `options`: more of a half's command line.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        halves: tuple[str, ...] = ("inner", "outer"),
        options: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._halves = halves
        self._options = options or {}
        self._settings = settings
        self._folder = folder
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[IO[bytes]] = []
        self._before: Callable[[int, FrameType | None], object] | int | None = None

    def __enter__(self) -> Servers:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._ready_file.unlink(missing_ok=True)
        file = self._folder / SETTINGS
        file.write_text(to_toml(self._settings), encoding="utf-8")
        # The file holds what the environment overrode, and what a command set after that.
        inherited = {k: v for k, v in os.environ.items() if k not in overrides(os.environ)}
        # A service manager's way to say stop; as with Ctrl-C, the halves are ended in order.
        self._before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        for half in self._halves:
            more = [*self._options.get(half, ())]
            if half in _WITH_API:
                more += ["--ready-file", str(self._ready_file)]
            log = (self._folder / f"{half}.log").open("ab")
            self._logs.append(log)
            command = [sys.executable, "-m", "tidegate", "serve", half, "--settings", str(file)]
            # A process group of their own: Ctrl-C reaches this process, which ends them in order.
            self._children[half] = subprocess.Popen(  # noqa: S603
                [*command, *more],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**inherited, "OMP_WAIT_POLICY": "PASSIVE"},
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for half in reversed(self._children):
            end(self._children[half])
        for log in self._logs:
            log.close()
        signal.signal(signal.SIGTERM, self._before)

    @property
    def _ready_file(self) -> Path:
        return self._folder / "ready"

    def pid(self, half: str) -> int:
        """Process id of one half."""
        return self._children[half].pid

    def wait_ready(self) -> str:
        """The API's base URL, once it answers. Raises ConfigError if a half ends or is too slow."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.check()
            port = self._ready_file.read_text() if self._ready_file.exists() else ""
            if port and _healthy(self._settings.outer.host, int(port)):
                return f"http://{self._settings.outer.host}:{port}/v1"
            time.sleep(0.1)
        raise ConfigError(f"the halves were not ready after {PATIENCE:.0f} s; see {self._folder}")

    def wait_ended(self) -> None:
        """Until a half ends, which is an error, or the user interrupts. Raises ConfigError."""
        try:
            while True:
                self.check()
                time.sleep(0.5)
        except KeyboardInterrupt:
            return

    def check(self) -> None:
        """Raise ConfigError, with the last it said, if a half has ended."""
        for half, child in self._children.items():
            if child.poll() is not None:
                lines = (self._folder / f"{half}.log").read_text(errors="replace").splitlines()
                said = "\n".join(lines[-8:])
                raise ConfigError(f"the {half} half ended ({child.returncode}):\n{said}")


def end(child: subprocess.Popen[bytes]) -> None:
    """Tell a process to end, and see that it does."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _healthy(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
