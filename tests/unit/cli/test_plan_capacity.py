"""`tidegate plan capacity` as a planner uses it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tidegate.cli.main import app
from tidegate.cli.plan_capacity import names, short
from tidegate.errors import ConfigError


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["plan", "capacity", *(str(word) for word in words)])


def test_without_a_word_it_tells_three_volumes() -> None:
    done = run()
    assert done.exit_code == 0
    assert re.search(r"1e09\s+1e12\s+1e14", done.stdout)
    assert "assumed" in done.stdout


def test_values_and_changes_are_shown_with_their_sources() -> None:
    done = run("--values", "--set", "workload.audit=0.5", "--tokens", "1e10", "--json")
    told = json.loads(done.stdout)
    assert told["profile"]["values"]["workload.audit"] == {
        "value": 0.5,
        "unit": "share",
        "source": "assumed: given on the command line",
    }
    assert [row["tokens_a_day"] for row in told["needs"]] == [1e10]


def test_a_template_is_a_profile_that_can_be_changed(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(run("--template").stdout.replace("value = 0.05", "value = 0.1"))
    told = [json.loads(run(name, "--json").stdout) for name in ("frontier", mine)]
    cores = [answer["needs"][0]["figures"]["verify_cores"] for answer in told]
    assert cores[1] == pytest.approx(2 * cores[0])


def test_the_page_is_one_file_that_asks_nobody(tmp_path: Path) -> None:
    page = tmp_path / "deep" / "capacity.html"
    assert run("--html", page).exit_code == 0
    text = page.read_text()
    assert not re.search(r"""(?:src|href)=|https?://|@import""", text)
    assert "Not in it" in text
    assert text.count("<tr>") > 50


def test_a_title_cannot_end_the_page(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        run("--template").stdout.replace('title = "', 'title = "<script>alert(1)</script>', 1)
    )
    run(mine, "--html", tmp_path / "page.html")
    assert "<script" not in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "frontier"),
        (["--tokens", "0"], "--tokens"),
        (["--tokens", "inf"], "--tokens"),
        (["--set", "workload.peak=-1"], "workload.peak"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], told: str) -> None:
    done = run(*words)
    assert isinstance(done.exception, ConfigError)
    assert told in done.exception.message


@pytest.mark.parametrize("name", names())
def test_every_packaged_profile_comes_out(name: str) -> None:
    assert run(name, "--json").exit_code == 0


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1.68e13, "bytes", "16.8 TB"),
        (12, "bytes", "12 B"),
        (3.1e7, "bit/s", "31 Mbit/s"),
        (0.0227, "share", "2.27%"),
        (9_070_123, "cores", "9,070,000"),
        (0.398, "cores", "0.398"),
    ],
)
def test_numbers_are_short_and_carry_their_unit(value: float, unit: str, shown: str) -> None:
    assert short(value, unit) == shown
