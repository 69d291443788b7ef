"""Metrics count what they say, logs hold no user's text, the dashboard has no dead query."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import re
from pathlib import Path
from typing import Any

import pytest

from tidegate.clock import ManualClock
from tidegate.errors import BudgetExceededError, LedgerError
from tidegate.serve.jobs import Failed
from tidegate.serve.telemetry import WITHHELD, Metrics, make_logger, uvicorn_log_config
from tidegate.units import Bits, Seconds

SECRET = "the patient's name is Vermeer"
DASHBOARD = Path(__file__).parents[5] / "deploy" / "grafana" / "tidegate.json"


def samples(metrics: Metrics) -> dict[str, float]:
    lines = metrics.render().decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


def use_everything(metrics: Metrics) -> None:
    metrics.uploaded("inner→outside", "alice", Bits(24))
    metrics.padded("inner→outside", Bits(8))
    metrics.frame("inner→outside", "data")
    metrics.resent("inner→outside")
    metrics.incident("link_error")
    metrics.link("inner→outside", up=True)
    metrics.tokens("prompt", "alice", 5)
    metrics.refused("upload_budget_exceeded")
    metrics.request("/health", 200, Seconds(0.2))
    metrics.first_token("/v1/completions", Seconds(0.2))
    metrics.budget("total", spent=Bits(1), reserved=Bits(2), left=None)
    metrics.ledger(up=True)


def test_two_sets_of_metrics_do_not_share_a_registry() -> None:
    one, other = Metrics(), Metrics()
    use_everything(one)
    name = 'tidegate_upload_bits_total{edge="inner→outside",principal="alice"}'
    assert samples(one)[name] == 24
    assert name not in samples(other)


async def test_a_request_is_counted_once_with_its_route_status_and_tokens(
    make_site: Any, say: Any
) -> None:
    site = make_site(say("a", "b"))
    await site.post()
    await site.post(n="bad")
    seen = samples(site.metrics)
    route = "/v1/chat/completions"
    assert seen[f'tidegate_requests_total{{route="{route}",status="200"}}'] == 1
    assert seen[f'tidegate_requests_total{{route="{route}",status="400"}}'] == 1
    assert seen[f'tidegate_request_duration_seconds_count{{route="{route}"}}'] == 2
    assert seen['tidegate_tokens_total{kind="completion",principal="alice"}'] == 2
    assert seen['tidegate_tokens_total{kind="prompt",principal="alice"}'] == 5
    assert seen['tidegate_refusals_total{code="invalid_type"}'] == 1
    assert seen["tidegate_active_streams"] == 0


async def test_what_a_client_sends_never_becomes_a_label(make_site: Any) -> None:
    site = make_site()
    await site.caller()("GET", f"/{SECRET}")
    await site.post(model=SECRET)
    await site.post(**{SECRET: 1})
    assert SECRET not in site.metrics.render().decode()


async def test_a_scrape_shows_every_account(make_site: Any) -> None:
    site = make_site()
    reply = await site.caller()("GET", "/metrics", key="key-of-scraper")
    assert reply.headers["content-type"].startswith("text/plain")
    told = reply.body.decode()
    assert 'tidegate_budget_left_bits{scope="total"} 94.0' in told
    assert 'tidegate_budget_left_bits{scope="principal:alice"} +Inf' in told
    assert 'tidegate_budget_spent_bits{scope="edge:inner→outside"} 5.0' in told
    assert "tidegate_ledger_up 1.0" in told


async def test_an_unreadable_ledger_is_seen_in_the_scrape(make_site: Any) -> None:
    site = make_site(open_metrics=True)
    site.ledger.error = LedgerError("disk gone")
    reply = await site.caller()("GET", "/metrics", key=None)
    assert (reply.status, "tidegate_ledger_up 0.0" in reply.body.decode()) == (200, True)


class Broken:
    """A tokenizer with a bug that quotes the prompt."""

    def chat(self, _messages: Any) -> list[int]:
        raise ValueError(SECRET)


@pytest.mark.parametrize(
    "script",
    [
        [ValueError(SECRET)],
        [BudgetExceededError("spent")],
        [Failed("engine_error", "no")],
        None,
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_prompts_answers_and_keys_never_reach_the_log(
    make_site: Any, say: Any, script: Any, stream: bool
) -> None:
    site = make_site(script or say(SECRET))
    secret = [{"role": "user", "content": SECRET}]
    await site.post(messages=secret, stream=stream, stop=[SECRET], user=SECRET)
    await site.post(messages=secret, temperature=SECRET)
    await site.caller()("POST", "/v1/completions", SECRET.encode(), key=SECRET)
    await site.caller()("GET", f"/v1/models/{SECRET}")
    written = site.log_stream.getvalue()
    assert len(site.log) >= 4
    for word in (*SECRET.split(), "key-of-alice"):
        if word not in {"the", "name", "is"}:
            assert word not in written
    assert {"request_id", "principal", "route", "status", "seconds"} <= site.log[-1].keys()


async def test_a_bug_is_a_bare_500_and_a_place_in_the_log(make_site: Any) -> None:
    site = make_site(tokenizer=Broken())
    stream = io.StringIO()
    logging.config.dictConfig(uvicorn_log_config(stream))
    caller = site.caller()
    try:
        with pytest.raises(ValueError, match="patient") as caught:
            await caller(
                "POST",
                "/v1/chat/completions",
                b'{"model":"org/model","messages":[{"role":"user","content":"x"}]}',
            )
        # As uvicorn does with what an application raises, and asyncio with what nobody awaited.
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).error(
                "Exception in ASGI application\n" if name != "asyncio" else SECRET,
                exc_info=caught.value,
            )
        logging.getLogger("asyncio").error("%s", caught.value)
    finally:
        logging.config.dictConfig({"version": 1})
    assert (caller.reply.status, caller.reply.error["code"]) == (500, "internal_error")
    assert "Vermeer" not in caller.reply.body.decode() + stream.getvalue() + str(site.log)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line.get("exception") for line in lines] == ["ValueError", "ValueError", None]
    assert lines[0]["at"].startswith("test_telemetry.py:")
    assert site.log[-1]["code"] == "internal_error"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("edge", "inner→outside", "inner→outside"),
        ("bits", 12, 12),
        ("reason", "The disk is full.", "The disk is full."),
        ("note", SECRET, WITHHELD),
        ("prompt", "word", WITHHELD),
        ("token_ids", 5, WITHHELD),
        ("anything", ["a"], WITHHELD),
        ("anything", b"a", WITHHELD),
    ],
)
def test_only_plain_values_are_logged(name: str, value: Any, told: Any) -> None:
    stream = io.StringIO()
    make_logger(stream, ManualClock()).info("event", **{name: value})
    assert json.loads(stream.getvalue())[name] == told


def test_log_lines_are_stamped_by_the_clock_that_was_given() -> None:
    stream = io.StringIO()
    make_logger(stream, ManualClock(0.0)).info("event")
    assert json.loads(stream.getvalue())["timestamp"] == "1970-01-01T00:00:00.000+00:00"


def queries(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["expr"]] if "expr" in node else []
        return own + [expr for value in node.values() for expr in queries(value)]
    return [expr for value in node for expr in queries(value)] if isinstance(node, list) else []


def test_every_query_of_the_dashboard_names_what_is_exported() -> None:
    metrics = Metrics()
    use_everything(metrics)
    exported: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            exported.setdefault(sample.name, set()).update(sample.labels)
    asked = queries(json.loads(DASHBOARD.read_text()))
    named = {name for expr in asked for name in re.findall(r"tidegate_\w+", expr)}
    labels = {
        label
        for expr in asked
        for group in re.findall(r"by \(([^)]*)\)", expr)
        for label in re.split(r",\s*", group)
    }
    assert named <= exported.keys()
    assert labels <= set().union(*exported.values())
    families = {re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in exported}
    shown = {re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in named}
    assert shown == families
