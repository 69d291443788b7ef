"""The console's doors: who gets in, who may do what, and what is written down."""

from __future__ import annotations

from pathlib import Path

import pytest
import record_world
from console_world import HOST, NAMES, ORIGIN, PASSWORD, World

from tidegate.console.event import Asked, Event
from tidegate.console.records import Records
from tidegate.console.sessions import IDLE_S
from tidegate.record.entries import Begin

ALERT = Event(
    uid="a",
    time=1.0,
    severity=5,
    kind="weights",
    source="gate",
    subject="team",
    title="weights seen",
    body={"response": 1},
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def actions(world: World) -> list[str]:
    return [kept.event.title for kept in world.events.page(Asked(kind="action")).events]


PRIVATE = [
    "/api/me",
    "/api/events",
    "/api/events/1",
    "/api/live",
    "/api/answers/1",
    "/api/grants/x",
]


@pytest.mark.parametrize("path", PRIVATE)
async def test_nothing_is_told_to_strangers(world: World, path: str) -> None:
    async with world.browser() as browser:
        assert (await browser.get(path)).status_code == 401


async def test_pages_hold_no_figure_and_strangers_are_sent_to_the_login(world: World) -> None:
    async with world.browser() as browser:
        page = await browser.get("/")
        assert (page.status_code, page.headers["location"]) == (303, "/login")
        for path in ("/login", "/static/main.js", "/static/console.css", "/static/icon.svg"):
            answer = await browser.get(path)
            assert answer.status_code == 200
            assert "'unsafe" not in answer.headers["content-security-policy"]
        for path in ("/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/app.py", "/nothing"):
            assert (await browser.get(path)).status_code == 404


async def test_every_answer_forbids_frames_foreign_scripts_and_caches(world: World) -> None:
    async with world.logged_in("vik") as browser:
        for path in ("/", "/login", "/api/me", "/api/events", "/nothing"):
            headers = (await browser.get(path)).headers
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "default-src 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"


async def test_another_host_name_is_refused(world: World) -> None:
    async with world.browser() as browser:
        for host in ("evil.example", "console.example", f"{HOST}.evil.example", ""):
            assert (await browser.get("/login", host=host)).status_code == 421


@pytest.mark.parametrize("secure", [False, True])
async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(
    tmp_path: Path, secure: bool
) -> None:
    world = World(tmp_path, secure=secure)
    async with world.browser() as browser:
        cookie = (await browser.log_in("vik")).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "domain" not in cookie
    assert ("secure" in cookie.split("; ")) is secure
    assert cookie.startswith("__host-") is secure


@pytest.mark.parametrize("origin", [None, "null", "https://evil.example", f"https://{HOST}"])
async def test_a_login_from_elsewhere_is_refused(world: World, origin: str | None) -> None:
    async with world.browser(origin) as browser:
        assert (await browser.log_in("vik")).status_code == 403


async def test_passwords_are_guessed_five_times_then_seldom(world: World) -> None:
    async with world.browser() as browser:
        answers = [(await browser.log_in("vik", f"wrong wrong {n}")).status_code for n in range(6)]
        assert answers == [403] * 5 + [429]
        assert (await browser.log_in("vik")).status_code == 429
        world.clock.advance(120)
        assert (await browser.log_in("vik")).status_code == 200
    assert actions(world)[-1] == "somebody: login failed vik"
    assert "somebody: login limited vik" in actions(world)


async def test_logging_in_rightly_uses_up_nothing(world: World) -> None:
    async with world.browser() as browser:
        for _ in range(12):
            assert (await browser.log_in("vik")).status_code == 200


async def test_names_typed_by_strangers_are_not_written_down_as_they_are(world: World) -> None:
    async with world.browser() as browser:
        await browser.log_in("my password, by mistake", "x")
    assert actions(world) == ["somebody: login failed (unreadable)"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"name": 1, "password": "x"}', 400),
        (b'{"name": "a"}', 400),
        (b"x" * 100_000, 413),
    ],
)
async def test_a_malformed_login_is_a_clear_error(world: World, body: bytes, status: int) -> None:
    async with world.browser() as browser:
        answer = await browser.client.post("/api/login", content=body, headers=browser.origin)
        assert answer.status_code == status
        assert answer.json()["error"]


async def test_changes_need_the_sessions_token_and_the_consoles_own_page(world: World) -> None:
    (kept,) = world.events.add([ALERT])
    path = f"/api/events/{kept.n}/done"
    async with world.logged_in("olga") as browser:
        right = browser.csrf
        for token, origin in (("", ORIGIN), ("wrong", ORIGIN), (right, "https://evil.example")):
            answer = await browser.post(path, None, **{"x-csrf-token": token, "origin": origin})
            assert answer.status_code == 403
        no_origin = await browser.client.post(path, headers={"x-csrf-token": right})
        assert no_origin.status_code == 403
        assert world.events.still_open() == {"critical": 1}
        assert (await browser.post(path)).status_code == 200
        assert world.events.still_open() == {}
        assert (await browser.post(path)).status_code == 409
    assert "olga: closed alert 1" in actions(world)


@pytest.mark.parametrize("name", NAMES)
async def test_only_operators_close_alerts_and_only_approvers_reach_the_broker(
    world: World, name: str
) -> None:
    (kept,) = world.events.add([ALERT])
    async with world.logged_in(name) as browser:
        closed = await browser.post(f"/api/events/{kept.n}/done")
        assert closed.status_code == (200 if name == "olga" else 403)
        judged = await browser.post("/api/grants/x/verdict", {"verdict": "approve"})
        assert judged.status_code == (409 if name == "ann" else 403)
        assert (await browser.get(f"/api/events/{kept.n}")).json()["event"]["title"] == ALERT.title


async def test_prompts_are_shown_to_whom_it_is_allowed_and_every_look_is_written_down(
    tmp_path: Path,
) -> None:
    recorded = record_world.RecordWorld()
    number = recorded.answer("r1", range(5, 15))

    def said(begin: Begin, ids: tuple[int, ...]) -> dict[str, str]:
        return {"prompt": "the users secret", "answer": str(len(ids))}

    world = World(tmp_path, records=Records(recorded.store, said))
    path = f"/api/answers/{number}"
    async with world.logged_in("vik") as browser:
        shown = await browser.get(path)
        assert shown.status_code == 200
        assert "secret" not in shown.text
        assert "private" not in shown.json()
        assert (await browser.get(f"{path}?said=true")).status_code == 403
    async with world.logged_in("olga") as browser:
        assert "secret" not in (await browser.get(path)).text
        answer = (await browser.get(f"{path}?said=true")).json()
        assert answer["said"]["prompt"] == "the users secret"
        assert int(answer["said"]["answer"]) == answer["tokens"] > 0
        assert (await browser.get("/api/answers/999")).status_code == 409
    told = actions(world)
    assert f"vik: prompt refused {number}" in told
    assert f"olga: read prompt {number}" in told


async def test_what_cannot_be_written_down_is_not_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = world.events.add([ALERT])
    async with world.logged_in("olga") as browser:
        monkeypatch.setattr(world.events, "add", _full)
        assert (await browser.post(f"/api/events/{kept.n}/done")).status_code == 503
    assert world.events.still_open() == {"critical": 1}


def _full(_: object) -> None:
    from tidegate.console.errors import ConsoleError

    raise ConsoleError("the disk is full")


async def test_a_session_is_paced(world: World) -> None:
    async with world.logged_in("vik") as browser:
        answers = [(await browser.get("/api/me")).status_code for _ in range(70)]
        assert answers.count(429) == 10
        world.clock.advance(1)
        assert (await browser.get("/api/me")).status_code == 200


async def test_sessions_end(world: World) -> None:
    async with world.logged_in("vik") as browser:
        world.clock.advance(IDLE_S + 1)
        assert (await browser.get("/api/me")).status_code == 401
        await browser.log_in("vik")
        assert (await browser.post("/api/logout")).status_code == 200
        assert (await browser.get("/api/me")).status_code == 401
        await browser.log_in("vik")
        world.people.remove("vik")
        assert (await browser.get("/api/me")).status_code == 401


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1000", "severity=9", "before=x", "until=nan_", "limit=-1"]
)
async def test_filters_that_cannot_be_are_named(world: World, query: str) -> None:
    async with world.logged_in("vik") as browser:
        answer = await browser.get(f"/api/events?{query}")
        assert answer.status_code == 400
        assert query.split("=")[0] in answer.json()["error"]


async def test_a_login_replaces_the_session_before_it(world: World) -> None:
    async with world.logged_in("vik") as browser:
        first = browser.client.cookies["tidegate"]
        await browser.log_in("vik", PASSWORD)
        browser.client.cookies.clear()
        browser.client.cookies.set("tidegate", first, domain="console.example")
        assert (await browser.get("/api/me")).status_code == 401
