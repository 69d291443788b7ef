"""The campaign, small: every attacker of the catalogue against the product's own verifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from tidegate.errors import ConfigError
from tidegate.redteam import campaign
from tidegate.redteam.results import CampaignResult, Result
from tidegate.redteam.worlds import markov
from tidegate.verify.scores_rows import F32Array

DECODED = ("full_stego", "duty_10", "admissible", "shaped", "edge", "colluding", "colluding_cold")
"""Attacks whose receiver decodes an arithmetic code: all but the last bits of an answer arrive."""


@pytest.fixture(scope="module")
def rounded() -> CampaignResult:
    """All of it, between machines that differ as bfloat16 and float32 do."""
    return campaign.run([markov("bf16")], brief=True)


@pytest.fixture(scope="module")
def exact() -> CampaignResult:
    chosen = ("full_stego", "duty_10", "shaped", "noise_matching", "hot", "wrong_seed", "four_bit")
    return campaign.run([markov("exact")], attacks=chosen, brief=True)


def one(found: CampaignResult, attack: str) -> Result:
    (result,) = (result for result in found.results if result.attack == attack)
    return result


def test_no_attacker_gets_more_bits_than_his_bound(
    rounded: CampaignResult, exact: CampaignResult
) -> None:
    above = [
        (one.world, one.attack, one.got, one.bound, one.bound_bits)
        for one in (*rounded.results, *exact.results)
        if not one.within_bound
    ]
    assert above == []


def test_all_that_must_be_caught_is_caught_in_time(
    rounded: CampaignResult, exact: CampaignResult
) -> None:
    late = [
        (one.world, one.attack, one.tokens_to_alarm, one.limit)
        for one in (*rounded.results, *exact.results)
        if not one.caught_in_time
    ]
    assert late == []


def test_every_attack_of_the_catalogue_runs(rounded: CampaignResult) -> None:
    assert tuple(result.attack for result in rounded.results) == campaign.names()


@pytest.mark.parametrize("attack", DECODED)
def test_receivers_decode_what_was_sent(rounded: CampaignResult, attack: str) -> None:
    result = one(rounded, attack)
    assert result.bits_sent > 30
    assert 0.6 * result.bits_sent < result.bits_received <= result.bits_sent


def test_receivers_who_only_see_tokens_read_them_too(rounded: CampaignResult) -> None:
    for attack in ("noise_matching", "colour_list", "failing", "grinding"):
        result = one(rounded, attack)
        assert 0.2 * result.bits_sent < result.bits_received <= result.bits_sent, attack


def test_who_stays_within_the_margin_is_not_caught_and_gets_little(
    rounded: CampaignResult,
) -> None:
    full = one(rounded, "full_stego")
    for attack in ("admissible", "shaped", "noise_matching"):
        result = one(rounded, attack)
        assert result.caught_by is None
        assert 0 < result.bits_a_token < full.bits_a_token / 10


def test_between_exact_machines_nothing_is_left_to_choose(exact: CampaignResult) -> None:
    for attack in ("shaped", "noise_matching"):
        assert one(exact, attack).bits_sent == 0.0
    assert one(exact, "full_stego").tokens_to_alarm <= 5


def test_a_verifier_who_sees_nothing_is_shown_to_be_one() -> None:
    class Blind:
        """Finds whatever was served the only token that could be."""

        def logits(
            self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]
        ) -> Iterator[F32Array]:
            for _, outputs in sequences:
                logits_TV = np.full((len(outputs), 1024), -50, np.float32)
                logits_TV[np.arange(len(outputs)), list(outputs)] = 50
                yield logits_TV

    world = replace(markov("exact"), replay=Blind())
    found = campaign.run([world], attacks=["full_stego"], brief=True)
    assert not found.holds
    assert found.above_bound == 1
    assert one(found, "full_stego").caught_by is None


def test_an_unknown_attack_is_refused() -> None:
    with pytest.raises(ConfigError, match="telepathy"):
        campaign.run([], attacks=["telepathy"])
