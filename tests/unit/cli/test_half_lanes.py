"""Lanes in settings: what both halves make of them, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from link_world import MemoryPurse, TableModel, TableTokenizer

from tidegate.cli.ground import secret_bytes
from tidegate.cli.half_inner import lanes_of, views
from tidegate.cli.half_outer import link_engine
from tidegate.cli.toml import to_toml
from tidegate.config import Caps, Lane, Link, Settings, load
from tidegate.errors import ConfigError
from tidegate.models.shared import SharedView
from tidegate.sampling.seed import SeedService
from tidegate.serve.telemetry import Metrics


def settings(folder: Path, *names: str) -> Settings:
    return Settings(
        link=Link(secret_file=folder / "link.secret"),
        lanes={
            name: Lane(address=f"10.0.0.1:{7000 + number}", secret_file=folder / name)
            for number, name in enumerate(names)
        },
    )


def test_lanes_survive_the_file_that_processes_are_started_with(tmp_path: Path):
    asked = settings(tmp_path, "east", "west-2")
    budget = Caps(day=7, lifetime=9)
    lanes = asked.lanes | {"west-2": asked.lanes["west-2"].model_copy(update={"budget": budget})}
    asked = asked.model_copy(update={"lanes": lanes})
    path = tmp_path / "settings.toml"
    path.write_text(to_toml(asked))
    assert load(path) == asked


@pytest.mark.parametrize("name", ["", "a b", "a.b", "→", "-a", "x" * 65])
def test_names_that_metrics_ledgers_or_files_could_not_carry_are_refused(name: str, tmp_path: Path):
    path = tmp_path / "settings.toml"
    path.write_text(f'[lanes."{name}"]\nsecret_file = "x"\n')
    with pytest.raises(ConfigError, match="lanes"):
        load(path)


def test_without_lanes_there_is_one_over_the_link(tmp_path: Path):
    (lane,) = lanes_of(settings(tmp_path)).items()
    assert lane == ("", Lane(address=Link().address, secret_file=tmp_path / "link.secret"))


def test_two_lanes_with_one_secret_are_refused(tmp_path: Path):
    asked = settings(tmp_path, "east", "west")
    secret_bytes(tmp_path / "east")
    (tmp_path / "west").write_bytes((tmp_path / "east").read_bytes())
    with pytest.raises(ConfigError, match="same secret"):
        lanes_of(asked)


def test_an_outer_half_needs_to_know_where_a_lane_leads(tmp_path: Path):
    lane = Lane(secret_file=tmp_path / "east")
    asked = settings(tmp_path).model_copy(update={"lanes": {"east": lane}})
    seeds, metrics = SeedService(bytes(32)), Metrics()
    with pytest.raises(ConfigError, match="has no address"):
        link_engine(
            asked, TableModel(), TableTokenizer(), seeds, MemoryPurse(), metrics, name="east"
        )


def test_a_single_lane_has_the_model_to_itself():
    model = TableModel()
    assert list(views(model, 1, gather=True)) == [model]
    shared = list(views(model, 3, gather=True))
    assert len({id(view) for view in shared}) == 3
    assert all(isinstance(view, SharedView) for view in shared)
