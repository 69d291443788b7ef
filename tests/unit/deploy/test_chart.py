"""The chart makes objects that Kubernetes takes, settings that the halves take, and two zones."""

from __future__ import annotations

import copy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import chart
import chart_schema
import pytest
from chart_world import EVERYTHING, LEAST, Helm, changed
from command_line import unknown

from tidegate.cli.console_settings import settings_of
from tidegate.config import Settings, load
from tidegate.vault.broker_settings import read_settings

WINDOW = changed(LEAST, "outer.settings.link.window", 8)
TOGETHER = changed(LEAST, "separateNodes", False)
REFUSED = (
    ("inner.setings", {}, "setings"),
    ("inner.settings.link", {"windw": 8}, "windw"),
    ("inner.settings.link", {"address": "0.0.0.0:1"}, "address"),
    ("outer.settings.outer", {"seed_key_file": "/tmp/x"}, "seed_key_file"),
    ("outer.settings.lanes", {"inner-0": {"secret_file": "/tmp/x"}}, "secret_file"),
    ("outer.settings.ledger", {"urls": ["postgresql://x/y"]}, "urls"),
    ("inner.shutdownSeconds", 5, "shutdownSeconds"),
    ("verify.sample", "most", "sample"),
    ("outer.settings.budget", {"profile": 3}, "profile"),
    ("image.digest", "sha256:abc", "digest"),
    ("link.port", 70000, "port"),
    ("inner.replicas", 0, "replicas"),
    ("outer.to", [{"ports": []}], "to"),
    ("inner.storage.size", "much", "size"),
)
WANTED = ("link.secret", "inner.models.claim", "outer.models.claim", "outer.keys", "outer.seed")
SWITCHED = (
    ("console.enabled", True, "console.tls"),
    ("broker.enabled", True, "broker.files"),
    ("witness.enabled", True, "witness.logs"),
    ("verify.enabled", True, "verify.record"),
    ("outer.replicas", 2, "outer.ledger.urls"),
    ("outer.ship", "s3://bucket/record", "outer.settings.record.folder"),
)


@cache
def helm() -> Helm:
    cases = [LEAST, EVERYTHING, WINDOW, TOGETHER]
    cases += [changed(LEAST, path, value) for path, value, _ in (*REFUSED, *SWITCHED)]
    return Helm([*cases, *(changed(LEAST, path, "") for path in WANTED)])


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    return helm().objects(values)


def one(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    [found] = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("values", [LEAST, EVERYTHING], ids=["least", "everything"])
@pytest.mark.parametrize("version", chart.VERSIONS)
def test_every_object_is_what_kubernetes_takes(values: dict[str, Any], version: str) -> None:
    objects = rendered(values)
    wrong = {o["metadata"]["name"]: chart.against_schema(o, version) for o in objects}
    assert {name: told for name, told in wrong.items() if told} == {}


@pytest.mark.parametrize("values", [LEAST, EVERYTHING], ids=["least", "everything"])
def test_every_pod_is_confined(values: dict[str, Any]) -> None:
    assert list(chart.against_house(rendered(values))) == []


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"automountServiceAccountToken": True}, "token"),
        ({"securityContext": {}}, "root"),
        ({"volumes": [{"name": "all", "hostPath": {"path": "/"}}]}, "host's files"),
        ({"volumes": []}, "volume models is nowhere"),
    ],
)
def test_the_check_sees_a_pod_that_is_not(change: dict[str, Any], wrong: str) -> None:
    made = copy.deepcopy(one(rendered(LEAST), "StatefulSet", "tidegate-inner"))
    made["spec"]["template"]["spec"] |= change
    assert any(wrong in told for told in chart.against_house([made]))


def test_the_check_sees_a_container_that_keeps_a_capability() -> None:
    made = copy.deepcopy(one(rendered(EVERYTHING), "CronJob", "tidegate-verify"))
    pod = chart.pod_of(made)
    assert pod is not None
    pod["containers"][0]["securityContext"]["capabilities"]["add"] = ["NET_RAW"]
    assert list(chart.against_house([made])) == ["CronJob tidegate-verify: work keeps capabilities"]


def test_helms_own_linter_finds_nothing() -> None:
    done = subprocess.run(
        [sys.executable, chart.__file__, "check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _settings(half: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As the half reads them from the environment that the chart gives it."""
    with monkeypatch.context() as patch:
        data = one(rendered(EVERYTHING), "ConfigMap", f"tidegate-{half}")["data"]
        for name, value in data.items():
            patch.setenv(name, value)
        return load(None)


def test_the_inner_half_reads_the_settings_that_the_chart_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = _settings("inner", monkeypatch)
    assert settings.budget.profile == "strict"
    assert settings.link.address.endswith(":7000")
    assert settings.inner.reasoning_start == "<think>"
    assert settings.lanes.keys() == {"outer-0", "outer-1"}


def test_the_outer_half_reads_the_settings_that_the_chart_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = _settings("outer", monkeypatch)
    assert settings.models.parameters == 8_000_000_000
    assert settings.budget.principals["alice"].day == 20_000_000
    assert settings.lanes["inner-0"].budget.day == 1_000_000_000
    assert settings.ledger.urls == ("postgresql://tidegate@192.0.2.20/ledger",)
    assert str(settings.ledger.copy_file).startswith("/var/lib/tidegate/")
    assert settings.lanes["inner-1"].address == "tidegate-inner-1.tidegate-inner:7000"
    assert str(settings.record.key_file) == "/etc/tidegate/record/record.key"


@pytest.mark.parametrize("half", ["inner", "outer"])
def test_a_half_stops_waiting_before_it_is_killed(
    half: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(half, monkeypatch)
    pod = chart.pod_of(one(rendered(EVERYTHING), "StatefulSet", f"tidegate-{half}"))
    assert pod is not None
    waits = settings.inner.drain_s if half == "inner" else settings.outer.drain_s + 5  # preStop
    assert waits + 5 <= pod["terminationGracePeriodSeconds"]


def test_lanes_have_the_names_under_which_replicas_are_found() -> None:
    objects = rendered(EVERYTHING)
    service = one(objects, "Service", "tidegate-inner")
    assert service["spec"]["clusterIP"] == "None"
    replicas = one(objects, "StatefulSet", "tidegate-inner")
    assert replicas["spec"]["serviceName"] == service["metadata"]["name"]


def test_a_pod_sees_the_secrets_of_its_own_lanes_and_both_ends_see_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = {}
    for half, index in (("outer", 1), ("inner", 0)):
        settings = _settings(half, monkeypatch)
        pod = chart.pod_of(one(rendered(EVERYTHING), "StatefulSet", f"tidegate-{half}"))
        assert pod is not None
        [container] = [c for c in pod["containers"] if c["name"] == half]
        mounted = {
            mount["mountPath"]: mount["subPathExpr"].replace("$(POD_INDEX)", str(index))
            for mount in container["volumeMounts"]
            if mount["name"] == "link"
        }
        assert mounted.keys() == {str(lane.secret_file) for lane in settings.lanes.values()}
        ends[half] = mounted
    assert ends["outer"]["/etc/tidegate/link/inner-0"] == "outer-1.inner-0"
    assert ends["inner"]["/etc/tidegate/link/outer-1"] == "outer-1.inner-0"
    assert ends["inner"]["/etc/tidegate/link/outer-0"] == "outer-0.inner-0"


def _secrets(pod: dict[str, Any]) -> set[str]:
    return {v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}


def test_the_inner_half_gets_no_secret_but_the_links() -> None:
    pod = chart.pod_of(one(rendered(EVERYTHING), "StatefulSet", "tidegate-inner"))
    assert pod is not None
    assert _secrets(pod) == {"tidegate-link"}
    assert [c.get("envFrom") for c in pod["containers"]] == [
        [{"configMapRef": {"name": "tidegate-inner"}}]
    ]


def test_outer_halves_that_share_a_ledger_have_names_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pod = chart.pod_of(one(rendered(EVERYTHING), "StatefulSet", "tidegate-outer"))
    assert pod is not None
    [container] = [c for c in pod["containers"] if c["name"] == "outer"]
    named = {variable["name"]: variable for variable in container["env"]}
    assert named["TIDEGATE_LEDGER__HOLDER"]["value"] == "$(POD_NAME)"
    assert named["POD_NAME"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    # The name comes on top of the section that all of them have.
    monkeypatch.setenv("TIDEGATE_LEDGER__HOLDER", "tidegate-outer-1")
    settings = _settings("outer", monkeypatch)
    assert (settings.ledger.holder, len(settings.ledger.urls)) == ("tidegate-outer-1", 1)


def test_no_other_container_reaches_the_socket_that_drains_lanes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    control = _settings("outer", monkeypatch).outer.control
    pod = chart.pod_of(one(rendered(EVERYTHING), "StatefulSet", "tidegate-outer"))
    assert pod is not None
    held = {
        container["name"]: mount["name"]
        for container in pod["containers"]
        for mount in container["volumeMounts"]
        if control.startswith(mount["mountPath"] + "/")
    }
    assert held.keys() == {"outer", "ship", "console"}
    assert len(set(held.values())) == 3


def test_a_change_of_settings_restarts_the_half_and_no_other() -> None:
    before, after = (
        {
            half: one(objects, "StatefulSet", f"tidegate-{half}")["spec"]["template"]["metadata"]
            for half in ("inner", "outer")
        }
        for objects in (
            rendered(LEAST),
            rendered(WINDOW),
        )
    )
    assert before["inner"] == after["inner"]
    assert before["outer"] != after["outer"]


def test_a_ledger_outlives_its_pods() -> None:
    for made in rendered(EVERYTHING):
        if made["kind"] == "StatefulSet":
            kept = made["spec"]["persistentVolumeClaimRetentionPolicy"]
            assert set(kept.values()) == {"Retain"}


def test_the_halves_never_share_a_node_unless_told_to() -> None:
    for half, other in (("inner", "outer"), ("outer", "inner")):
        pod = chart.pod_of(one(rendered(EVERYTHING), "StatefulSet", f"tidegate-{half}"))
        assert pod is not None
        [rule] = pod["affinity"]["podAntiAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]
        assert rule["topologyKey"] == "kubernetes.io/hostname"
        assert rule["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == other
    together = one(rendered(TOGETHER), "StatefulSet", "tidegate-inner")
    assert "affinity" not in together["spec"]["template"]["spec"]


def test_every_command_in_a_pod_is_one_that_tidegate_has() -> None:
    checked = []
    for made in rendered(EVERYTHING):
        pod = chart.pod_of(made)
        for container in [] if pod is None else pod["containers"]:
            assert unknown(container["args"]) == set()
            checked.append(container["name"])
    assert sorted(checked) == sorted(
        ["inner", "outer", "ship", "console", "broker", "witness", "plan", "work", "status"]
    )


def test_the_console_and_the_broker_read_the_files_that_the_chart_writes(tmp_path: Path) -> None:
    objects = rendered(EVERYTHING)
    told = one(objects, "ConfigMap", "tidegate-outer-console")["data"]["console.toml"]
    (tmp_path / "console.toml").write_text(told)
    console = settings_of(tmp_path / "console.toml")
    assert (console.port, console.hosts, console.tls is not None) == (
        8700,
        ("console.example",),
        True,
    )
    told = one(objects, "ConfigMap", "tidegate-broker")["data"]["broker.toml"]
    (tmp_path / "broker.toml").write_text(told)
    assert read_settings(tmp_path / "broker.toml").certificate == "/etc/tidegate/broker-tls/tls.crt"


@pytest.mark.parametrize(("path", "value", "named"), REFUSED)
def test_a_value_that_cannot_be_is_refused_by_name(path: str, value: Any, named: str) -> None:
    assert named in helm().refusal(changed(LEAST, path, value))


@pytest.mark.parametrize("path", WANTED)
def test_what_has_to_be_said_is_asked_for(path: str) -> None:
    assert f"set {path}" in helm().refusal(changed(LEAST, path, ""))


@pytest.mark.parametrize(("path", "value", "asked"), SWITCHED)
def test_a_part_that_is_switched_on_asks_for_what_it_needs(
    path: str, value: Any, asked: str
) -> None:
    assert asked in helm().refusal(changed(LEAST, path, value))


def test_the_schema_knows_the_settings_of_today() -> None:
    text = chart_schema.DOCUMENT.read_text()
    assert text == chart_schema.renewed(text), "run `make docs`"
