"""Units run commands that exist, with as little as they need."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import chart
import pytest
from command_line import unknown

FOLDER = chart.ROOT / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
EXPOSURE = {"gate": 5.1, "gate-grid": 5.1, "gate-watch": 4.2}
"""At most, on systemd's scale to 10; the gate changes the kernel's rules and needs more."""
ELSE = 1.5

analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is not installed (Debian: systemd): units are not weighed here",
)


def _name(unit: Path) -> str:
    return unit.stem.removeprefix("tidegate-")


def _command(unit: Path) -> list[str]:
    [line] = re.findall(r"^ExecStart=/usr/bin/env tidegate (.*)$", unit.read_text(), re.M)
    return [str(word) for word in line.split()]


@pytest.mark.parametrize("unit", UNITS, ids=_name)
def test_a_unit_runs_a_command_that_tidegate_has(unit: Path) -> None:
    assert unknown(_command(unit)) == set()


@analyze
@pytest.mark.parametrize("unit", UNITS, ids=_name)
def test_systemd_understands_every_line(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if unit.name in line] == []


@analyze
@pytest.mark.parametrize("unit", UNITS, ids=_name)
def test_a_unit_is_exposed_no_more_than_it_must_be(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) <= EXPOSURE.get(_name(unit), ELSE)


@pytest.mark.parametrize("unit", UNITS, ids=_name)
def test_no_unit_but_the_gates_runs_as_root(unit: Path) -> None:
    user = re.findall(r"^User=(\S+)$", unit.read_text(), re.M)
    if _name(unit) in EXPOSURE:
        assert user == []
    else:
        made = re.findall(r"^u (\S+) ", (FOLDER / "tidegate.sysusers").read_text(), re.M)
        assert len(user) == 1
        assert set(user) <= set(made)


def test_the_two_halves_are_two_users_and_share_only_the_links_secret() -> None:
    inner, outer = (
        (FOLDER / f"tidegate-{half}.service").read_text() for half in ("inner", "outer")
    )
    users = [re.findall(r"^User=(\S+)$", text, re.M) for text in (inner, outer)]
    assert users[0] != users[1]
    credentials = [set(re.findall(r"^LoadCredential=(\S+?):", t, re.M)) for t in (inner, outer)]
    assert credentials[0] & credentials[1] == credentials[0] == {"link.secret"}
