"""What Prometheus is told of a fleet, and what people are."""

from __future__ import annotations

import io
import math

from fleet_world import Fleet
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from tidegate.cli.fleet_shown import plan_table, status_table
from tidegate.verify.fleet_metrics import FleetMetrics
from tidegate.verify.fleet_scale import Crew
from tidegate.verify.fleet_status import status_of


def told(metrics: FleetMetrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_metrics_are_the_state_under_the_names_that_alerts_go_by() -> None:
    fleet = Fleet()
    fleet.settle(fleet.names[:1])
    fleet.book.set_aside(fleet.names[1], "the record is not there")
    metrics = FleetMetrics()
    metrics.seen(status_of(fleet.book, Crew(least=2, most=2)))
    shards, tokens = len(fleet.names), fleet.plan.tickets[0].tokens
    assert told(metrics) == {
        "tidegate_fleet_shards planned": shards,
        "tidegate_fleet_shards settled": 1,
        "tidegate_fleet_shards aside": 1,
        "tidegate_fleet_backlog_tokens": fleet.plan.tokens - tokens,
        "tidegate_fleet_poisoned_answers": 0,
        "tidegate_fleet_quarantined_verdicts": 0,
        "tidegate_fleet_tokens_per_worker_second": 2 * tokens,
        "tidegate_fleet_wanted_workers": 2,
        "tidegate_fleet_drain_seconds": (fleet.plan.tokens - tokens) / (4 * tokens),
        "tidegate_fleet_store_up": 1,
    }


def test_what_nobody_knows_yet_is_no_number() -> None:
    metrics = FleetMetrics()
    metrics.seen(status_of(Fleet().book, Crew()))
    said = told(metrics)
    assert math.isnan(said["tidegate_fleet_tokens_per_worker_second"])
    assert math.isnan(said["tidegate_fleet_drain_seconds"])


def test_a_store_that_cannot_be_read_is_down_and_the_rest_stays() -> None:
    fleet, metrics = Fleet(), FleetMetrics()
    metrics.seen(status_of(fleet.book, Crew()))
    metrics.unseen()
    said = told(metrics)
    assert said["tidegate_fleet_store_up"] == 0
    assert said["tidegate_fleet_shards planned"] == len(fleet.names)


def test_a_store_without_a_plan_is_up_and_holds_nothing() -> None:
    metrics = FleetMetrics()
    metrics.unplanned()
    said = told(metrics)
    assert said["tidegate_fleet_store_up"] == 1
    assert said["tidegate_fleet_shards planned"] == 0


def test_people_read_how_far_it_is_and_what_was_set_aside() -> None:
    fleet = Fleet()
    fleet.settle(fleet.names[:1])
    fleet.book.set_aside(fleet.names[1], "the record is not there")
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(plan_table(fleet.plan))
    console.print(status_table(status_of(fleet.book, Crew())))
    text = console.export_text()
    assert f"1 of {len(fleet.names)} have a verdict" in text
    assert f"{fleet.names[1][:12]}: the record is not there" in text
