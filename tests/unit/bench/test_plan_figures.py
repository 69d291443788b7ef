"""What the planner's bench reports."""

from __future__ import annotations

from plan_scenarios import packaged

from tidegate.bench import plan
from tidegate.bench.figures import Result
from tidegate.plan import published


def test_every_published_figure_is_reported_and_the_worst_is_held() -> None:
    shipped = packaged()
    figures = plan.published_figures(shipped)
    worst = figures["published_figures_worst_error"]
    assert worst.holds
    assert worst.value == max(figure.error for figure in published.figures(shipped))
    assert {f"published.{figure.name}" for figure in published.figures(shipped)} <= set(figures)


def test_a_figure_that_is_missed_does_not_hold() -> None:
    shipped = packaged()
    shipped["greenblatt-large"] = published.scaled(shipped["greenblatt-large"], 1.05)
    assert not Result("plan", plan.published_figures(shipped)).holds()


def test_the_simulation_agrees_with_the_closed_forms() -> None:
    assert plan.agreement(packaged())["simulation_mean_error"].holds


def test_lifetimes_are_timed_for_both_kinds_of_cap() -> None:
    told: list[str] = []
    figures = plan.lifetimes(packaged(), 1_000, lambda name, done, total: told.append(name))
    timed = [figures[f"lifetimes_1e6_seconds.{name}"].value for name in plan.TIMED]
    assert figures["lifetimes_1e6_seconds"].value == max(timed)
    assert set(told) == set(plan.TIMED)
    kinds = {"link.cap" in packaged()[name].values for name in plan.TIMED}
    assert kinds == {True, False}
