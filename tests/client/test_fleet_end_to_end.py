"""A record shipped to an S3 server and verified by pods, as plain processes, from there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from object_server import s3_server
from replay_world import Served, job, world
from typer.testing import CliRunner

from tidegate.cli.main import app
from tidegate.errors import ConfigError
from tidegate.verify.fleet_store_open import open_objects
from tidegate.verify.record_seal import SealTo

ANSWERS = 10
PATIENCE = 90


@dataclass
class Site:
    """A served record, a bucket, and the verifier's keys."""

    served: Served
    url: str

    @property
    def record(self) -> str:
        return f"{self.url}/record"

    @property
    def fleet(self) -> str:
        return f"{self.url}/fleet"

    @property
    def key(self) -> str:
        return str(self.served.folder / "fleet.key")

    @property
    def sealed(self) -> tuple[str, str]:
        return "--verifier-key", str(self.served.folder / "verifier.key")

    def run(self, *command: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ("fleet", *command))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout

    def plan(self, *more: str) -> dict[str, object]:
        status, said = self.run(
            *("plan", self.record, self.fleet, "--fleet-key", self.key, *self.sealed),
            *("--key", str(self.served.key), "--model", f"exact:{self.served.model}"),
            *("--shard-tokens", "40", "--json", *more),
        )
        assert status == 0
        return dict(json.loads(said))

    def report(self) -> tuple[int, dict[str, object]]:
        status, said = self.run(
            *("report", self.record, self.fleet, "--fleet-key", self.key, *self.sealed),
            *("--key", str(self.served.key), "--json"),
        )
        return status, json.loads(said)

    def pod(self, index: int, pods: int) -> subprocess.Popen[str]:
        """A pod as Kubernetes starts it."""
        command = (sys.executable, "-m", "tidegate", "fleet", "work", self.record, self.fleet)
        return subprocess.Popen(
            [*command, "--fleet-key", self.key, *self.sealed, "--json"],
            env={
                **os.environ,
                "JOB_COMPLETION_INDEX": str(index),
                "TIDEGATE_FLEET_PODS": str(pods),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with a sealed record, for every test to copy."""
    made = world(tmp_path_factory.mktemp("recorded") / "world")
    printed = CliRunner().invoke(app, ("verify", "key", str(made.folder / "verifier.key")))
    seal = SealTo(bytes.fromhex(printed.stdout.strip()))
    made.serve([job(f"r{n}", tokens=6, ignore_eos=True) for n in range(ANSWERS)], seal=seal)
    return made.folder


@pytest.fixture
def site(recorded: Path, tmp_path: Path, bucket: str) -> Site:
    shutil.copytree(recorded, tmp_path / "world")
    return Site(Served(tmp_path / "world"), f"{bucket}/{tmp_path.name}")


def test_pods_verify_a_shipped_record_though_one_is_killed_and_the_report_is_a_pass(
    site: Site,
) -> None:
    assert site.run("ship", str(site.served.log), site.record)[0] == 0
    planned = site.plan()
    assert planned["answers"] == ANSWERS
    first, other = (site.pod(index, 2) for index in range(2))
    store = open_objects(site.fleet)
    deadline = time.monotonic() + PATIENCE
    while not store.names("verdicts/") and first.poll() is None:
        assert time.monotonic() < deadline
    first.send_signal(signal.SIGKILL)
    first.communicate()
    # Kubernetes starts it again, under the same number.
    again = site.pod(0, 2)
    said = [json.loads(pod.communicate(timeout=PATIENCE)[0]) for pod in (again, other)]
    assert [again.returncode, other.returncode] == [0, 0]
    assert sum(one["settled"] for one in said) == planned["shards"]
    assert site.run("status", site.fleet, "--fleet-key", site.key)[0] == 0
    status, report = site.report()
    assert (status, report["replayed"]) == (0, ANSWERS)


def test_a_record_that_grew_costs_only_what_is_new_and_a_lie_in_it_fails_the_report(
    site: Site,
) -> None:
    site.run("ship", str(site.served.log), site.record)
    site.plan()
    run = ("run", site.record, site.fleet, "--fleet-key", site.key, *site.sealed, "--json")
    before = json.loads(site.run(*run)[1])
    assert before["fresh"] == before["planned"]
    site.served.serve(
        [job("lie", tokens=6, ignore_eos=True)],
        tamper=lambda _job, place, token: (token + 1) % 90 if place == 3 else token,
    )
    site.run("ship", str(site.served.log), site.record)
    assert site.plan()["answers"] == ANSWERS + 1
    grown = json.loads(site.run(*run)[1])
    assert grown["settled"] == grown["planned"]
    assert grown["fresh"] <= 2
    status, report = site.report()
    assert status == 1
    assert report["kinds"] == {"other_token": 1}
    assert report["selected_responses"] == ANSWERS + 1


def test_a_store_that_creates_one_name_twice_is_refused_before_anything_is_done(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(self: object, name: str, data: bytes) -> bool:
        del self, name, data
        return True

    monkeypatch.setattr("tidegate.verify.fleet_store_files.FileObjects.create", careless)
    folder = site.served.folder / "careless"
    done = CliRunner().invoke(app, ("fleet", "ship", str(site.served.log), str(folder)))
    assert "creates one name twice" in str(done.exception)
    assert list(folder.rglob("*-*")) == []


def test_a_sample_without_a_kept_key_is_refused(site: Site) -> None:
    site.run("ship", str(site.served.log), site.record)
    with pytest.raises(ConfigError, match="--selection-key"):
        site.plan("--sample", "1/2")
