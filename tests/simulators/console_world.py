"""A console with people, events and a manual clock, asked as a browser would ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2

from tidegate.clock import ManualClock
from tidegate.console.actions import Actions
from tidegate.console.app import Console, Parts
from tidegate.console.events import Events
from tidegate.console.hub import Hub
from tidegate.console.people import People, Role
from tidegate.console.records import Records
from tidegate.console.source_grants import Broker

HOST = "console.example:8700"
ORIGIN = f"http://{HOST}"
PASSWORD = "a long enough password"
NAMES = {"vik": Role.VIEWER, "ann": Role.APPROVER, "olga": Role.OPERATOR}


class World:
    """`olga` may read prompts, nobody else."""

    def __init__(
        self,
        folder: Path,
        *,
        records: Records | None = None,
        broker: Broker | None = None,
        secure: bool = False,
    ) -> None:
        self.clock = ManualClock()
        self.people = People(folder / "people.json")
        for name, role in NAMES.items():
            self.people.put(name, role, PASSWORD, reads_prompts=name == "olga")
        self.events = Events(folder / "events.sqlite")
        self.hub = Hub()
        parts = Parts(
            people=self.people,
            events=self.events,
            hub=self.hub,
            actions=Actions(self.events, self.hub, self.clock),
            clock=self.clock,
            records=records,
            broker=broker,
            secure=secure,
        )
        self.console = Console(parts, frozenset({HOST}))

    def browser(self, origin: str | None = ORIGIN) -> Browser:
        """One browser, with its own cookies."""
        return Browser(self, origin)

    @asynccontextmanager
    async def logged_in(self, name: str) -> AsyncIterator[Browser]:
        """A browser in which somebody has logged in."""
        async with self.browser() as browser:
            await browser.log_in(name)
            yield browser


class Browser:
    """Sends what a page of the console's own would send."""

    def __init__(self, world: World, origin: str | None) -> None:
        transport = httpx2.ASGITransport(world.console.app, client=("203.0.113.7", 40000))
        self.client = httpx2.AsyncClient(transport=transport, base_url=ORIGIN)
        self.origin = {} if origin is None else {"origin": origin}
        self.csrf = ""

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()

    async def log_in(self, name: str, password: str = PASSWORD) -> httpx2.Response:
        answer = await self.client.post(
            "/api/login", json={"name": name, "password": password}, headers=self.origin
        )
        if answer.status_code == httpx2.codes.OK:
            self.csrf = answer.json()["csrf"]
        return answer

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self.client.get(path, headers=headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        own = {"x-csrf-token": self.csrf, **self.origin}
        return await self.client.post(path, json=body or {}, headers={**own, **headers})
