"""A process that holds the model once and re-executes what it is handed, until its pipe closes."""

from __future__ import annotations

import signal
from multiprocessing.connection import Connection
from typing import TypeAlias

import msgspec

from tidegate.errors import TidegateError
from tidegate.verify.replay_answer import Checked, Rule, Task, recheck
from tidegate.verify.replay_model import Spec, open_replay, open_tokenizer


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The model is there, and what it is."""

    model: str
    vocab_size: int
    exact: bool
    name: str
    numerics: str
    tokenizer: str
    template: str


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The model cannot be opened, and what to do."""

    code: str
    message: str


class Done(msgspec.Struct, frozen=True, tag="done"):
    """One answer's result."""

    checked: Checked


Message: TypeAlias = Ready | Refused | Done

_FROM_PARENT = msgspec.msgpack.Decoder(Task)


def main(pipe: Connection, spec: bytes) -> None:
    """Open the model that the MessagePack of a `Spec` names, say so, and serve tasks.

    The first thing received is a `Rule`. Ends when the parent does.
    """
    # Ctrl-C reaches the whole group; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    chosen = msgspec.msgpack.decode(spec, type=Spec)
    try:
        tokenizer = open_tokenizer(chosen)
        replay = open_replay(chosen)
    except TidegateError as error:
        _say(pipe, Refused(error.code, error.message))
        return
    info = replay.describe()
    _say(
        pipe,
        Ready(
            model=replay.fingerprint,
            vocab_size=replay.vocab_size,
            exact=replay.exact,
            name=info.name,
            numerics=info.numerics,
            tokenizer=tokenizer.fingerprint,
            template=tokenizer.template_hash,
        ),
    )
    try:
        rule = msgspec.msgpack.decode(pipe.recv_bytes(), type=Rule)
        while True:
            task = _FROM_PARENT.decode(pipe.recv_bytes())
            _say(pipe, Done(recheck(task, replay, tokenizer, rule)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _say(pipe: Connection, message: Message) -> None:
    pipe.send_bytes(msgspec.msgpack.encode(message))
