from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import scan_bytes
from safetensors.numpy import save_file
from typer.testing import CliRunner

from tidegate.cli.main import app
from tidegate.errors import ConfigError

RUNNER = CliRunner()


def _run(*args: object, code: int = 0, given: bytes | None = None) -> str:
    done = RUNNER.invoke(app, ["scan", *map(str, args)], input=given)
    assert done.exit_code == code, done.output
    return done.output


def _refused(*args: object) -> str:
    done = RUNNER.invoke(app, ["scan", *map(str, args)])
    assert isinstance(done.exception, ConfigError), done.output
    return done.exception.message


def _tcp(payload: bytes, sequence: int) -> bytes:
    ip = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 40 + len(payload), 0, 0, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2"
    )
    tcp = struct.pack(">HHIIBBHHH", 4000, 443, sequence, 0, 0x50, 0x10, 0, 0, 0)
    return bytes(12) + b"\x08\0" + ip + tcp + payload


def _capture(path: Path, stream: bytes) -> Path:
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)
    for at in range(0, len(stream), 1400):
        frame = _tcp(stream[at : at + 1400], at)
        out += struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame
    path.write_bytes(out)
    return path


@pytest.fixture
def leak(tmp_path: Path) -> Path:
    path = tmp_path / "leak.bin"
    path.write_bytes(scan_bytes.prose(40_000) + scan_bytes.bf16())
    return path


def test_harmless_files_exit_0(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(scan_bytes.prose(100_000))
    assert "nothing looks like weights" in _run(path)


def test_a_leak_exits_1_and_says_where(leak: Path) -> None:
    told = _run(leak, code=1)
    assert "weights" in told
    assert "bfloat16" in " ".join(told.split())


def test_a_leak_is_found_in_a_pipe(leak: Path) -> None:
    found = json.loads(_run("-", "--json", code=1, given=leak.read_bytes()))
    assert found["streams"][0]["sightings"][0]["kind"] == "weights"


def test_a_leak_is_found_in_a_capture_and_its_flow_named(tmp_path: Path, leak: Path) -> None:
    capture = _capture(tmp_path / "c.pcap", leak.read_bytes())
    (stream,) = json.loads(_run(capture, "--json", code=1))["streams"]
    assert stream["name"] == "tcp 10.0.0.1 port 4000 → 10.0.0.2 port 443"
    assert stream["size"] == leak.stat().st_size


def test_a_torn_capture_is_shown_and_then_refused(tmp_path: Path, leak: Path) -> None:
    capture = _capture(tmp_path / "c.pcap", leak.read_bytes())
    capture.write_bytes(capture.read_bytes()[:-7])
    assert "ends inside frame" in _refused(capture)


def test_reports_for_machines_and_people_are_written(tmp_path: Path, leak: Path) -> None:
    sarif, page = tmp_path / "r.sarif", tmp_path / "r.html"
    _run(leak, "--sarif", sarif, "--html", page, code=1)
    (run,) = json.loads(sarif.read_bytes())["runs"]
    assert run["results"][0]["ruleId"] == "weights"
    assert "http" not in page.read_text().replace("http-equiv", "")


def test_our_own_weights_are_named(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    save_file({"blocks.w": scan_bytes.weights(512)}, model / "shard-1.safetensors")
    known, key = tmp_path / "known", tmp_path / "key"
    _run("fingerprint", model, known, "--key", key)
    piece = tmp_path / "piece"
    piece.write_bytes(scan_bytes.bf16(512)[10_001:90_000])
    told = json.loads(_run(piece, "--fingerprints", known, "--key", key, "--json", code=1))
    place = told["streams"][0]["sightings"][0]["weight"]
    assert (place["shard"], place["tensor"]) == ("shard-1.safetensors", "blocks.w")


def test_fingerprints_without_their_key_are_refused(tmp_path: Path, leak: Path) -> None:
    known = tmp_path / "known"
    known.write_bytes(b"not fingerprints")
    assert "--key" in _refused(leak, "--fingerprints", known)
    key = tmp_path / "key"
    key.write_bytes(bytes(32))
    assert "no file of fingerprints" in _refused(leak, "--fingerprints", known, "--key", key)


def test_a_calibration_is_written_and_used(tmp_path: Path) -> None:
    harmless, out = tmp_path / "h.txt", tmp_path / "c.json"
    harmless.write_bytes(scan_bytes.prose(3 << 20))
    _run("calibrate", harmless, "--out", out, "--false-positives", "0.01")
    assert "nothing looks like weights" in _run(harmless, "--calibration", out)


def test_calibrating_on_what_looks_like_weights_is_refused(tmp_path: Path) -> None:
    harmless = tmp_path / "archive.bin"
    harmless.write_bytes(scan_bytes.random(3 << 20))
    told = _refused("calibrate", harmless, "--out", tmp_path / "c", "--false-positives", "0.01")
    assert "archive.bin" in told


def test_too_little_to_calibrate_on_is_refused(tmp_path: Path) -> None:
    harmless = tmp_path / "h.txt"
    harmless.write_bytes(scan_bytes.prose(10_000))
    assert "give at least" in _refused("calibrate", harmless, "--out", tmp_path / "c")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "is no file" in _refused(tmp_path / "nothing")
