"""`tidegate audit` on files as they lie about: plain, packed, piped, torn, of several kinds."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tidegate.audit.event import Action
from tidegate.bench import vault_audit_render as render
from tidegate.bench import vault_audit_traffic as traffic
from tidegate.cli.main import app
from tidegate.clock import ManualClock
from tidegate.errors import ConfigError
from tidegate.transparency.entry import Kind
from tidegate.transparency.log import Log
from tidegate.transparency.store_sqlite import SqliteStore
from tidegate.vault.manifest import File, Manifest, Shard
from tidegate.vault.seal_chunks import sealed_size

RUNNER = CliRunner()
DAYS = 9


def _run(*args: object, code: int = 1, given: bytes | None = None) -> str:
    done = RUNNER.invoke(app, ["audit", *map(str, args)], input=given)
    assert done.exit_code == code, done.output
    return done.stdout


def _json(*args: object, code: int = 1, given: bytes | None = None) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(_run(*args, "--json", code=code, given=given))
    return told


def _kinds(told: dict[str, Any]) -> set[str]:
    return {finding["kind"] for finding in told["findings"]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    (folder / "models.toml").write_text(render.MODELS)
    (folder / "journal.jsonl").write_bytes(b"".join(render.journal(DAYS)))
    reads = [one.event for one in traffic.days(DAYS, load=1)]
    loads = [event for event in reads if event.principal == traffic.role("backup")]
    thief = [traffic.replace_event(event, principal=traffic.role("thief")) for event in loads]
    events = sorted([*reads, *thief, *render.decrypts(DAYS)], key=lambda event: event.time)
    half = len(events) // 2
    logs = folder / "logs"
    logs.mkdir()
    (logs / "2.jsonl").write_bytes(b"".join(map(render.cloudtrail, events[half:])))
    packed = gzip.compress(b"".join(map(render.cloudtrail, events[:half])))
    (logs / "9.json.gz").write_bytes(packed)
    (logs / "README.md").write_text("no log")
    access = [event for event in events if event.action is Action.READ]
    (folder / "access.log").write_bytes(b"".join(map(render.s3_access, access)))
    return folder


def test_a_folder_is_read_in_time_and_settled_with_grants(store: Path) -> None:
    told = _json(
        store / "logs", "--models", store / "models.toml", "--grants", store / "journal.jsonl"
    )
    assert {"read-without-grant", "complete-set"} <= _kinds(told)
    assert [Path(source["name"]).name for source in told["sources"]] == [
        "journal.jsonl", "9.json.gz", "2.jsonl",
    ]  # fmt: skip
    found = next(f for f in told["findings"] if f["kind"] == "read-without-grant")
    evidence = found["evidence"][0]
    assert Path(evidence["source"]).name in ("2.jsonl", "9.json.gz")
    assert evidence["record"] >= 1
    assert any(account["reads"] for account in told["accounts"])


def test_two_logs_of_the_same_requests_count_them_once(store: Path) -> None:
    one = _json(store / "logs", "--models", store / "models.toml")
    both = _json(store / "logs", store / "access.log", "--models", store / "models.toml")
    reads, again = (
        {row["who"][0]: row["reads"] for row in told["coverage"] if not row["tied_by"]}
        for told in (one, both)
    )
    assert reads == again
    assert both["logged_twice"] == sum(reads.values())


def test_standard_input_needs_a_kind(store: Path) -> None:
    raw = (store / "access.log").read_bytes()
    told = _json("-", "--kind", "s3-access", "--models", store / "models.toml", given=raw)
    assert told["events"] == raw.count(b"\n")
    done = RUNNER.invoke(app, ["audit", "-"])
    assert isinstance(done.exception, ConfigError)


def test_torn_files_and_strange_ones_are_named(store: Path, tmp_path: Path) -> None:
    whole = (store / "logs" / "9.json.gz").read_bytes()
    (tmp_path / "torn.json.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "odd.bin").write_bytes(b"\x00\x01 nothing known")
    lines = (store / "access.log").read_bytes().splitlines(keepends=True)
    (tmp_path / "broken.log").write_bytes(b"".join([*lines[:3], b"garbage\n", *lines[3:5]]))
    told = _json(tmp_path, "--models", store / "models.toml")
    said = {f["text"]: f["evidence"] for f in told["findings"] if f["kind"] == "unreadable-line"}
    assert any("ends early" in text for text in said)
    assert any("no reader knows" in text for text in said)
    (line,) = [e[0]["line"] for text, e in said.items() if "not a line of an S3" in text]
    assert line == 4
    # What stands before the tear and beside the broken line is still counted.
    assert told["events"] > 5


def test_the_journal_is_read_out_of_the_logs_own_file(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    kept = SqliteStore(path)
    log = Log(kept, ManualClock())
    for line in (store / "journal.jsonl").read_bytes().splitlines():
        log.append(Kind.GRANT, json.loads(line))
    log.append(Kind.VERDICT, {"x": 1})
    kept.close()
    args = (store / "logs", "--models", store / "models.toml", "--grants")
    out_of_log = _json(*args, path)
    assert out_of_log["accounts"] == _json(*args, store / "journal.jsonl")["accounts"]


def test_exports_say_the_same(store: Path, tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("sarif", "ocsf", "events", "html")}
    options = [part for name, path in paths.items() for part in (f"--{name}", path)]
    told = _json(store / "logs", "--models", store / "models.toml", *options)
    sarif = json.loads(paths["sarif"].read_text())["runs"][0]
    assert [result["ruleId"] for result in sarif["results"]] == [
        f["kind"] for f in told["findings"]
    ]
    assert {event["class_uid"] for event in json.loads(paths["ocsf"].read_text())} == {2004}
    lines = [json.loads(line) for line in paths["events"].read_text().splitlines()]
    assert {line["class_uid"] for line in lines} == {6003}
    assert len(lines) == told["events"]
    page = paths["html"].read_text()
    assert "<svg" in page
    assert "<polyline" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    # The export of events is a log that gives the same findings again.
    again = _json(paths["events"], "--models", store / "models.toml")
    assert again["coverage"] == told["coverage"]


def test_the_page_escapes_what_logs_say(store: Path, tmp_path: Path) -> None:
    event = next(traffic.days(1)).event
    evil = traffic.replace_event(event, principal="<script>alert(1)</script>", agent="<b>")
    (tmp_path / "log.jsonl").write_bytes(render.own_events(evil))
    _run(tmp_path / "log.jsonl", "--models", store / "models.toml", "--html", tmp_path / "page")
    assert "<script>" not in (tmp_path / "page").read_text()


def test_the_table_says_what_to_do_and_where_it_stands(store: Path) -> None:
    said = " ".join(
        _run(
            store / "logs", "--models", store / "models.toml", "--grants", store / "journal.jsonl"
        ).split()
    )
    assert "Coverage" in said
    assert "Treat the model as copied" in said
    assert "evidence:" in said
    assert "assumes:" in said


def test_sigma_rules_go_out_and_come_back_in(store: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    _run("rules", "--models", store / "models.toml", "--out", rules, code=0)
    told = _json(store / "logs", "--models", store / "models.toml", "--sigma", rules)
    matched = {f["who"] for f in told["findings"] if f["kind"] == "sigma"}
    assert traffic.role("thief") in matched
    assert "serve" not in matched
    (rules / "bad.yml").write_text("title: x\ndetection: {condition: s, timeframe: 5m}\n")
    done = RUNNER.invoke(app, ["audit", str(store / "logs"), "--sigma", str(rules)])
    assert isinstance(done.exception, ConfigError)


def test_nothing_found_exits_0(store: Path, tmp_path: Path) -> None:
    reads = [one.event for one in traffic.days(1, load=1) if one.event.action is Action.LIST]
    (tmp_path / "log.jsonl").write_bytes(b"".join(map(render.own_events, reads)))
    assert "0 errors, 0 warnings" in _run(tmp_path / "log.jsonl", code=0)


def test_a_sealed_models_shards_are_those_of_its_manifest(store: Path, tmp_path: Path) -> None:
    files, shards = (
        (File("w.bin", 300_000),),
        (Shard(0, "w.bin", 0, 100_000), Shard(1, "w.bin", 100_000, 200_000)),
    )
    manifest = Manifest("tide", "0" * 32, files, shards, ())
    (tmp_path / "manifest.json").write_bytes(manifest.encode())
    table = "[[model]]\nname = 'tide'\nat = ['s3://weights/tide']\nmanifest = 'manifest.json'\n"
    (tmp_path / "models.toml").write_text(table)
    told = _json(store / "logs", "--models", tmp_path / "models.toml")
    assert {row["model_bytes"] for row in told["coverage"]} == {
        sealed_size(100_000) + sealed_size(200_000)
    }
    (tmp_path / "models.toml").write_text(table.replace("'tide'", "'other'"))
    done = RUNNER.invoke(app, ["audit", str(store), "--models", str(tmp_path / "models.toml")])
    assert isinstance(done.exception, ConfigError)


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ("", "names no model"),
        ("[[model]]\nname='m'\nat=[]\nshards=[{name='a',size=1}]", "`at` is empty"),
        ("[[model]]\nname='m'\nat=['s3://x']", "0 shards"),
        ("[[model]]\nname='m'\nat=['s3://x']\nshards=[{name='a',size=0}]", "size of 0"),
        ("[[model]]\nname='m'\nat=['s3://x']\nodd=1\nshards=[]", "odd"),
        (
            "networks=['x']\n[[model]]\nname='m'\nat=['s3://x']\nshards=[{name='a',size=1}]",
            "network",
        ),
        ("not toml", "no TOML"),
        (
            (
                "[[model]]\nname='m'\nat=['s3://x']\nshards=[{name='a',size=1}]\n"
                "[[model]]\nname='n'\nat=['s3://x/']\nshards=[{name='a',size=1}]"
            ),
            "of two models",
        ),
    ],
)
def test_a_models_file_that_says_too_little_is_refused(
    models: str, says: str, store: Path, tmp_path: Path
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(models or "brokers = []\nmodel = []\n")
    done = RUNNER.invoke(app, ["audit", str(store / "access.log"), "--models", str(path)])
    assert isinstance(done.exception, ConfigError), done.output
    assert says in done.exception.message


def test_wrong_paths_kinds_and_times_are_refused(store: Path) -> None:
    for args in (["nowhere"], [str(store), "--kind", "odd"], [str(store), "--since", "soon"]):
        done = RUNNER.invoke(app, ["audit", *args])
        assert isinstance(done.exception, ConfigError), done.output
