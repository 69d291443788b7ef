"""Installing, holding and changing a policy, with the kernel's own rules."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.bench.gate_rig import closed_world, held, policy
from tidegate.clock import ManualClock, SystemClock
from tidegate.errors import GateError, LedgerError
from tidegate.gate import nft, nft_render
from tidegate.gate.accounts import Account, State
from tidegate.gate.controller import Beat, Gate, Permit, always
from tidegate.gate.heartbeat import hold
from tidegate.gate.meter_port import MeterError
from tidegate.gate.policy import LIFETIME, Policy
from tidegate.gate.state import Store
from tidegate.gate.worlds import GATE, World

pytestmark = pytest.mark.needs_root


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    with closed_world(offload=False) as shared:
        yield shared


@pytest.fixture(autouse=True)
def clean(made: World) -> Iterator[None]:
    yield
    made.enter(GATE, lambda: nft.load(nft_render.removed()))


def _gate(folder: Path, permit: Permit = always, chosen: Policy | None = None) -> Gate:
    chosen = chosen or policy(folder, super_packets="drop", grant=5_000)
    return Gate(chosen, Store(folder), ManualClock(), permit)


def _alive(made: World) -> bool:
    kernel = made.enter(GATE, nft.look)
    return bool(kernel and kernel.alive)


def test_an_applied_policy_is_closed_until_it_beats(made: World, tmp_path: Path) -> None:
    gate = _gate(tmp_path)
    made.enter(GATE, lambda: gate.apply(begin=True))
    assert not _alive(made)
    assert made.enter(GATE, gate.beat) == Beat(open=True)
    assert _alive(made)
    made.enter(GATE, gate.settle)
    assert not _alive(made)


def test_a_gate_without_its_state_does_not_start_as_if_it_were_new(
    made: World, tmp_path: Path
) -> None:
    with pytest.raises(GateError, match="--begin"):
        made.enter(GATE, _gate(tmp_path / "lost").apply)
    made.enter(GATE, lambda: _gate(tmp_path / "here").apply(begin=True))
    with pytest.raises(GateError, match="kernel has a gate's tables"):
        made.enter(GATE, lambda: _gate(tmp_path / "lost").apply(begin=True))


def test_a_damaged_state_keeps_the_gate_closed(made: World, tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"{}\n")
    with pytest.raises(GateError, match="cut off or altered"):
        made.enter(GATE, lambda: _gate(tmp_path).apply(begin=True))
    assert made.enter(GATE, nft.look) is None


def test_an_interface_that_is_not_there_is_named_and_nothing_is_installed(
    made: World, tmp_path: Path
) -> None:
    chosen = policy(tmp_path)
    other = chosen.model_copy(
        update={"interfaces": chosen.interfaces.model_copy(update={"outside": "nosuch0"})}
    )
    with pytest.raises(GateError, match="no interface nosuch0"):
        made.enter(GATE, lambda: _gate(tmp_path, chosen=other).apply(begin=True))
    assert made.enter(GATE, nft.look) is None


def test_what_speaks_against_opening_closes_with_its_reason(made: World, tmp_path: Path) -> None:
    reasons: list[str | None] = [None, "the meters disagree", None]
    gate = _gate(tmp_path, lambda: reasons.pop(0))
    made.enter(GATE, lambda: gate.apply(begin=True))
    assert made.enter(GATE, gate.beat).open
    assert made.enter(GATE, gate.beat) == Beat(open=False, reason="the meters disagree")
    assert not _alive(made)
    assert made.enter(GATE, gate.beat).open


def test_a_full_disk_closes_the_gate(
    made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = _gate(tmp_path)
    made.enter(GATE, lambda: gate.apply(begin=True))
    made.enter(GATE, gate.beat)
    # Raised limits have to be written first.
    raised = gate.policy.model_copy(update={"grant": 50_000})
    gate.policy = raised

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(GateError, match="No space left"):
        made.enter(GATE, gate.beat)
    assert not _alive(made)


def test_quotas_go_on_where_a_controller_was_and_are_spent_where_the_kernel_forgot(
    made: World, tmp_path: Path
) -> None:
    made.enter(GATE, lambda: _gate(tmp_path).apply(begin=True))
    made.enter(GATE, lambda: _gate(tmp_path).apply())
    kept = Store(tmp_path).read()
    assert kept is not None
    assert _lifetime(kept).granted == 5_000
    made.enter(GATE, lambda: nft.load(nft_render.removed()))
    made.enter(GATE, lambda: _gate(tmp_path).apply())
    forgotten = Store(tmp_path).read()
    assert forgotten is not None
    assert _lifetime(forgotten).granted == 10_000
    kernel = made.enter(GATE, nft.look)
    assert kernel is not None
    used = {quota.object: (quota.used, quota.limit) for quota in kernel.quotas}
    assert used[_lifetime(forgotten).object] == (5_000, 10_000)


def _lifetime(state: State) -> Account:
    account = state.of(LIFETIME)
    assert account is not None
    return account


def test_settling_gives_back_what_was_not_used(made: World, tmp_path: Path) -> None:
    gate = _gate(tmp_path)
    made.enter(GATE, lambda: gate.apply(begin=True))
    made.enter(GATE, gate.beat)
    made.enter(GATE, gate.settle)
    state = Store(tmp_path).read()
    assert state is not None
    assert _lifetime(state).granted == 0


def test_a_change_of_policy_keeps_counts_and_drops_what_is_gone(
    made: World, tmp_path: Path
) -> None:
    first = policy(tmp_path)
    second = first.model_copy(
        update={"classes": {n: c for n, c in first.classes.items() if n != "dns"}}
    )
    with held(made, first) as keeping:
        keeping.change(second)
        kernel = made.enter(GATE, nft.look)
        assert kernel is not None
        assert ("chain", "netdev", "class_dns") not in kernel.objects
        assert ("chain", "netdev", "class_api") in kernel.objects
        assert kernel.alive


def test_a_change_that_cannot_be_is_refused_and_the_policy_before_stays(
    made: World, tmp_path: Path
) -> None:
    gate = _gate(tmp_path)
    made.enter(GATE, lambda: gate.apply(begin=True))
    other = gate.policy.model_copy(
        update={"interfaces": gate.policy.interfaces.model_copy(update={"outside": "inside2"})}
    )
    with pytest.raises(GateError, match="no interface"):
        made.enter(GATE, lambda: gate.check(other))
    assert made.enter(GATE, gate.beat).open


def test_a_gate_whose_interface_is_gone_can_be_removed(tmp_path: Path) -> None:
    with closed_world(offload=False) as other:
        chosen = policy(tmp_path)
        other.enter(GATE, lambda: _gate(tmp_path, chosen=chosen).apply(begin=True))
        other.run(GATE, ["ip", "link", "del", "out"])
        other.enter(GATE, _gate(tmp_path, chosen=chosen).remove)
        assert other.enter(GATE, nft.look) is None


def test_asking_the_kernel_changes_nothing(made: World) -> None:
    made.enter(GATE, lambda: nft.check("add table netdev tidegate\n"))
    assert made.enter(GATE, nft.look) is None


def test_what_was_granted_is_not_given_back_when_something_went_wrong(
    made: World, tmp_path: Path
) -> None:
    def broken() -> str | None:
        if not opened:
            opened.append(True)
            return None
        raise LedgerError("the diary cannot be read")

    opened: list[bool] = []
    gate = _gate(tmp_path, broken)
    made.enter(GATE, lambda: gate.apply(begin=True))
    with pytest.raises(LedgerError):
        made.enter(GATE, lambda: hold(gate, SystemClock(), threading.Event()))
    assert not _alive(made)
    state = Store(tmp_path).read()
    assert state is not None
    assert _lifetime(state).granted == 5_000


def test_a_guard_that_is_taken_off_closes_the_gate(made: World, tmp_path: Path) -> None:
    chosen, clock = policy(tmp_path, super_packets="drop"), ManualClock()
    gate = Gate(chosen, Store(tmp_path), clock)
    made.enter(GATE, lambda: gate.apply(begin=True))
    clock.advance(2)
    assert made.enter(GATE, gate.beat).open
    made.run(GATE, ["tc", "filter", "del", "dev", "out", "egress"])
    clock.advance(2)
    with pytest.raises(GateError, match="guard"):
        made.enter(GATE, gate.beat)
    assert not _alive(made)


def test_removing_a_gate_leaves_no_guard(made: World, tmp_path: Path) -> None:
    gate = _gate(tmp_path)
    made.enter(GATE, lambda: gate.apply(begin=True))
    shown = ["tc", "filter", "show", "dev", "out", "egress"]
    assert "bytecode" in made.run(GATE, shown).stdout
    made.enter(GATE, gate.remove)
    assert made.run(GATE, shown).stdout == ""


def test_a_kernel_without_bpf_is_refused_with_what_to_do(
    made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(_: int) -> None:
        raise MeterError("this kernel has no BPF")

    monkeypatch.setattr("tidegate.gate.bpf_syscall.SharedArray", lacking)
    gate = _gate(tmp_path, chosen=policy(tmp_path))
    with pytest.raises(GateError, match=r'no BPF.*super_packets = "drop"'):
        made.enter(GATE, lambda: gate.apply(begin=True))
    assert not _alive(made)


def test_the_kernels_reason_is_passed_on(made: World) -> None:
    with pytest.raises(GateError, match=r"nftables refused: .*syntax error"):
        made.enter(GATE, lambda: nft.load("add nonsense\n"))
    with pytest.raises(GateError, match="No such file"):
        made.enter(GATE, lambda: nft.load("flush set netdev tidegate alive\n"))
