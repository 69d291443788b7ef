"""The compatibility matrix says what its checks say: no more, and on every page."""

from __future__ import annotations

import engine_claims
import engine_matrix
import pytest
from engine_claims import Claim, NoEvidenceError, claims, outcome, require
from engine_matrix import BEGIN, DATA, DOCUMENT, END

from tidegate.models.engine_matrix import load


@pytest.mark.parametrize("claim", claims(), ids=lambda one: f"{one.engine}: {one.feature}")
def test_each_claim_has_evidence(claim: Claim):
    assert outcome(claim) == claim.status


def test_each_claim_is_about_a_row_and_a_column_and_made_once():
    cells = [(one.engine, one.feature) for one in claims()]
    assert len(set(cells)) == len(cells)
    assert {engine for engine, _ in cells} <= set(engine_claims.ENGINES)
    assert {feature for _, feature in cells} <= set(engine_claims.ROWS)


def test_without_evidence_a_claim_is_unknown_and_a_wrong_one_is_an_error():
    def absent() -> None:
        raise NoEvidenceError("nothing was recorded")

    def wrong() -> None:
        require(False, "answers differ")

    claim = Claim("vLLM 0.32.0", engine_claims.LORA, "supported", "", absent)
    assert outcome(claim) == "unknown"
    with pytest.raises(AssertionError):
        outcome(Claim(claim.engine, claim.feature, "supported", "", wrong))


def test_what_nobody_tested_is_unknown():
    table = engine_matrix.matrix()
    claimed = {(one.engine, one.feature) for one in claims()}
    for feature, cells in table.features.items():
        for engine, cell in cells.items():
            assert (cell.status == "unknown") == ((engine, feature) not in claimed)


def test_the_packaged_matrix_is_what_the_tests_say():
    assert DATA.read_bytes() == engine_matrix.data(engine_matrix.matrix()), "run `make docs`"
    assert load() == engine_matrix.matrix()


def test_the_page_shows_what_the_tests_say():
    text = DOCUMENT.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text == engine_matrix.renewed(text, engine_matrix.matrix()), "run `make docs`"
