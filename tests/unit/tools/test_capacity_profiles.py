"""A new measurement replaces what that bench measured, and nothing that anybody chose."""

from __future__ import annotations

import json

import capacity_profiles
import pytest

from tidegate.plan.capacity_profile import VALUES, read
from tidegate.plan.scenario import ScenarioError

TEXT = (capacity_profiles.FOLDER / "frontier.toml").read_text(encoding="utf-8")


def bench(**figures: float) -> bytes:
    units = {path.partition(".")[2]: kind.unit for path, kind in VALUES.items()}
    told = {
        name: {"value": value, "unit": units.get(name, "bits/token"), "n": 1, "how": ""}
        for name, value in figures.items()
    }
    return json.dumps({"name": "capacity", "figures": told}).encode()


def test_only_what_the_bench_measured_changes() -> None:
    text = capacity_profiles.renewed(TEXT, bench(encode_49k_us=123.456, link_bits=9.0))
    before, after = read(TEXT, "before"), read(text, "after")
    assert after.at("stage.encode_49k_us") == 123.5
    changed = {n for n in VALUES if before.at(n) != after.at(n)}
    # Bits a token are another bench's word in this profile, with its real weak model.
    assert changed == {"stage.encode_49k_us"}
    assert {n: g.source for n, g in before.values.items()} == {
        n: g.source for n, g in after.values.items()
    }


def test_a_measurement_that_cannot_be_is_not_written() -> None:
    with pytest.raises(ScenarioError, match="pick_49k_us"):
        capacity_profiles.renewed(TEXT, bench(pick_49k_us=0.0))
