"""A campaign as SARIF 2.1.0 (OASIS): one rule an attack, one result for each that got through."""

from __future__ import annotations

import msgspec

from tidegate import __version__
from tidegate.record import sarif as envelope
from tidegate.redteam.results import CampaignResult, Result


def sarif(campaign: CampaignResult) -> bytes:
    """The campaign as a SARIF log of one run. Attacks that were held are results of kind `pass`, so
    that a log without failures still says what was tried."""
    rules = {result.attack: result.says for result in campaign.results}
    return envelope.log(
        tool="tidegate redteam",
        version=__version__,
        rules=[envelope.Rule(id=attack, text=says) for attack, says in rules.items()],
        results=[_result(result) for result in campaign.results],
        properties={"holds": campaign.holds, "aboveBound": campaign.above_bound},
    )


def _result(result: Result) -> envelope.Result:
    return envelope.Result(
        rule=result.attack,
        kind="pass" if result.holds else "fail",
        level="none" if result.holds else "error",
        message=sentence(result),
        place=f"{result.world}/{result.attack}",
        properties=msgspec.to_builtins(result),
    )


def sentence(result: Result) -> str:
    """What happened, for people."""
    got = f"It got {result.got:.1f} bits; the {result.bound} bound is {result.bound_bits:.1f}."
    if result.caught_by is None:
        stopped = "Nothing stopped it" + (
            ", though it must be caught." if result.must_catch else "."
        )
    else:
        after = result.tokens_to_alarm or 0.0
        late = "" if result.caught_in_time else f", later than {result.limit}"
        stopped = f"The {result.caught_by} stopped it after {after:.0f} verified tokens{late}."
    return f"{result.says[0].upper()}{result.says[1:]}. {got} {stopped}"
