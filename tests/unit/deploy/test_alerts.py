"""Alerts fire when they say; they and the dashboards show metrics that exist, and all of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import chart
import pytest
import yaml

from tidegate.serve.telemetry import Metrics
from tidegate.verify.fleet_metrics import FleetMetrics

FOLDER = chart.ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
SCENES = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian: prometheus): alerts are not tried here",
)


def exported() -> set[str]:
    """Every name that a scrape may show."""
    ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    registries = Metrics().registry, FleetMetrics().registry
    return {
        family.name + end
        for registry in registries
        for family in registry.collect()
        for end in ends[family.type]
    }


@promtool
@pytest.mark.parametrize(
    "command", [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]]
)
def test_promtool_agrees(command: list[str]) -> None:
    done = subprocess.run(
        ["promtool", *command], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_reads_metrics_that_exist(rule: dict[str, Any]) -> None:
    named = set(re.findall(r"\btidegate_\w+", rule["expr"]))
    assert named
    assert named <= exported()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do_and_where_it_is_written(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook"} == rule["annotations"].keys()
    assert (chart.ROOT / rule["annotations"]["runbook"]).is_file()


def test_every_alert_is_seen_to_fire() -> None:
    fired = {
        told["alertname"]
        for scene in SCENES
        for told in scene["alert_rule_test"]
        if told["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in RULES}


def test_the_chart_carries_the_same_file() -> None:
    carried = chart.CHART / "files" / "prometheus" / "alerts.yaml"
    assert carried.samefile(FOLDER / "alerts.yaml")


DASHBOARDS = sorted((chart.ROOT / "deploy" / "grafana").glob("*.json"))


def asked(dashboard: dict[str, Any]) -> set[str]:
    """The metrics that a dashboard's panels ask for."""
    exprs = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return {name for expr in exprs for name in re.findall(r"\btidegate_\w+", expr)}


def test_dashboards_show_every_metric_and_no_other() -> None:
    shown = set().union(*(asked(json.loads(path.read_text())) for path in DASHBOARDS))
    assert shown <= exported()
    ends = re.compile(r"_(total|bucket|count|sum)$")
    assert {ends.sub("", name) for name in shown} == {ends.sub("", name) for name in exported()}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_of_a_dashboard_neither_overlap_nor_share_a_number(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"] == path.stem
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}) == len(panels)


def test_every_panel_asks_what_prometheus_understands(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: prometheus): queries are not parsed here")
    exprs = {
        target["expr"].replace("$__rate_interval", "5m")
        for path in DASHBOARDS
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
    }
    rules = [{"record": f"query:{n}", "expr": expr} for n, expr in enumerate(sorted(exprs))]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
