"""What the proof bench reports comes from proofs that verify, and tampers that were tried."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tidegate.bench import exact_proof
from tidegate.bench.exact_proof import Bench, Case, small_model, tampers_missed, verifier_bytes
from tidegate.prove.check import Proof
from tidegate.prove.freivalds import Columns
from tidegate.prove.statement import Statement
from tidegate.prove.verdict import Pass, UnverifiableError, Verdict


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(small_model(tmp_path_factory.mktemp("bench") / "model"), threads=1)


def test_a_round_times_every_part_of_the_same_requests(bench: Bench) -> None:
    seen: list[int] = []
    rounds = bench.times(Case(8, 4, batch=2), 2, seen.append)
    assert seen == [0, 1]
    for one in rounds:
        assert min(one.plain, one.recorded, one.verified) > 0
        assert one.tax == (one.recorded + one.verified) / one.plain


def test_a_figure_is_never_made_of_refused_proofs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, columns = next(iter(bench.key.columns.items()))
    wrong = Columns(columns.r_CO, columns.weighted_CK + np.uint64(1))
    monkeypatch.setattr(
        bench, "key", replace(bench.key, columns={**bench.key.columns, place: wrong})
    )
    with pytest.raises(UnverifiableError, match="refused"):
        bench.times(Case(8, 4), 1, lambda done: None)


def test_every_tampered_proof_is_counted_and_none_is_missed() -> None:
    seen: list[int] = []
    assert tampers_missed(60, seen.append) == 0
    assert seen == list(range(60))


def test_a_blind_verifier_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(self: Bench, proof: Proof, statement: Statement) -> Verdict:
        return Pass(tier=exact_proof.Tier.FREIVALDS, coverage="nothing")

    monkeypatch.setattr(Bench, "verify", blind)
    assert tampers_missed(7, lambda done: None) == 7


def test_the_verifiers_memory_is_that_of_a_process_of_its_own(bench: Bench) -> None:
    assert 10_000_000 < verifier_bytes(bench, Case(8, 4)) < 2_000_000_000
