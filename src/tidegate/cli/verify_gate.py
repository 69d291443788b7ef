"""The verifier's end of gate mode: a socket on which the outer half asks for verdicts."""

from __future__ import annotations

import socketserver
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from tidegate.errors import ConfigError
from tidegate.serve.outer.hold import MAX_LINE, Question, Verdict
from tidegate.verify.replay_run import Name, Word

REMEMBERED: Final = 1 << 16
"""Verdicts kept; an answer is asked about as soon as it is recorded."""


class Gate:
    """Verdicts by answer, told by the run and waited for by connections. Thread-safe."""

    def __init__(self) -> None:
        self._verdicts: OrderedDict[Name, Verdict] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def tell(self, name: Name, word: Word) -> None:
        """The run's word on an answer; the first one stands."""
        with self._changed:
            self._verdicts.setdefault(name, Verdict(word.passed, word.reason))
            while len(self._verdicts) > REMEMBERED:
                self._verdicts.popitem(last=False)
            self._changed.notify_all()

    def close(self) -> None:
        """Refuse whoever waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait(self, name: Name) -> Verdict:
        """The verdict, once there is one; a refusal where there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or name in self._verdicts)
            return self._verdicts.get(name) or Verdict(False, "the verifier was stopped")


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: str, gate: Gate) -> None:
        self.gate = gate
        super().__init__(path, _Handler)


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        """One question, one verdict."""
        server = self.server
        if not isinstance(server, _Server):
            return
        try:
            question = msgspec.json.decode(self.rfile.readline(MAX_LINE), type=Question)
        except msgspec.MsgspecError:
            verdict = Verdict(False, "the question cannot be read")
        else:
            verdict = server.gate.wait(Name(question.request, question.choice))
        self.wfile.write(msgspec.json.encode(verdict) + b"\n")

    def finish(self) -> None:
        """Close; whoever asked may be gone."""
        try:
            super().finish()
        except OSError:
            return


@contextmanager
def listening(path: Path) -> Iterator[Gate]:
    """A gate on a Unix socket, readable by its owner and group. Raises ConfigError."""
    gate = Gate()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_socket():
            path.unlink()  # of a verifier that was killed
        server = _Server(str(path), gate)
        path.chmod(0o660)
    except OSError as error:
        raise ConfigError(f"cannot listen on {path}: {error.strerror}") from error
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield gate
    finally:
        gate.close()
        server.shutdown()
        server.server_close()
        path.unlink(missing_ok=True)
