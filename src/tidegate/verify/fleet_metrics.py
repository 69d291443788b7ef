"""A fleet's state as Prometheus metrics, for alerts and for whoever scales workers."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from tidegate.verify.fleet_status import Status


class FleetMetrics:
    """`tidegate_fleet_*`, all gauges: counts go down again when a record is planned anew."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._shards = self._gauge("shards", "Shards planned, settled and set aside", "state")
        self._backlog = self._gauge("backlog_tokens", "Tokens of shards without a verdict")
        self._poisoned = self._gauge("poisoned_answers", "Answers no worker could re-execute")
        self._quarantined = self._gauge("quarantined_verdicts", "Verdicts that did not open")
        self._rate = self._gauge("tokens_per_worker_second", "What one worker re-executes")
        self._wanted = self._gauge("wanted_workers", "Workers that the backlog asks for")
        self._drain = self._gauge("drain_seconds", "Until the backlog is gone, with that many")
        self._up = self._gauge("store_up", "1 if the store could be read at the last look")

    def seen(self, status: Status) -> None:
        """The last look's result. What is not known yet is NaN, which no alert is above."""
        for state, count in (
            ("planned", status.shards),
            ("settled", status.settled),
            ("aside", len(status.aside)),
        ):
            self._shards.labels(state).set(count)
        self._backlog.set(status.backlog_tokens)
        self._poisoned.set(len(status.poisoned))
        self._quarantined.set(status.quarantined)
        self._rate.set(_or_nan(status.tokens_per_worker_second))
        self._wanted.set(status.wanted_workers)
        self._drain.set(_or_nan(status.drain_seconds))
        self._up.set(1)

    def unplanned(self) -> None:
        """The store could be read, and nothing is planned there yet."""
        for state in ("planned", "settled", "aside"):
            self._shards.labels(state).set(0)
        self._up.set(1)

    def unseen(self) -> None:
        """The store could not be read; the other figures stay as they were."""
        self._up.set(0)

    def exposition(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, told: str, *labels: str) -> Gauge:
        return Gauge(f"tidegate_fleet_{name}", told, labels, registry=self.registry)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
