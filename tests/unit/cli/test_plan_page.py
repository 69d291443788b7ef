"""The page: whole, without a network, and with the same arithmetic as the planner."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from plan_scenarios import given, packaged, small

from tidegate.cli import plan_html
from tidegate.plan import caps, model, reckon
from tidegate.plan.scenario import Scenario

SCRIPT = Path(plan_html.__file__).with_name("plan_model.js")
NODE = shutil.which("node")
_ASK = """
const tidegate = require(process.argv[1]);
const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
const told = asked.values.map((v) => tidegate.answer(v, asked.duties));
console.log(JSON.stringify(told.map((t) => [isFinite(t.days) ? t.days : null, t.copies, t.binds])));
"""


@pytest.fixture(scope="module")
def page() -> str:
    pytest.importorskip("plotly")
    odd = Scenario('</script><b>"odd" & <i>', "", small().values)
    told = reckon.compare(small(), odd, version="0", lifetimes=200)
    return plan_html.page(told)


def _varied() -> list[Scenario]:
    """Scenarios that reach every branch: both kinds of cap, growth, rotation, alarms."""
    shipped = [packaged()[name] for name in ("frontier", "smollm2-demo", "audit-sample")]
    more = [
        given(
            each, traffic__growth=growth, verification__audit_rate=1.0, verification__residual=0.002
        )
        for each in shipped
        for growth in (0.3, 1.0, 4.0)
    ]
    more += [given(each, model__rotation=20.0) for each in shipped]
    more += [caps.capped(each, reckon.point(each).cap_bits_a_day * 3) for each in more]
    more += [given(small(), traffic__growth=0.01), given(small(), verification__honest_flags=0.01)]
    return [*packaged().values(), *more]


@pytest.mark.skipif(NODE is None, reason="the page's script is compared only where node is")
def test_the_sliders_reckon_as_the_planner_does() -> None:
    scenarios = _varied()
    values = [{name: q.value for name, q in each.values.items()} for each in scenarios]
    asked = json.dumps({"values": values, "duties": model.DUTIES})
    done = subprocess.run(
        [str(NODE), "-e", _ASK, str(SCRIPT)],
        input=asked,
        capture_output=True,
        check=True,
        text=True,
    )
    for scenario, (days, copies, binds) in zip(scenarios, json.loads(done.stdout), strict=True):
        told = reckon.point(scenario)
        assert (days is None) == (told.days is None)
        assert days is None or days == pytest.approx(told.days, rel=1e-6)
        assert copies == pytest.approx(told.copies, rel=1e-6)
        assert binds == told.binds


def test_the_page_loads_nothing_from_anywhere(page: str) -> None:
    # Whatever plotly's own code mentions, no element of the page refers outside it.
    shell = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert re.findall(r"""(?:src|href|url|@import)\s*[=(]""", shell) == []
    assert shell.count("http") == shell.count("https://")


def test_a_title_cannot_leave_its_place(page: str) -> None:
    assert "</script><b>" not in page
    data = re.search(r'id="data">(.*?)</script>', page, flags=re.S)
    assert data is not None
    told = json.loads(data[1])
    assert told["answers"][1]["title"].startswith("</script>")


def test_every_value_stands_on_the_page_with_its_source(page: str) -> None:
    for name, quantity in small().values.items():
        assert name in page
        assert quantity.source.split(";")[0] in page


def test_the_page_serves_light_dark_and_narrow_screens(page: str) -> None:
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
