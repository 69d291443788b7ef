"""One console for a module's tests, and a browser."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator

import broker_server
import grant_world
import pytest
from browser_site import Site, Tab, running

playwright = pytest.importorskip("playwright.sync_api", reason="needs tidegate[dev]: playwright")
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian: chromium): no browser to test with here")
    folder = tmp_path_factory.mktemp("console")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    world = grant_world.World(rp_id="localhost", origins=(f"http://localhost:{port}",))
    with broker_server.serving(world) as broker:
        made = Site(folder, broker, port)
        with running(folder):
            yield made


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian: chromium): no browser to test with here")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: object, site: Site) -> Iterator[Tab]:
    made = Tab(chromium, site.url)
    yield made
    made.context.close()
