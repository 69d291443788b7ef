"""What a report for standards says, and that it never says more than its files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from standards_world import (
    AUDITED,
    GATE,
    VERIFIED,
    bench,
    files,
    grant_entries,
    log_lines,
)

from tidegate.audit.oscal import Assessment, assess, to_json
from tidegate.audit.oscal_controls import CONTROLS, UNSHOWN
from tidegate.audit.oscal_evidence import EvidenceError, Logged, read
from tidegate.cli.report import page
from tidegate.units import Timestamp

AT = Timestamp(1_790_000_000.5)


def assessed(made: dict[str, bytes]) -> Assessment:
    return assess([read(name, raw) for name, raw in made.items()], AT, "0.1.0")


def outcomes(made: dict[str, bytes]) -> dict[str, str]:
    return {one.control.id: one.outcome for one in assessed(made).findings}


def document(made: dict[str, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(to_json(assessed(made)))
    return found["assessment-results"]


def test_with_all_its_files_sound_every_control_passes() -> None:
    assert set(outcomes(files()).values()) == {"pass"}
    assert assessed(files()).outcome == "pass"


def test_without_files_nothing_passes() -> None:
    assert set(outcomes({}).values()) == {"cannot_verify"}
    assert assessed({}).outcome == "cannot_verify"


@pytest.mark.parametrize("missing", sorted(files()))
def test_a_missing_file_makes_what_rests_on_it_unverifiable(missing: str) -> None:
    made = files()
    rests = {
        one.control.id
        for one in assessed(made).findings
        if any(file.name == missing for file in one.used)
    }
    assert rests
    del made[missing]
    found = outcomes(made)
    assert {control for control, word in found.items() if word == "cannot_verify"} == rests
    assert all(found[control] == "pass" for control in found.keys() - rests)


@pytest.mark.parametrize(
    ("file", "raw", "control"),
    [
        ("gate.json", bench("gate", overshoot_packets=False), "sc-7.10"),
        ("verify.json", msgspec.json.encode({**VERIFIED, "outcome": {"outcome": "fail"}}), "sc-31"),
        (
            "audit.json",
            msgspec.json.encode(
                {**AUDITED, "findings": [{"kind": "read-without-grant", "level": "error"}]}
            ),
            "ac-4",
        ),
        ("log-check.json", b'{"outcome":"fail","problem":"split_view","reason":"two"}', "au-10"),
        ("log.jsonl", log_lines(grant_entries((("bob", "security"),))), "ac-3.2"),
        (
            "log.jsonl",
            log_lines(grant_entries((("bob", "security"), ("eve", "security")))),
            "ac-3.2",
        ),
        (
            "log.jsonl",
            log_lines(grant_entries((("bob", "security"), ("bob", "research")))),
            "ac-3.2",
        ),
        (
            "log.jsonl",
            log_lines(grant_entries((("bob", "security"), ("ada", "research")))),
            "ac-3.2",
        ),
        ("log.jsonl", log_lines(grant_entries(signed=False)), "au-10"),
        ("log.jsonl", log_lines(grant_entries(evidence=False)), "rand-sl-confidential"),
        ("log.jsonl", log_lines(grant_entries()[1:]), "ac-3.2"),
        ("log.jsonl", log_lines(uploads=((8, 180), (3, 190))), "asl-3-egress"),
        ("log.jsonl", log_lines(uploads=((3, 180), (8, 90))), "asl-3-egress"),
    ],
)
def test_what_a_file_shows_to_be_wrong_fails_its_controls(
    file: str, raw: bytes, control: str
) -> None:
    assert outcomes({**files(), file: raw})[control] == "fail"


@pytest.mark.parametrize(
    ("file", "raw", "control"),
    [
        ("verify.json", msgspec.json.encode({**VERIFIED, "leak": None}), "sc-31"),
        ("gate.json", bench("gate", thief_over_cap=True), "sc-7.10"),
        ("gate.json", GATE.replace(b'"holds":true', b'"holds":null'), "sc-7.10"),
        (
            "audit.json",
            msgspec.json.encode({**AUDITED, "findings": [{"kind": "log-gap", "level": "warning"}]}),
            "ac-4",
        ),
        ("log-check.json", b'{"outcome":"cannot_verify","reason":"too few"}', "au-10"),
        ("log-check.json", b'{"outcome":"pass","claim":"all","limits":[],"witnesses":0}', "au-10"),
        ("log.jsonl", log_lines(grant_entries()[:3]), "ac-3.2"),
    ],
)
def test_what_a_file_leaves_open_is_no_pass(file: str, raw: bytes, control: str) -> None:
    assert outcomes({**files(), file: raw})[control] == "cannot_verify"


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("empty.json", b""),
        ("list.json", b"[]"),
        ("other.json", b'{"a":1}'),
        ("text.txt", b"not json"),
        ("part.jsonl", log_lines().partition(b"\n")[2]),
        ("hole.jsonl", log_lines().replace(b'"index":1', b'"index":7')),
        ("upload.jsonl", log_lines([], ((3, 9),)).replace(b'"size":3', b'"size":"3"')),
    ],
)
def test_a_file_that_says_nothing_certain_is_refused(name: str, raw: bytes) -> None:
    with pytest.raises(EvidenceError, match=name):
        read(name, raw)


def test_a_release_that_is_not_the_brokers_fails_and_another_grant_does_not() -> None:
    stray = b'{"body":{"note":"by hand"},"id":"","kind":"%s","time":1,"v":1,"index":4}\n'
    sound = log_lines()
    assert outcomes({**files(), "log.jsonl": sound + stray % b"release"})["ac-3.2"] == "fail"
    facts = read("log.jsonl", sound + stray % b"verdict").facts
    assert isinstance(facts, Logged)
    assert (facts.entries, facts.approvals_signed) == (5, 2)


def test_every_finding_names_claim_value_assumptions_and_the_hashes_of_its_files() -> None:
    made = files()
    hashes = {hashlib.sha256(raw).hexdigest() for raw in made.values()}
    for finding in document(made)["results"][0]["findings"]:
        named: dict[str, list[str]] = {}
        for prop in finding["props"]:
            named.setdefault(prop["name"], []).append(prop["value"])
        assert len(named["claim"]) == len(named["measured-value"]) == 1
        assert named["assumption"]
        assert set(named["raw-log-sha256"]) <= hashes
        assert named["raw-log-sha256"]


def test_what_cannot_be_verified_is_not_satisfied() -> None:
    status = {
        one["target"]["target-id"]: one["target"]["status"]
        for one in document({})["results"][0]["findings"]
    }
    assert len(status) == len(CONTROLS)
    assert {(one["state"], one["reason"]) for one in status.values()} == {
        ("not-satisfied", "other")
    }


def test_what_software_cannot_show_is_listed_with_the_reason() -> None:
    parts = document(files())["results"][0]["attestations"][0]["parts"]
    assert [part["prose"] for part in parts] == [one.why for one in UNSHOWN]
    shown, unshown = {one.id for one in CONTROLS}, {one.id for one in UNSHOWN}
    assert shown & unshown == set()
    assert {one.standard for one in CONTROLS} - {one.standard for one in UNSHOWN} == {
        "NIST SP 800-53 Rev. 5"
    }


def test_the_same_files_at_the_same_time_make_the_same_document() -> None:
    assert to_json(assessed(files())) == to_json(assessed(files()))
    assert document(files())["uuid"] != document({})["uuid"]


def _walk(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, path)


UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*")
TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")
STRING = re.compile(r"\S(.*\S)?")


@pytest.mark.parametrize("made", [{}, files()], ids=["no files", "all files"])
def test_the_documents_values_have_the_types_that_oscal_gives_them(made: dict[str, bytes]) -> None:
    whole = document(made)
    for path, value in _walk(whole):
        name = path.rpartition("/")[2]
        if isinstance(value, list):
            assert value, f"{path} is empty, which OSCAL does not allow"
        if name == "uuid" or name.endswith("-uuid"):
            assert UUID.fullmatch(str(value)), path
        if name in ("control-id", "target-id", "name", "state", "reason"):
            assert TOKEN.fullmatch(str(value)), path
        if name in ("start", "end", "collected", "last-modified"):
            assert TIME.fullmatch(str(value)), path
        if name in ("title", "value", "version", "oscal-version"):
            assert STRING.fullmatch(str(value)), path


@pytest.mark.parametrize("made", [{}, files()], ids=["no files", "all files"])
def test_every_reference_in_the_document_leads_somewhere(made: dict[str, bytes]) -> None:
    whole = document(made)
    result = whole["results"][0]
    observations = {one["uuid"] for one in result["observations"]}
    used = {o["observation-uuid"] for f in result["findings"] for o in f["related-observations"]}
    assert used == observations
    files_ = {one["uuid"] for one in whole["back-matter"]["resources"]}
    links = [value for path, value in _walk(whole) if path.endswith("/href")]
    assert {str(one)[1:] for one in links if str(one).startswith("#")} <= files_


def test_the_page_shows_every_control_and_escapes_what_files_say() -> None:
    raw = b'{"outcome":"fail","problem":"altered","reason":"<script>alert(1)</script>"}'
    text = page(assessed({**files(), "log-check.json": raw}))
    for one in (*CONTROLS, *UNSHOWN):
        assert one.id in text
    assert "<script>" not in text
