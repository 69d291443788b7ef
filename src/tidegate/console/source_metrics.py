"""The outer half's metrics, as Prometheus would scrape them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tidegate.console.errors import SourceError
from tidegate.console.picture import Link, Use

_SECONDS: Final = 1.5
_MOST_BYTES: Final = 4 << 20

Samples = dict[str, list[tuple[dict[str, str], float]]]


def fetched(url: str, key: str | None) -> Callable[[], str]:
    """Asks `url`, with `key` as bearer where metrics are not open to all."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}

    def ask() -> str:
        try:
            answer = httpx2.get(url, headers=headers, timeout=_SECONDS)
        except httpx2.HTTPError as error:
            raise SourceError(f"the outer half does not answer ({type(error).__name__})") from error
        if answer.status_code != httpx2.codes.OK or len(answer.content) > _MOST_BYTES:
            raise SourceError(
                f"the outer half answers {answer.status_code}; set outer.open_metrics, or give the "
                "console a key"
            )
        return answer.text

    return ask


class MetricsSource:
    """The link, its users, and what was refused."""

    def __init__(self, ask: Callable[[], str], *, model: str, slots: int | None) -> None:
        self._ask, self._model, self._slots = ask, model, slots
        self._crossed: int | None = None

    def crossed(self) -> int | None:
        """Bits that crossed in all, as read last; None where that failed."""
        return self._crossed

    def read(self) -> Link:
        """Raises SourceError: the outer half does not answer, or not with metrics."""
        self._crossed = None
        samples = _samples(self._ask())
        tokens = _by(samples, "tidegate_tokens_total", "principal", kind="completion")
        bits = _by(samples, "tidegate_upload_bits_total", "principal")
        said, crossed = int(sum(tokens.values())), int(sum(bits.values()))
        self._crossed = crossed
        return Link(
            model=self._model,
            edges_up={labels["edge"]: value == 1 for labels, value in samples["tidegate_link_up"]},
            streams=int(sum(value for _, value in samples["tidegate_active_streams"])),
            slots=self._slots,
            tokens=said,
            bits=crossed,
            padding_bits=int(sum(_by(samples, "tidegate_padding_bits_total", "edge").values())),
            bits_a_token=crossed / said if said else None,
            uses=tuple(
                Use(
                    principal=who,
                    tokens=int(tokens.get(who, 0)),
                    bits=int(bits.get(who, 0)),
                    bits_a_token=bits.get(who, 0) / tokens[who] if tokens.get(who) else None,
                )
                for who in sorted(tokens | bits, key=lambda who: -bits.get(who, 0))
            ),
            refusals=_whole(_by(samples, "tidegate_refusals_total", "code")),
            incidents=_whole(_by(samples, "tidegate_incidents_total", "kind")),
        )


def _samples(text: str) -> Samples:
    found: Samples = defaultdict(list)
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name].append((dict(sample.labels), float(sample.value)))
    except (ValueError, KeyError, IndexError) as error:
        raise SourceError("what the outer half answers is no metrics") from error
    return found


def _by(samples: Samples, name: str, label: str, **only: str) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for labels, value in samples[name]:
        if all(labels.get(key) == wanted for key, wanted in only.items()):
            sums[labels.get(label, "")] += value
    return dict(sums)


def _whole(sums: dict[str, float]) -> dict[str, int]:
    return {name: int(value) for name, value in sums.items() if value}
