"""The tiers of proof, each with what it leaves open. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Tier(StrEnum):
    """How much a verdict rests on. The value is what receipts and the command line say."""

    RECEIPT = "receipt"
    REPLAY = "replay"
    PROJECT = "project"
    FREIVALDS = "freivalds"
    ZERO_KNOWLEDGE = "zero-knowledge"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What people read of a tier. `open` is what no verdict of this tier covers."""

    title: str
    shows: str
    open: tuple[str, ...]


_SERVED: Final = "that the user was shown this answer: compare what he got with the statement"
_TIMING: Final = "when and how the answer was sent, and everything else beside it"

MEANING: Final = {
    Tier.RECEIPT: Meaning(
        "T0 receipt",
        "who answers for which model, request, answer and trace",
        ("that the model named gives these tokens; ask for a replay or a trace", _TIMING),
    ),
    Tier.REPLAY: Meaning(
        "T1 replay",
        "running the named weights again gives the same bits at the positions looked at",
        ("positions that were not looked at", _SERVED, _TIMING),
    ),
    Tier.PROJECT: Meaning(
        "T2 project (monitoring)",
        "float products agree with the weights' projections up to rounding",
        (
            "anything smaller than the tolerance, which whoever knows it can use",
            "attention, norms and activations between the products",
            "tokens outside the opened candidates, except by the projection of the head",
            _SERVED,
            _TIMING,
        ),
    ),
    Tier.FREIVALDS: Meaning(
        "T3 freivalds",
        "every integer product is the named weights', everything else was computed again",
        (
            "a prover who knows the verifier's key: rotate it if that may be so",
            "whether the owner made the key from the weights that he names",
            _SERVED,
            _TIMING,
        ),
    ),
    Tier.ZERO_KNOWLEDGE: Meaning(
        "T4 zero knowledge", "nothing yet", ("everything: this tier is not built",)
    ),
}
