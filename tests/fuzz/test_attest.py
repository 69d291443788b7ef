"""Invariant: whatever bytes are taken for evidence, they give a value or an `EvidenceError`, and
nothing that was changed by chance is ever appraised as a pass unless it means the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import make_evidence_vectors as tool
import msgspec
import numpy as np
import pytest
from evidence_vectors import Case, EvidenceFile, evidence_of, files_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.attest.appraisal import Setting
from tidegate.attest.certificates import (
    parse_certificate,
    parse_certificates,
    parse_revocation_list,
    parse_revocation_lists,
)
from tidegate.attest.errors import EvidenceError
from tidegate.attest.kinds import KINDS, Companions, kind_named, kind_of
from tidegate.attest.signatures import algorithm_of, load_key
from tidegate.attest.snp import parse_snp
from tidegate.attest.snp_report import parse_report
from tidegate.attest.tpm_evidence import parse_tpm
from tidegate.attest.tpm_log import parse_log, replay
from tidegate.attest.tpm_structures import parse_public, parse_quote, parse_signature

FILES = [
    msgspec.json.decode(path.read_bytes(), type=EvidenceFile)
    for path in sorted(tool.VECTORS.glob("evidence-*.json"))
]
BLOBS = [data for file in FILES for data in files_of(file, list(file.blobs))]
SEEDS = {"any": BLOBS, "DER": [data for data in BLOBS if data[:1] == b"\x30"]}
NO_REFERENCES = {"host": {"cpu": {}, "gpus": 1}}
"""Policies that name no reference value; `{}` for the kinds that can do with nothing."""
PASSING = [(file, case) for file in FILES for case in file.cases if case.outcome == "pass"]


def damage(seed: int, which: str) -> bytes:
    """One of the seeds with bytes changed, cut out, doubled or put in, as the number has it."""
    rng = np.random.default_rng(seed)
    data = bytearray(SEEDS[which][rng.integers(len(SEEDS[which]))])
    for _ in range(rng.integers(5)):
        at, size = int(rng.integers(len(data) + 1)), int(rng.integers(40))
        data[at : at + size] = (
            rng.bytes(int(rng.integers(9))),
            bytes(data[at : at + size]) * 2,
            (b"\x80", b"\xff\xff", b"\x30\x84\xff\xff\xff\xff", b"[" * 300)[rng.integers(4)],
            bytes([data[at] ^ 1 << int(rng.integers(8))]) if at < len(data) else b"",
        )[rng.integers(4)]
    return bytes(data)


def damaged(which: str) -> st.SearchStrategy[bytes]:
    """One number an example: drawing every byte's fate would take longer than reading it."""
    return st.integers(0, 2**32 - 1).map(lambda seed: damage(seed, which))


def _log(data: bytes) -> object:
    return replay(parse_log(data), "sha256")


BINARY: list[Callable[[bytes], object]] = [
    parse_report,
    parse_public,
    parse_quote,
    parse_signature,
    _log,
    parse_tpm,
    lambda data: parse_snp(data, (data,)),
]


@settings(max_examples=500)
@given(data=st.one_of(st.binary(max_size=1400), damaged("any")), which=st.sampled_from(BINARY))
def test_parsers_of_evidence_raise_nothing_else(
    data: bytes, which: Callable[[bytes], object]
) -> None:
    with suppress(EvidenceError):
        which(data)


@settings(max_examples=500)
@given(data=st.one_of(st.binary(max_size=64), damaged("DER")))
def test_parsers_of_certificates_raise_nothing_else(data: bytes) -> None:
    for parse in (
        parse_certificate,
        parse_certificates,
        parse_revocation_list,
        parse_revocation_lists,
    ):
        with suppress(EvidenceError):
            parse(data)
    load_key(data)
    with suppress(EvidenceError):
        algorithm_of(data, "anything")


@settings(max_examples=150)
@given(data=st.one_of(st.binary(max_size=200), damaged("any")))
def test_any_file_is_recognised_as_some_kind_or_none(data: bytes) -> None:
    kind = kind_of(data)
    assert kind is None or kind in KINDS


def _setting(case: Case) -> Setting:
    return Setting(
        now=datetime.fromisoformat(case.now),
        nonce=None if case.nonce is None else bytes.fromhex(case.nonce),
        roots=frozenset(map(bytes.fromhex, case.roots)),
        revocation=False,
    )


@pytest.mark.parametrize("name", [kind.name for kind in KINDS])
@settings(max_examples=60)
@given(data=st.data())
def test_no_kind_takes_what_is_no_evidence(name: str, data: st.DataObject) -> None:
    kind = kind_named(name)
    assert kind is not None
    file, case = PASSING[data.draw(st.integers(0, len(PASSING) - 1))]
    evidence = data.draw(st.one_of(st.binary(max_size=200), damaged("any")))
    companions = data.draw(st.lists(damaged("any"), max_size=2))
    along = Companions((*files_of(file, case.certificates), *companions[:1]), tuple(companions[1:]))
    try:
        found = kind.appraise(evidence, along, NO_REFERENCES.get(name, {}), _setting(case))
    except EvidenceError:
        return
    assert not found.passed, "nothing passes a policy without reference values"


@settings(max_examples=150)
@given(data=st.data())
def test_a_change_by_chance_never_passes(data: st.DataObject) -> None:
    file, case = PASSING[data.draw(st.integers(0, len(PASSING) - 1))]
    kind = kind_named(case.kind)
    assert kind is not None
    evidence = evidence_of(file, case)
    at = data.draw(st.integers(0, len(evidence) - 1))
    changed = bytearray(evidence)
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    along = Companions(files_of(file, case.certificates), files_of(file, case.others))
    try:
        found = kind.appraise(bytes(changed), along, case.policy, _setting(case))
    except EvidenceError:
        return
    if found.passed:
        whole = kind.appraise(evidence, along, case.policy, _setting(case))
        assert found.claims == whole.claims, "only another way to write the same may pass"
