"""GPUs and switches of one genuine host name each other, and nothing less than all of them does."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import pytest

from tidegate.attest.appraisal import Appraisal, Check, Setting
from tidegate.attest.host import HostPolicy, appraise_host, bound_value, linked
from tidegate.attest.nvidia import NvidiaPolicy
from tidegate.attest.nvidia_evidence import Evidence, parse_saved
from tidegate.attest.outcome import CannotVerify, Fail, Pass

NONCE = bytes.fromhex("4760e30534a0621357d458b1a7936551b5dc4cd1e69718adf7ed9fb0252a537e")
POLICY = HostPolicy(devices=NvidiaPolicy(), gpus=8, switches=4)


@pytest.fixture(scope="module")
def devices(evidence_folder: Path) -> tuple[Evidence, ...]:
    """Eight GPUs, then four switches."""
    names = ("gpu_evidence.json", "switch_evidence.json")
    files = [(evidence_folder / "nvidia" / name).read_bytes() for name in names]
    return tuple(one for data in files for one in parse_saved(data))


def setting(nonce: bytes | None = NONCE) -> Setting:
    return Setting(
        now=datetime(2026, 1, 1, tzinfo=UTC), nonce=nonce, roots=frozenset(), revocation=False
    )


def cpu(bound: bytes) -> Appraisal:
    """A CPU whose own evidence holds and binds that."""
    return Appraisal(
        kind="tdx",
        checks=(Check(1, "everything", Pass("holds")),),
        claims=(),
        bound=bound,
        device="cpu",
        at=setting().now,
    )


def outcomes(found: Appraisal) -> dict[str, type]:
    return {check.name: type(check.outcome) for check in found.checks}


def test_a_genuine_hosts_gpus_and_switches_name_each_other(devices: tuple[Evidence, ...]) -> None:
    assert isinstance(linked(devices), Pass)
    assert len({one.device for one in devices}) == len(devices)


@pytest.mark.parametrize("missing", range(12))
def test_a_host_with_one_device_hidden_does_not_link(
    devices: tuple[Evidence, ...], missing: int
) -> None:
    assert isinstance(linked((*devices[:missing], *devices[missing + 1 :])), Fail)


def test_a_switch_of_another_host_does_not_link(
    devices: tuple[Evidence, ...], evidence_folder: Path
) -> None:
    sdk = evidence_folder / "nvidia-attestation-sdk" / "switch_evidence_ls10.json"
    (stranger,) = parse_saved(sdk.read_bytes())
    assert isinstance(linked((*devices, stranger)), Fail)
    assert isinstance(linked((*devices[:-1], stranger)), Fail)


def test_only_reference_values_are_missing_of_a_genuine_host(
    devices: tuple[Evidence, ...],
) -> None:
    bound = bound_value(NONCE, devices)
    found = appraise_host(lambda asked: cpu(bound), devices, POLICY, setting())
    said = outcomes(found)
    assert said.pop("every device's evidence holds") is CannotVerify
    assert set(said.values()) == {Pass}
    assert not found.passed
    assert found.bound == NONCE


def test_the_cpu_is_asked_for_what_the_devices_said(devices: tuple[Evidence, ...]) -> None:
    asked: list[bytes | None] = []

    def own(under: Setting) -> Appraisal:
        asked.append(under.nonce)
        return cpu(b"")

    appraise_host(own, devices, POLICY, setting())
    assert asked == [bound_value(NONCE, devices)]


def test_one_gpu_twice_is_one_gpu(devices: tuple[Evidence, ...]) -> None:
    twice = (devices[0], *devices[:7], *devices[8:])
    found = appraise_host(lambda asked: cpu(asked.nonce or b""), twice, POLICY, setting())
    assert outcomes(found)["no device is counted twice"] is Fail


def test_what_is_bound_tells_every_choice_of_devices_apart(
    devices: tuple[Evidence, ...],
) -> None:
    values = [
        bound_value(NONCE, chosen)
        for size in (0, 1, 2, 11, 12)
        for chosen in combinations(devices, size)
    ]
    assert len(set(values)) == len(values)
    assert bound_value(NONCE, devices) == bound_value(NONCE, devices[::-1])
    assert bound_value(bytes(32), devices) != bound_value(NONCE, devices)


def test_without_a_cpu_nothing_passes(devices: tuple[Evidence, ...]) -> None:
    found = appraise_host(None, devices, POLICY, setting())
    assert isinstance(found.outcome, Fail)
    assert outcomes(found)["CPU's evidence holds"] is Fail
