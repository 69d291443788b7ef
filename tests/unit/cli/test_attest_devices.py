"""`tidegate attest` on quotes, devices and whole hosts: files in any order, and `--bind`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evidence_cases_host import ALL, GPUS, SWITCHES, host
from evidence_intel import MEASURED, NONCE, ROOT, Collateral, quote
from evidence_nvidia import DEVICES, RIMS, driver_rim, firmware_rim, saved
from evidence_nvidia import NONCE as DEVICE_NONCE
from typer.testing import CliRunner

from tidegate.cli.main import app
from tidegate.errors import ConfigError

RUNNER = CliRunner()
POLICY = f"""
[tdx]
mrtd = ["{MEASURED.hex()}"]
[nvidia]
rim_roots = ["{RIMS.pin.hex()}"]
[host]
gpus = 2
switches = 2
device_roots = ["{DEVICES.pin.hex()}"]
[host.cpu]
mrtd = ["{MEASURED.hex()}"]
[host.devices]
rim_roots = ["{RIMS.pin.hex()}"]
revocation = false
"""
FILES = {
    "policy.toml": POLICY.encode(),
    "quote.bin": quote(),
    "collateral.json": Collateral().written(),
    "root.der": ROOT.certificate,
    "device_root.der": DEVICES.certificate,
    "devices.json": saved(*(one.saved() for one in ALL)),
    "report.hex": GPUS[0].report().hex().encode(),
    "chain.pem": GPUS[0].chain(),
    "driver.xml": driver_rim(GPUS[0]),
    "firmware.xml": firmware_rim(GPUS[0]),
    "switch.xml": firmware_rim(SWITCHES[0]),
}
RIM_FILES = ("driver.xml", "firmware.xml", "switch.xml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def run(
    folder: Path, *names: str, nonce: bytes, root: str = "root.der", more: tuple[str, ...] = ()
) -> tuple[int, str]:
    """Exit code and output for those files under the policy and that root."""
    files = [str(folder / name) for name in names]
    given = ["--policy", str(folder / "policy.toml"), "--root", str(folder / root)]
    asked = ["--nonce", nonce.hex(), "--at", "2026-01-01", *more]
    found = RUNNER.invoke(app, ["attest", *files, *given, *asked], env={"COLUMNS": "200"})
    return found.exit_code, found.output


def test_a_quote_passes_beside_its_collateral_in_any_order(folder: Path) -> None:
    for names in (("quote.bin", "collateral.json"), ("collateral.json", "quote.bin")):
        assert run(folder, *names, nonce=NONCE)[0] == 0
    code, said = run(folder, "quote.bin", nonce=NONCE, more=("--json",))
    assert code == 2
    assert json.loads(said)["outcome"] == "cannot_verify"


def test_a_report_in_hex_passes_beside_its_chain_and_reference_values(folder: Path) -> None:
    asked = {"nonce": DEVICE_NONCE, "root": "device_root.der", "more": ("--no-revocation",)}
    names = ("chain.pem", "driver.xml", "report.hex", "firmware.xml")
    assert run(folder, *names, **asked)[0] == 0  # type: ignore[arg-type]
    assert run(folder, "chain.pem", "report.hex", **asked)[0] == 2  # type: ignore[arg-type]


def bound(folder: Path, *names: str, nonce: str) -> bytes:
    files = [str(folder / name) for name in names]
    found = RUNNER.invoke(app, ["attest", "--bind", *files, "--nonce", nonce])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0
    return bytes.fromhex(found.output.strip())


def test_a_host_that_binds_what_bind_says_passes(folder: Path) -> None:
    value = bound(folder, "devices.json", nonce=DEVICE_NONCE.hex())
    entries = [one.saved() for one in ALL]
    for data, code in (
        (host(quote(body={"report_data": value}), entries), 0),
        (host(quote(body={"report_data": DEVICE_NONCE}), entries), 1),
        (host(quote(body={"report_data": value}), entries[:3]), 1),
    ):
        (folder / "host.json").write_bytes(data)
        names = ("host.json", "collateral.json", *RIM_FILES)
        got = run(folder, *names, nonce=DEVICE_NONCE)
        assert got[0] == code, got[1]


@pytest.mark.parametrize("nonce", ["00" * 32, "00", DEVICE_NONCE.hex() + "00"])
def test_bind_refuses_a_nonce_that_devices_were_not_asked_with(folder: Path, nonce: str) -> None:
    with pytest.raises(ConfigError):
        bound(folder, "devices.json", nonce=nonce)
