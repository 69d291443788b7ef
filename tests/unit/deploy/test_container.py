"""The image's recipe names files that are there, and ends as nobody in particular."""

from __future__ import annotations

import re

import chart
import yaml

RECIPE = (chart.ROOT / "deploy" / "container" / "Containerfile").read_text()
LAST = RECIPE.rpartition("\nFROM ")[2]


def test_what_it_copies_is_there() -> None:
    named = [
        word
        for line in re.findall(r"^COPY (?!--from)(.+)$", RECIPE, re.M)
        for word in line.split()[:-1]
    ]
    assert "src" in named
    assert [name for name in named if not (chart.ROOT / name).exists()] == []


def test_the_user_is_the_charts_and_a_number() -> None:
    [user] = re.findall(r"^USER (\d+):\d+$", LAST, re.M)
    helpers = (chart.CHART / "templates" / "_helpers.tpl").read_text()
    assert f"runAsUser: {user}" in helpers
    assert user != "0"


def test_nothing_is_fetched_but_by_package_managers() -> None:
    assert re.search(r"^ADD |curl |wget |https?://", RECIPE, re.M) is None


def test_torch_is_the_makefiles() -> None:
    makefile = (chart.ROOT / "Makefile").read_text()
    [pinned] = re.findall(r"^TORCH := (\S+)$", makefile, re.M)
    assert f"ARG TORCH={pinned}" in RECIPE


def test_the_chart_starts_what_the_image_starts() -> None:
    assert 'ENTRYPOINT ["tidegate"]' in LAST
    told = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
    project = (chart.ROOT / "pyproject.toml").read_text()
    assert f'version = "{told["appVersion"]}"' in project
