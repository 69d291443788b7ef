"""The page as people have it: in a real browser, over a real socket, with a real broker behind."""

from __future__ import annotations

import pytest
from browser_site import Site, Tab, running

axe = pytest.importorskip("axe_core_python.sync_playwright", reason="needs tidegate[dev]: axe-core")


def test_it_loads_without_complaint_and_asks_nobody_else(tab: Tab, site: Site) -> None:
    tab.log_in("vik")
    assert "4,096 bits" in tab.page.inner_text("#budget")
    assert "team-a" in tab.page.inner_text("#budget")
    assert "does not answer" in tab.page.inner_text("#link")
    assert "Not set up" in tab.page.inner_text("#gate")
    assert tab.errors == []
    assert {url.split("/")[2] for url in tab.asked} == {f"localhost:{site.port}"}


def test_what_happens_shows_by_itself(tab: Tab, site: Site) -> None:
    tab.log_in("vik")
    site.find("weights seen in an answer")
    tab.page.wait_for_selector("#events >> text=weights seen in an answer")
    tab.page.wait_for_selector("#headline[data-mood=bad] >> text=critical alert")
    site.spend("team-b", 8192)
    tab.page.wait_for_selector("#budget >> text=principal:team-b")
    assert tab.page.evaluate("document.title").startswith("!")


def test_what_others_wrote_becomes_text_never_markup(tab: Tab, site: Site) -> None:
    tab.log_in("vik")
    site.find("<img src=x onerror=alert(1)><b>bold</b>")
    tab.page.wait_for_selector("#events >> text=<b>bold</b>")
    assert tab.page.query_selector("#events img, #events b") is None
    assert tab.errors == []


def test_an_alert_leads_to_its_answer_and_prompts_stay_hidden(tab: Tab, site: Site) -> None:
    tab.log_in("vik")
    site.find("tokens that no seed explains", response=site.answer)
    tab.page.click("#events >> text=tokens that no seed explains")
    tab.page.click(f"dialog >> text=Answer {site.answer} in the record")
    tab.page.wait_for_selector("dialog >> text=as recorded (unverified)")
    shown = tab.page.inner_text("dialog")
    assert "stop, 40 bits" in shown
    assert "Show what was said" not in shown
    assert "Dealt with" not in shown


def test_an_operator_reads_what_was_said_and_closes_the_alert(tab: Tab, site: Site) -> None:
    tab.log_in("olga")
    site.find("to be closed", response=site.answer)
    tab.page.click("#events >> text=to be closed")
    tab.page.click("dialog >> text=in the record")
    tab.page.wait_for_selector("dialog >> text=Show what was said")
    tab.page.click("dialog >> button:text('Dealt with')")
    tab.page.wait_for_selector("dialog >> text=Marked as dealt with")
    tab.page.click("#detail-close")
    tab.page.select_option("[name=severity]", "1")
    tab.page.fill("[name=kind]", "action")
    tab.page.click("#filter button")
    tab.page.wait_for_selector("#events >> text=olga: closed alert")


def test_the_keyboard_is_enough(tab: Tab, site: Site) -> None:
    site.find("found by keyboard")
    tab.log_in("vik")
    tab.page.keyboard.press("Tab")
    assert tab.page.evaluate("document.activeElement.className") == "skip"
    tab.page.wait_for_selector("#events >> text=found by keyboard")
    tab.page.keyboard.press("j")
    assert tab.page.evaluate("document.activeElement.closest('#events') !== null")
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_selector("dialog[open]")
    tab.page.keyboard.press("Escape")
    tab.page.wait_for_selector("dialog:not([open])", state="attached")


def test_an_approver_signs_exactly_what_he_was_shown(tab: Tab, site: Site) -> None:
    world = site.broker.world
    request = world.ask()
    tab.log_in("ann")
    tab.plug_in(world.people["ann"])
    tab.page.click("text=Look at alice's request")
    tab.page.wait_for_selector("dialog pre")
    assert request.id in tab.page.inner_text("dialog pre")
    tab.page.click("dialog >> text=Approve for security")
    tab.page.wait_for_selector("dialog >> text=the request is pending")
    (approval,) = world.broker.grant(request.id).approvals
    assert (approval.by, approval.team) == ("ann", "security")
    tab.page.click("dialog >> text=Approve for security")
    tab.page.wait_for_selector("dialog p.bad:not(:empty)")
    assert len(world.broker.grant(request.id).approvals) == 1


def test_another_persons_key_approves_nothing(tab: Tab, site: Site) -> None:
    world = site.broker.world
    request = world.ask()
    tab.log_in("ann")
    tab.plug_in(world.people["ron"])
    tab.page.click(f"#grants >> button >> nth={-1}")
    tab.page.wait_for_selector("dialog pre")
    tab.page.evaluate(
        "() => { const get = navigator.credentials.get.bind(navigator.credentials);"
        " navigator.credentials.get = (asked) => { asked.publicKey.timeout = 500;"
        " return get(asked); }; }"
    )
    tab.page.click("dialog >> text=Approve for security")
    tab.page.wait_for_selector("dialog p.bad:not(:empty)")
    assert world.broker.grant(request.id).approvals == ()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_accessible_and_fits(chromium: object, site: Site, scheme: str, width: int) -> None:
    site.find("an alert to open")
    tab = Tab(chromium, site.url, color_scheme=scheme, viewport={"width": width, "height": 800})
    try:
        tab.page.goto(f"{site.url}/login")
        found = axe.Axe().run(tab.page)["violations"]
        tab.log_in("ann")
        site.broker.world.ask(why="to be seen")
        tab.page.wait_for_selector("#grants >> text=to be seen")
        found += axe.Axe().run(tab.page)["violations"]
        tab.page.click("#events button")
        tab.page.wait_for_selector("dialog[open]")
        found += axe.Axe().run(tab.page)["violations"]
        assert [violation["id"] for violation in found] == []
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    finally:
        tab.context.close()


def test_an_old_picture_says_that_it_is_old(chromium: object, site: Site) -> None:
    folder = site.folder / "second"
    folder.mkdir()
    settings = (site.folder / "console.toml").read_text().splitlines()
    kept = [line for line in settings if line.startswith(("name", "port"))]
    (folder / "console.toml").write_text(
        "\n".join(kept).replace(str(site.port), "0") + '\nfolder = "../state"\n'
    )
    with running(folder) as process:
        second = Tab(chromium, f"http://localhost:{(folder / 'ready').read_text()}")
        second.site = type(
            "Other", (), {"url": f"http://localhost:{(folder / 'ready').read_text()}"}
        )()
        second.log_in("vik")
        process.terminate()
        second.page.wait_for_selector("#fresh.bad >> text=NOT LIVE")
        second.context.close()
