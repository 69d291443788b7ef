"""The operator's socket: what it shows, does, and refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from lanes_world import NAMES, LanesWorld
from link_world import job

from tidegate.serve.jobs import Finished
from tidegate.serve.outer.control import ControlServer, Request, ask


async def served(world: LanesWorld, folder: Path) -> tuple[asyncio.Server, str]:
    address = str(folder / "c.sock")
    return await asyncio.start_unix_server(ControlServer(world.lanes).handle, address), address


async def test_lanes_are_shown_drained_and_used_again(tmp_path: Path):
    async with LanesWorld() as world:
        server, address = await served(world, tmp_path)
        shown = await ask(address, Request("show"))
        assert [(lane.name, lane.state) for lane in shown.lanes] == [(n, "up") for n in NAMES]
        drained = await ask(address, Request("drain", "north"))
        assert {lane.name: lane.state for lane in drained.lanes}["north"] == "drained"
        assert isinstance((await world.answer(job())).end, Finished)
        await ask(address, Request("undrain", "north"))
        await world.until_up("north")
        server.close()


async def raw(address: str, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(address)
    writer.write(line)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"do": "drain", "lane": "south"}\n', "there is no lane"),
        (b'{"do": "open the gates"}\n', "malformed"),
        (b'{"do": "show", "more": 1}\n', "malformed"),
        (b"\xff\n", "malformed"),
        (b'{"do": "drain", "lane": "' + b"x" * 5000 + b'"}\n', "too long"),
    ],
    ids=["unknown lane", "unknown deed", "unknown field", "no text", "too long"],
)
async def test_what_it_does_not_know_it_refuses(tmp_path: Path, line: bytes, says: str):
    async with LanesWorld(("east",)) as world:
        server, address = await served(world, tmp_path)
        assert says in msgspec.json.decode(await raw(address, line))["error"]
        assert world.lanes.shown()[0].state == "up"
        server.close()
