"""The published arithmetic, figure by figure, from the scenarios that ship with the package."""

from __future__ import annotations

import pytest
from plan_scenarios import packaged

from tidegate.plan import published, reckon
from tidegate.plan.published import Figure

WITHIN = 0.01


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    return {figure.name: figure for figure in published.figures(packaged())}


def _says(figure: Figure, value: float) -> None:
    assert figure.published == value
    assert figure.ours == pytest.approx(value, rel=WITHIN)


def test_8e14_tokens_at_a_tenth_of_a_bit_are_1e13_bytes(figures: dict[str, Figure]) -> None:
    _says(figures["total_outflow"], 1e13)


def test_weights_of_1e14_bytes_do_not_leak_whole_unpacked(figures: dict[str, Figure]) -> None:
    _says(figures["copies_unpacked"], 0.1)


def test_packed_16_times_1_6_copies_leak(figures: dict[str, Figure]) -> None:
    _says(figures["copies_packed_16"], 1.6)


def test_packed_100_times_10_copies_leak(figures: dict[str, Figure]) -> None:
    _says(figures["copies_packed_100"], 10.0)


def test_two_trillion_tokens_in_six_months(figures: dict[str, Figure]) -> None:
    _says(figures["tokens_today"], 2e12)


def test_the_larger_model_serves_2e14_tokens(figures: dict[str, Figure]) -> None:
    _says(figures["tokens_larger"], 2e14)


def test_chinchilla_has_a_twentieth_as_many_parameters_as_tokens(
    figures: dict[str, Figure],
) -> None:
    _says(figures["chinchilla"], 0.05)


def test_a_terabyte_a_day_takes_a_terabyte_in_a_day(figures: dict[str, Figure]) -> None:
    _says(figures["unverified"], 1.0)
    _says(figures["unverified_rate"], 1000.0)


def test_verified_5_gb_a_day_pass_and_it_takes_200_times_as_long(
    figures: dict[str, Figure],
) -> None:
    _says(figures["verified_rate"], 5.0)
    _says(figures["verified_slowdown"], 200.0)


def test_compressed_a_day_becomes_70(figures: dict[str, Figure]) -> None:
    _says(figures["compressed_text"], 70.0)


def test_810_gb_at_100_mbit_take_18_hours(figures: dict[str, Figure]) -> None:
    _says(figures["line"], 18.0)


def test_460_samples_find_one_in_a_hundred_with_99_per_cent(figures: dict[str, Figure]) -> None:
    _says(figures["audit_sample"], 460.0)
    assert figures["audit_sample"].ours == 459


def test_every_published_figure_is_within_one_per_cent(figures: dict[str, Figure]) -> None:
    assert len(figures) == 14
    assert max(figure.error for figure in figures.values()) <= WITHIN


def test_a_figure_that_was_missed_would_show() -> None:
    shipped = packaged()
    shipped["line-100-mbit"] = published.scaled(shipped["line-100-mbit"], 1.02)
    worst = max(published.figures(shipped), key=lambda figure: figure.error)
    assert worst.name == "line"
    assert worst.error > WITHIN


def test_the_verified_scenario_is_best_attacked_quietly() -> None:
    # The published rate is what passes re-execution, so no other strategy may be quicker there.
    assert reckon.point(packaged()["rinberg-verified"]).strategy == "quiet"


def test_each_shipped_scenario_cites_or_measures_what_is_not_assumed() -> None:
    for scenario in packaged().values():
        for quantity in scenario.values.values():
            if quantity.source.startswith("cited: "):
                assert "https://" in quantity.source
            if quantity.source.startswith("measured: "):
                assert "tidegate " in quantity.source
