"""The console over ten million events, with two hundred people watching.

A real process on a real socket: pages of events are asked for as the page asks, while viewers hold
their streams open; findings are appended to a file as the gate would, and the time is taken until
the last viewer has heard. What a browser asks for and complains of is looked at in Chromium.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
import numpy as np

from tidegate.bench.figures import Figure, at_least, at_most
from tidegate.console.event import Event
from tidegate.console.events import Events
from tidegate.console.people import People, Role
from tidegate.errors import TidegateError
from tidegate.models.cache import Progress

EVENTS: Final = 10_000_000
VIEWERS: Final = 200
PAGES: Final = 300
FINDINGS: Final = 20
_AT_ONCE: Final = 200_000
_PACE_S: Final = 0.06
"""Between requests of one session, which may ask for twenty pages a second."""
_PATIENCE_S: Final = 300.0
_WORDS: Final = "title of an event as long as they mostly are, with a few words in it"
_QUERIES: Final = (
    "",
    "severity=3",
    "severity=5",
    "open_only=true",
    "kind=kind3",
    "kind=kind3&severity=4",
    "subject=team-77",
    "subject=team-77&kind=kind3",
    "before={middle}",
    "before={middle}&severity=3",
    "until={time}",
)


@dataclass(frozen=True, slots=True)
class Running:
    """A console that answers."""

    folder: Path
    url: str
    password: str


def measure(
    progress: Progress, *, events: int = EVENTS, viewers: int = VIEWERS
) -> dict[str, Figure]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-console-") as name:
        folder = Path(name)
        fill(folder / "state" / "events.sqlite", events, progress)
        with _running(folder) as console:
            return asyncio.run(_watched(console, events, viewers, progress))


def fill(path: Path, count: int, progress: Progress) -> None:
    """So many events: one of a hundred thousand critical, mostly information, half dealt with."""
    Events(path).close()
    database = sqlite3.connect(path, isolation_level=None)
    indices = database.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    ).fetchall()
    for name, _ in indices:
        database.execute(f"DROP INDEX {name}")
    database.execute("PRAGMA synchronous = OFF")
    for start in range(0, count, _AT_ONCE):
        progress("events", start, count)
        database.execute("BEGIN")
        database.executemany(
            "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (_row(n) for n in range(start + 1, min(count, start + _AT_ONCE) + 1)),
        )
        database.execute("COMMIT")
    for done, (_, made) in enumerate(indices):
        progress("indices", done, len(indices))
        database.execute(made)
    progress("indices", len(indices), len(indices))
    database.close()


def _row(n: int) -> tuple[object, ...]:
    severity = 5 if n % 100_003 == 0 else 4 if n % 9973 == 0 else 3 if n % 997 == 0 else 1
    body = f'{{"number": {n}, "because": ["one", "two"]}}'
    return (
        n,
        f"uid-{n:x}",
        1.7e9 + n / 10,
        severity,
        f"kind{n % 11}",
        f"source{n % 5}",
        f"team-{n % 1009}",
        _WORDS,
        body,
        n % 2,
    )


@contextmanager
def _running(folder: Path) -> Iterator[Running]:
    password = secrets.token_urlsafe(16)
    People(folder / "state" / "people.json").put("vik", Role.VIEWER, password)
    settings = folder / "console.toml"
    settings.write_text(
        'name = "bench"\nport = 0\nfolder = "state"\nfindings = { bench = "findings.jsonl" }\n'
    )
    ready = folder / "ready"
    command = [sys.executable, "-m", "tidegate", "console", "serve", str(settings)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            [*command, "--ready-file", str(ready)], stdout=log, stderr=log, env=os.environ
        )
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not (ready.exists() and ready.read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TidegateError(f"the console did not start: {(folder / 'log').read_text()}")
            time.sleep(0.05)
        yield Running(folder, f"http://localhost:{ready.read_text()}", password)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


async def _watched(
    console: Running, events: int, viewers: int, progress: Progress
) -> dict[str, Figure]:
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(_session(console))
        heard = _Heard()
        for number in range(viewers):
            progress("viewers", number, viewers)
            await stack.enter_async_context(_stream(client, heard))
        progress("viewers", viewers, viewers)
        waits = await _pages(client, events, progress)
        delays = await _findings(console, heard, viewers, progress)
        still = heard.open
    figures = {
        "p95_ms": at_most(
            1000 * float(np.quantile(waits, 0.95)),
            200,
            unit="ms",
            n=len(waits),
            how=f"pages and single events over {events:,} events, {viewers} viewers watching; "
            f"median {1000 * statistics.median(waits):.1f}, longest {1000 * max(waits):.1f}",
        ),
        "viewers": at_least(
            still,
            min(viewers, VIEWERS),
            unit="viewers",
            n=viewers,
            how="still watching at the end, none of them behind",
        ),
        "live_update_s": at_most(
            max(delays),
            2.0,
            unit="s",
            n=len(delays),
            how="from a finding's line in its file to the last viewer, the longest; median "
            f"{statistics.median(delays):.2f}",
        ),
    }
    return figures | await asyncio.to_thread(_browser, console)


@asynccontextmanager
async def _session(console: Running) -> AsyncIterator[httpx2.AsyncClient]:
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=console.url, limits=limits, timeout=60) as client:
        answer = await client.post(
            "/api/login",
            json={"name": "vik", "password": console.password},
            headers={"origin": console.url},
        )
        answer.raise_for_status()
        yield client


class _Heard:
    """When each viewer heard of each event, by its title."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.last: dict[str, float] = {}
        self.open = 0

    def line(self, line: str) -> None:
        if line.startswith('data: {"n":') and '"title":"finding ' in line:
            title = json.loads(line[6:])["title"]
            self.counts[title] = self.counts.get(title, 0) + 1
            self.last[title] = time.monotonic()


@asynccontextmanager
async def _stream(client: httpx2.AsyncClient, heard: _Heard) -> AsyncIterator[None]:
    begun = asyncio.Event()

    async def follow() -> None:
        async with client.stream("GET", "/api/live") as answer:
            answer.raise_for_status()
            heard.open += 1
            begun.set()
            try:
                async for line in answer.aiter_lines():
                    heard.line(line)
            finally:
                heard.open -= 1

    task = asyncio.create_task(follow())
    waiting = asyncio.create_task(begun.wait())
    # A session may open twenty streams a second.
    await asyncio.sleep(_PACE_S)
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _pages(client: httpx2.AsyncClient, events: int, progress: Progress) -> list[float]:
    waits: list[float] = []
    for number in range(PAGES):
        progress("pages", number, PAGES)
        middle = 1 + (number * 7_919_003) % events
        query = _QUERIES[number % len(_QUERIES)].format(middle=middle, time=1.7e9 + middle / 10)
        path = f"/api/events/{middle}" if number % 7 == 6 else f"/api/events?{query}"
        start = time.perf_counter()
        answer = await client.get(path)
        waits.append(time.perf_counter() - start)
        answer.raise_for_status()
        await asyncio.sleep(_PACE_S)
    progress("pages", PAGES, PAGES)
    return waits


async def _findings(
    console: Running, heard: _Heard, viewers: int, progress: Progress
) -> list[float]:
    delays: list[float] = []
    for number in range(FINDINGS):
        progress("findings", number, FINDINGS)
        title = f"finding {number}"
        start = time.monotonic()
        _append(console.folder / "findings.jsonl", title)
        while heard.counts.get(title, 0) < viewers:
            if time.monotonic() - start > _PATIENCE_S:
                raise TidegateError(f"only {heard.counts.get(title, 0)} viewers heard of {title}")
            await asyncio.sleep(0.005)
        delays.append(heard.last[title] - start)
        await asyncio.sleep(0.13 * (number % 7))
    progress("findings", FINDINGS, FINDINGS)
    return delays


def _append(path: Path, title: str) -> None:
    event = Event(uid=title, time=0.0, severity=2, kind="bench", source="", subject="", title=title)
    body = {
        "finding_info": {"uid": event.uid, "title": event.title, "types": [event.kind]},
        "time": 1_700_000_000_000,
        "severity_id": event.severity,
        "resources": [],
    }
    with path.open("a") as file:
        file.write(json.dumps(body) + "\n")


def _browser(console: Running) -> dict[str, Figure]:
    """What Chromium asks for and complains of; nothing where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    asked: list[str] = []
    errors: list[str] = []
    with sync_playwright() as started:
        try:
            chromium = started.chromium.launch(
                executable_path="/usr/bin/chromium", args=["--no-sandbox"]
            )
        except Exception as error:
            raise TidegateError(f"Chromium does not start: {error}") from error
        page = chromium.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda said: errors.append(said.text) if said.type in ("error", "warning") else None,
        )
        page.goto(console.url)
        page.fill("[name=name]", "vik")
        page.fill("[name=password]", console.password)
        page.click("button[type=submit]")
        page.wait_for_selector("#fresh.good")
        page.click("#events button")
        page.wait_for_selector("dialog[open]")
        chromium.close()
    outside = [url for url in asked if not url.startswith(console.url + "/")]
    return {
        "outside_requests": at_most(
            len(outside), 0, unit="requests", n=len(asked), how="of Chromium, to anybody else"
        ),
        "console_errors": at_most(
            len(errors), 0, unit="errors", n=len(asked), how="errors and warnings in Chromium"
        ),
    }
