"""Capacity is the arithmetic that the page states, on values that each say where they come from."""

from __future__ import annotations

import json
import math
from importlib.resources import files

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.plan.capacity import FIGURES, VOLUMES, capacity, need
from tidegate.plan.capacity_profile import VALUES, Given, Profile, changed, measured, read
from tidegate.plan.scenario import ScenarioError

PACKAGED = sorted(entry.name for entry in (files("tidegate.data") / "capacity").iterdir())


def packaged(name: str = "frontier.toml") -> Profile:
    return read((files("tidegate.data") / "capacity" / name).read_text(encoding="utf-8"), name)


def one(**values: float) -> Profile:
    """Every value 1, but for those named with `__` for the dot."""
    said = {name: Given(1.0, kind.unit, "assumed: a test") for name, kind in VALUES.items()}
    named = {name.replace("__", "."): value for name, value in values.items()}
    return Profile("t", "", said).having(
        {name: Given(value, VALUES[name].unit, "assumed: a test") for name, value in named.items()}
    )


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_value_names_its_source_and_measurements_their_command(name: str) -> None:
    profile = packaged(name)
    assert profile.values.keys() == VALUES.keys()
    for given_ in profile.values.values():
        kind, _, said = given_.source.partition(": ")
        assert kind in {"measured", "cited", "assumed"}
        assert kind != "measured" or said.startswith("tidegate bench ")


def test_a_million_tokens_on_paper() -> None:
    profile = one(
        workload__answer_tokens=100,
        workload__prompt_tokens=300,
        workload__peak=2,
        workload__utilisation=0.5,
        workload__token_seconds=0.05,
        workload__audit=0.1,
        workload__vocabulary=49_152,
        engine__decode_tokens_per_s=10,
        engine__prefill_tokens_per_s=100,
        engine__verify_over_generate=0.2,
        engine__weak_over_strong=0.01,
        stage__pick_49k_us=500,
        stage__encode_49k_us=200,
        stage__decode_49k_us=300,
        stage__ngram_us=100,
        stage__weak_us=0,
        stage__inner_link_us=50,
        stage__outer_token_us=1000,
        stage__outer_answer_us=10_000,
        bytes__link_bits=4,
        ledger__lease_bits=1000,
        ledger__lease_rows=2,
        ledger__writes_per_s=10,
    )
    told = need(profile, 8_640_000).figures  # 100 tokens a second, 200 at the peak
    assert told["peak_tokens_per_s"] == pytest.approx(200)
    assert told["peak_answers_per_s"] == pytest.approx(2)
    assert told["streams"] == pytest.approx(10)
    # 1/10 s to write a token, 3 of a prompt for each at 1/100 s: 0.13 s.
    assert told["serve_accelerators"] == pytest.approx(200 * 0.13 / 0.5)
    assert told["weak_accelerators"] == pytest.approx(2 * 0.01 * 52)
    assert told["verify_accelerators"] == pytest.approx(0.1 * 0.2 * 100 * 0.1 / 0.5)
    assert told["inner_cores"] == pytest.approx(200 * 750e-6 / 0.5)
    # All that was measured, less the n-gram, which this profile does not run on processors.
    assert told["outer_cores"] == pytest.approx((200 * 900e-6 + 2 * 10_000e-6) / 0.5)
    assert told["verify_cores"] == pytest.approx(0.1 * 100 * 1e-6 / 0.5)
    assert told["link_bytes"] == pytest.approx(8_640_000 / 2)
    assert told["link_bits_per_s"] == pytest.approx(800)
    assert told["lease_writes_per_s"] == pytest.approx(0.8)
    assert told["databases"] == pytest.approx(0.08)


@given(st.floats(1e3, 1e16), st.floats(1.1, 1e3))
def test_everything_grows_with_tokens_but_what_is_a_share(volume: float, factor: float) -> None:
    profile = packaged()
    less, more = need(profile, volume).figures, need(profile, volume * factor).figures
    for name, figure in FIGURES.items():
        each = name in {"cores_per_accelerator", "added_accelerators"}
        wanted = less[name] * (1 if each else factor)
        assert math.isclose(more[name], wanted, rel_tol=1e-9), figure.means


def test_costs_follow_the_vocabulary_along_the_measured_line() -> None:
    at = {
        size: need(one(workload__vocabulary=size, stage__pick_152k_us=3), 86_400).figures
        for size in (49_152, 151_936, 100_544)
    }
    ends = at[49_152]["inner_cores"], at[151_936]["inner_cores"]
    assert ends[0] < ends[1]
    assert at[100_544]["inner_cores"] == pytest.approx(sum(ends) / 2)


def test_the_answer_is_one_object_with_every_value_and_source() -> None:
    told = json.loads(capacity(packaged()).json())
    assert [row["tokens_a_day"] for row in told["needs"]] == list(VOLUMES)
    assert told["needs"][0]["figures"].keys() == FIGURES.keys()
    assert told["profile"]["values"]["workload.peak"]["source"].startswith("assumed: ")


TEXT = (files("tidegate.data") / "capacity" / "frontier.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("peak = {", "paek = {", "workload.peak"),
        ("audit = { value = 0.05", "audit = { value = 1.5", "workload.audit"),
        ("utilisation = { value = 0.6", "utilisation = { value = 0", "workload.utilisation"),
        ('unit = "ratio"', 'unit = "share"', "workload.peak"),
        ('source = "assumed: a working', 'source = "guessed: a working', "workload.peak"),
        ("[workload]", "[work", "TOML"),
        ("peak = { value = 2", 'peak = { value = "2"', "workload.peak"),
    ],
)
def test_a_profile_that_cannot_be_is_refused_by_name(old: str, new: str, named: str) -> None:
    assert old in TEXT
    with pytest.raises(ScenarioError, match=named):
        read(TEXT.replace(old, new, 1), "mine.toml")


def test_what_is_missing_is_named() -> None:
    lines = [line for line in TEXT.splitlines() if not line.startswith("audit")]
    with pytest.raises(ScenarioError, match=r"workload\.audit is missing"):
        read("\n".join(lines), "mine.toml")


def test_a_bench_replaces_what_it_measured_and_nothing_else() -> None:
    raw = msgspec.json.encode(
        {
            "name": "capacity",
            "figures": {
                "encode_49k_us": {"value": 99.0, "unit": "core·µs/token", "n": 1, "how": ""},
                "link_bits": {"value": 5.0, "unit": "bits/token", "n": 1, "how": ""},
                "other": {"value": 1.0, "unit": "x", "n": 1, "how": ""},
            },
        }
    )
    changes = measured(raw, "out/mine.json")
    assert changes.keys() == {"stage.encode_49k_us", "bytes.link_bits"}
    profile = packaged().having(changes)
    assert profile.at("stage.encode_49k_us") == 99
    assert "out/mine.json" in profile.values["stage.encode_49k_us"].source
    with pytest.raises(ScenarioError, match="bench"):
        measured(b"[]", "x")


@pytest.mark.parametrize("text", ["workload.peek=2", "workload.peak", "workload.peak=high"])
def test_an_assignment_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError, match="--set"):
        changed([text])


def test_an_assignment_cannot_be_what_a_file_could_not() -> None:
    with pytest.raises(ScenarioError, match=r"workload\.audit"):
        packaged().having(changed(["workload.audit=2"]))
