"""A process that holds the model once and re-executes what it is handed, until its pipe closes."""

from __future__ import annotations

import sys
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
    parameters: int
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


def serve(pipe: Connection) -> None:
    """Hear a `Spec`, open the model and say so, hear a `Rule`, then answer each `Task` with `Done`.

    Ends when the parent does.
    """
    try:
        spec = msgspec.msgpack.decode(pipe.recv_bytes(), type=Spec)
        try:
            tokenizer = open_tokenizer(spec)
            replay = open_replay(spec)
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
                parameters=info.parameters,
                tokenizer=tokenizer.fingerprint,
                template=tokenizer.template_hash,
            ),
        )
        rule = msgspec.msgpack.decode(pipe.recv_bytes(), type=Rule)
        while True:
            task = _FROM_PARENT.decode(pipe.recv_bytes())
            _say(pipe, Done(recheck(task, replay, tokenizer, rule)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _say(pipe: Connection, message: Message) -> None:
    pipe.send_bytes(msgspec.msgpack.encode(message))


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
