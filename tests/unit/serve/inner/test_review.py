from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tidegate.clock import ManualClock
from tidegate.serve.inner.reasoning import ReasoningStore, credential_digest
from tidegate.serve.inner.review import Reply, ReviewServer, ask

CREDENTIAL = "the reviewer's credential"
RECORD = bytes(range(16))


def decode(tokens: Sequence[int]) -> str:
    return "".join(chr(token) for token in tokens)


@asynccontextmanager
async def serving(folder: Path, thoughts: str) -> AsyncIterator[str]:
    store = ReasoningStore(ManualClock(), reviewers=(credential_digest(CREDENTIAL),))
    store.put(RECORD, b"owner", tuple(map(ord, thoughts)))
    address = str(folder / "review.sock")
    async with await asyncio.start_unix_server(ReviewServer(store, decode).handle, address):
        yield address


async def told(address: str, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(address)
    writer.write(line)
    writer.write_eof()
    reply = await reader.read()
    writer.close()
    return reply


@pytest.mark.parametrize("thoughts", ['so I thought\nof "tides"', "", "x" * 300_000])
async def test_a_reviewer_reads_what_was_thought_however_long(tmp_path: Path, thoughts: str):
    async with serving(tmp_path, thoughts) as address:
        assert await ask(address, RECORD.hex(), CREDENTIAL) == Reply(text=thoughts)


@pytest.mark.parametrize(
    ("record", "credential"),
    [
        (RECORD.hex(), "another credential"),
        (RECORD.hex(), credential_digest(CREDENTIAL).hex()),
        ("00" * 16, CREDENTIAL),
        ("", CREDENTIAL),
        ("not hex", CREDENTIAL),
        (RECORD.hex(), "\x00" * 100),
        (RECORD.hex(), CREDENTIAL + "x" * 5000),
    ],
)
async def test_anybody_else_and_any_other_record_is_refused(
    tmp_path: Path, record: str, credential: str
):
    async with serving(tmp_path, "a secret thought") as address:
        reply = await ask(address, record, credential)
    assert reply.text is None
    assert reply.error


async def test_a_wrong_credential_learns_nothing_of_which_records_there_are(tmp_path: Path):
    async with serving(tmp_path, "a secret thought") as address:
        replies = {(await ask(address, r.hex(), "wrong")).error for r in (RECORD, bytes(16))}
    assert len(replies) == 1


@pytest.mark.parametrize(
    "line",
    [b"\n", b"{\n", b"[]\n", b'{"id": 1}\n', b"\xff\xfe\n", b'{"id":"00","credential":"","x":1}\n'],
)
async def test_garbage_is_answered_with_an_error(tmp_path: Path, line: bytes):
    async with serving(tmp_path, "a secret thought") as address:
        reply = msgspec.json.decode(await told(address, line), type=Reply)
        assert reply.error == "The request is malformed."
        assert (await ask(address, RECORD.hex(), CREDENTIAL)).text == "a secret thought"


async def test_an_endless_line_is_not_answered_and_others_are(tmp_path: Path):
    async with serving(tmp_path, "a secret thought") as address:
        assert await told(address, b"x" * 200_000) == b""
        assert (await ask(address, RECORD.hex(), CREDENTIAL)).text == "a secret thought"


async def test_nobody_there_is_an_error_of_the_system(tmp_path: Path):
    with pytest.raises(OSError, match="No such file"):
        await ask(str(tmp_path / "nothing.sock"), RECORD.hex(), CREDENTIAL)
