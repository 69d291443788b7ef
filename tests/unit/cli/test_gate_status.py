"""`tidegate gate status`: a meter that lies, a latch and old figures can be seen at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tidegate.cli.gate_status import Status, show
from tidegate.gate import published
from tidegate.gate.accounts import Account, State, Used
from tidegate.gate.nft import Kernel
from tidegate.gate.policy import parse
from tidegate.gate.published import Charged, Counts, Metered, Published

_POLICY = parse("""
lifetime = 10_000
interfaces = { inside = "a", outside = "b" }
classes.api = { protocol = "tcp", quota = 5_000, period_s = 86_400 }
""")
_STATE = State("p", "boot", (Account("api", 4_000, 1, 3_600_000), Account("lifetime", 6_000, 1)))
_KERNEL = Kernel(
    quotas=(Used("quota_api.1", 1_000, 4_000), Used("quota_lifetime.1", 1_000, 6_000)),
    passed=(("passed_api", 9, 1_000), ("drop_headers", 3, 300)),
    alive=True,
    shape=(),
    objects=(),
    complete=True,
)


def _metered(*, lies: bool = False) -> Metered:
    tap = 1_900 + lies
    said = "the meter tap is wrong: wire_bytes of all: kernel 1900, ledger 1900, tap 1901"
    return Metered(
        verdict=said if lies else "the meters agree to the byte",
        agree=not lies,
        settled=not lies,
        in_flight=None if lies else 0,
        meters=(
            Counts("kernel", 20, 1_620, 1_900),
            Counts("ledger", None, None, 1_900),
            Counts("tap", 20, 1_620, tap),
        ),
        ledger_spent=7_000,
        ledger_reserved=500,
        judged_ns=4_000_000_000,
        lease_until_ns=0 if lies else 6_500_000_000,
        closed=said if lies else "",
        latched=said if lies else None,
    )


def _status(metered: Metered | None, *, now_ns: int = 5_500_000_000) -> Status:
    accounts = (Charged("api", 1_000, 1_900, 7_200_000), Charged("lifetime", 1_000, 1_900, 0))
    said = Published(
        boot="boot",
        monotonic_ns=5_000_000_000,
        open=True,
        reason="",
        accounts=accounts,
        metered=metered,
    )
    return Status.of(_POLICY, _STATE, _KERNEL, 7, said, now_ns)


def test_what_is_charged_is_the_larger_count_and_says_what_is_left_and_until_when() -> None:
    api, lifetime = _status(_metered()).rows
    assert (api.charged, api.nft, api.wire, api.left) == (1_900, 1_000, 1_900, 3_100)
    assert (api.refill_s, lifetime.refill_s) == (86_400 - 7_200, None)
    assert lifetime.left == 8_100


def test_a_lying_meter_stands_beside_the_others_with_the_latch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    show(_status(_metered(lies=True)), as_json=False)
    told = capsys.readouterr().out
    assert "1,901" in told
    assert told.count("tap is wrong") >= 2
    assert "LATCHED" in told
    assert "lease: none" in told
    assert "7,000 bytes spent, 500 reserved" in told
    show(_status(_metered()), as_json=False)
    honest = capsys.readouterr().out
    assert "agree to the byte" in honest
    assert "lease: 1.0 s left" in honest
    assert "LATCHED" not in honest
    assert "22:00:00" in honest


def test_the_same_is_there_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    show(_status(_metered(lies=True)), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["meters"]["latched"] == told["meters"]["verdict"]
    assert [one["wire_bytes"] for one in told["meters"]["counts"]] == [1_900, 1_900, 1_901]
    assert told["rows"][0]["charged"] == 1_900
    assert told["told_s"] == 0.5


def test_figures_that_a_controller_no_longer_renews_are_called_old(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show(_status(None, now_ns=60_000_000_000), as_json=False)
    assert "nothing for 55 s" in capsys.readouterr().out
    show(Status.of(_POLICY, _STATE, _KERNEL, 7), as_json=False)
    assert "nothing yet" in capsys.readouterr().out


def test_figures_of_another_boot_are_not_shown(tmp_path: Path) -> None:
    said = Published(boot="b", monotonic_ns=1, open=True, reason="", accounts=())
    published.write(tmp_path, said)
    assert published.read(tmp_path, "b") == said
    assert published.read(tmp_path, "c") is None
    (tmp_path / published.FILE).write_bytes(b"{")
    assert published.read(tmp_path, "b") is None
