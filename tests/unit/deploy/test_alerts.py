"""Alerts fire when they say, on metrics that exist, and lead somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import chart
import pytest
import yaml

from tidegate.serve.telemetry import Metrics

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
    return {
        family.name + end for family in Metrics().registry.collect() for end in ends[family.type]
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
