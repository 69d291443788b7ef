"""`tidegate gate flow`: other people's logs in, alerts out."""

from __future__ import annotations

import gzip
import json
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tidegate.cli.gate_flow import app
from tidegate.errors import ConfigError
from tidegate.gate.incident_bundle import check
from tidegate.transparency.note import Verifier

_MINUTES = 240
_INSIDE = ["--inside", "10.0.0.0/8"]


def _run(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _iso(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat()


def _written(folder: Path, name: str, *, added: float = 0.0, start: int = 0) -> tuple[Path, Path]:
    """An EVE log of an API's answers and the outer half's log of the same ones."""
    drawn, eve, bills = random.Random(name), [], []
    for minute in range(start, start + _MINUTES):
        for _ in range(drawn.randint(3, 12)):
            begun = 60.0 * minute + drawn.uniform(0, 58)
            tokens = drawn.randint(20, 400)
            events = drawn.randint(tokens // 2, tokens)
            sent = (400 + 4 * tokens + 260 * events) * (1 + added + 0.03 * drawn.gauss(0, 1))
            eve.append(_eve(begun, int(sent)))
            line = {"event": "request", "timestamp": _iso(begun + 1)}
            bills.append(line | {"completion_tokens": tokens, "events": events})
    logs = folder / f"{name}.json", folder / f"{name}.log"
    for path, rows in zip(logs, (eve, bills), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return logs


def _eve(begun: float, answered: int, client: str = "203.0.113.9") -> dict[str, object]:
    """A client outside asks; what leaves is the answer."""
    flow = {"bytes_toserver": 900, "bytes_toclient": answered}
    flow |= {"start": _iso(begun), "end": _iso(begun + 1)}
    row: dict[str, object] = {"event_type": "flow", "timestamp": _iso(begun), "proto": "TCP"}
    row |= {"src_ip": client, "src_port": 50_000, "dest_ip": "10.0.0.5", "dest_port": 443}
    return row | {"flow": flow}


def _learnt(folder: Path) -> Path:
    eve, bills = _written(folder, "known")
    profile = folder / "flow.json"
    learnt = _run("learn", eve, *_INSIDE, "--billed", bills, "--out", profile, "--port", 443)
    assert "found after about" in learnt.stdout
    return profile


def test_honest_logs_pass_and_what_is_added_to_them_alarms(tmp_path: Path) -> None:
    profile = _learnt(tmp_path)
    for name, added, status in (("honest", 0.0, 0), ("stolen", 0.1, 1)):
        eve, bills = _written(tmp_path, name, added=added, start=_MINUTES)
        said = ["--profile", profile, "--billed", bills, "--port", 443, "--allow", "203.0.113.9"]
        result = _run("check", eve, *_INSIDE, *said, "--json")
        assert result.exit_code == status, result.output
        kinds = {json.loads(line)["kind"] for line in result.stdout.splitlines()}
        assert kinds == ({"flow-shift"} if status else set())


def test_a_shift_is_an_incident_of_the_host_that_serves(tmp_path: Path) -> None:
    profile = _learnt(tmp_path)
    eve, bills = _written(tmp_path, "stolen", added=0.1, start=_MINUTES)
    said = ["--profile", profile, "--billed", bills, "--port", 443, "--allow", "203.0.113.9"]
    seen = tmp_path / "seen"
    result = _run("check", eve, *_INSIDE, *said, "--folder", seen, "--json")
    assert result.exit_code == 1
    assert [json.loads(line)["kind"] for line in result.stdout.splitlines()]
    bundle = min(path for path in seen.iterdir() if path.is_dir())
    check(bundle, Verifier.parse((seen / "evidence.pub").read_text().strip()))
    told = json.loads((bundle / "incident.json").read_bytes())
    assert told["alert"]["ends"]["source"] == "10.0.0.5"
    assert told["seconds_to_alarm"] > 0
    assert "without the right" in told["failure"]


def test_beacons_and_drips_are_written_as_eve_and_ocsf(tmp_path: Path) -> None:
    rows = []
    for n in range(200):
        flow = {"bytes_toserver": 200_000, "bytes_toclient": 100, "start": _iso(600.0 * n)}
        row = {"event_type": "flow", "proto": "TCP", "src_ip": "10.0.0.5", "src_port": 40_000 + n}
        rows.append(row | {"dest_ip": "198.51.100.7", "dest_port": 443, "flow": flow})
    log = tmp_path / "eve.json.gz"
    log.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    eve, ocsf = tmp_path / "alerts.json", tmp_path / "alerts.ocsf.json"
    result = _run(
        "check", log, *_INSIDE, "--eve", eve, "--ocsf", ocsf, "--payload", 10**9, "--json"
    )
    assert result.exit_code == 1
    alerts = [json.loads(line)["alert"]["signature"] for line in eve.read_text().splitlines()]
    assert sorted(alerts) == ["TIDEGATE regular calls", "TIDEGATE slow drip"]
    assert {event["class_uid"] for event in json.loads(ocsf.read_bytes())} == {2004}
    shown = _run("check", log, *_INSIDE, "--allow", "198.51.100.7")
    assert shown.exit_code == 0
    assert "40,000,000" in shown.stdout
    assert "no alarm" in shown.stdout


def test_lines_that_cannot_be_read_are_told_and_passed_over(tmp_path: Path) -> None:
    log = tmp_path / "eve.json"
    log.write_bytes(b"{\nnot a log\n" + json.dumps(_eve(5.0, 10)).encode() + b"\n")
    result = _run("check", log, *_INSIDE)
    assert result.exit_code == 0
    assert "2 lines could not be read" in result.stderr


def test_what_cannot_be_asked_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "eve.json.gz"
    log.write_bytes(gzip.compress(b"{}\n")[:-4])
    with pytest.raises(ConfigError, match="not whole"):
        _run("check", log, *_INSIDE)
    with pytest.raises(ConfigError, match="--inside"):
        _run("check", log, "--inside", "10.0.0.0/99")
    with pytest.raises(ConfigError, match="together"):
        _run("check", log, *_INSIDE, "--profile", log)
    with pytest.raises(ConfigError, match="--folder"):
        _run("check", log, *_INSIDE, "--state", tmp_path)
    with pytest.raises(OSError, match="No such file"):
        _run("check", tmp_path / "nowhere.json", *_INSIDE)
