"""What a campaign runs on: who serves, who owns, who verifies, and what is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tidegate.errors import ConfigError
from tidegate.models.port import Model
from tidegate.redteam.drawing import normals
from tidegate.redteam.examiner import (
    Claim,
    Forced,
    Standard,
    calibrate,
    honest_answers,
)
from tidegate.redteam.lab import Honest, serve
from tidegate.redteam.machines import EXACT, LAWS, RANDOM, MarkovModel, MarkovReplay, NoisyModel
from tidegate.redteam.outer import Outer
from tidegate.sampling.params import SamplingParams

Progress = Callable[[str, int, int], None]

Prompts = Callable[[int], tuple[int, ...]]
"""The n-th prompt's token ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The machines of one campaign. Models are made anew where they are needed: they keep state.

    `served`: the honest stack beside the weights. `owned`: the attacker's own, which is the
    verifier's, one token at a time; so he can tell what the verifier will see. `changed`: other
    weights, by name. `claim` None: exact machines.
    """

    name: str
    vocab_size: int
    eos: int
    served: Callable[[], Model]
    owned: Callable[[], Model]
    changed: dict[str, Callable[[], Model]]
    replay: Forced
    claim: Claim | None
    prompts: Prompts
    random_prompts: Prompts


_EVENTS = 16
"""Over as many honest tokens: the least share that they are asked to carry. Half of them count, and
three exceptions among those are then still allowed."""

CLAIMS = {
    "fp32": Claim(margins=(1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2), flagged=1e-4, dangerous=1e-4),
    "bf16": Claim(
        margins=(0.02, 0.04, 0.06, 0.09, 0.13, 0.18, 0.25, 0.35, 0.5), flagged=5e-3, dangerous=2e-3
    ),
}
"""By noise law: margins to try, and what honest tokens may be flagged for at most."""


def markov(law_name: str) -> World:
    """The small model, with a stated noise law between the honest server and the verifier.

    Raises ConfigError for an unknown law.
    """
    if law_name not in LAWS:
        raise ConfigError(f"no noise law is called {law_name!r}; known: {', '.join(LAWS)}")
    law, model = LAWS[law_name], MarkovModel()
    return World(
        name=law_name,
        vocab_size=model.vocab_size,
        eos=min(model.eos_ids),
        served=lambda: MarkovModel() if law is EXACT else NoisyModel(MarkovModel(), law),
        owned=MarkovModel,
        changed={
            "smaller": lambda: MarkovModel(kept=0.75),
            "four_bit": lambda: MarkovModel(four_bit=True),
        },
        replay=MarkovReplay(model),
        claim=CLAIMS.get(law_name),
        prompts=lambda number: _prompt(number, model.vocab_size),
        random_prompts=lambda number: (RANDOM, *_prompt(number, model.vocab_size)),
    )


def standard_of(world: World, tokens: int, progress: Progress) -> Standard:
    """Calibrate on `tokens` honest tokens, and claim no more than so many can carry. Exact machines
    have nothing to calibrate.

    Raises SampleTooSmallError where they are too few for the world's claim.
    """
    if world.claim is None:
        return Standard(vocab_size=world.vocab_size)
    outer, model = Outer(world.owned(), f"calibration {world.name}"), world.served()
    done = 0
    stage = f"{world.name}: honest answers"
    while done < tokens:
        jobs = [
            outer.ask(world.prompts(len(outer.jobs)), SamplingParams(), STREAM_TOKENS)
            for _ in range(STREAMS)
        ]
        serve(outer, model, jobs, Honest(world.vocab_size))
        done += sum(len(job.tokens) for job in jobs)
        progress(stage, min(done, tokens), tokens)
    outer.close()
    answers = honest_answers(outer, world.replay, world.claim.margins, world.vocab_size)
    least = _EVENTS / tokens
    claim = replace(
        world.claim,
        flagged=max(world.claim.flagged, least),
        dangerous=max(world.claim.dangerous, least),
    )
    return calibrate(answers, claim, world.vocab_size, world.name)


STREAMS = 32
"""Answers that run together."""

STREAM_TOKENS = 48
"""Tokens an answer may have."""


def _prompt(number: int, vocab_size: int) -> tuple[int, ...]:
    """Three drawn tokens; never the one that asks for random characters at the front."""
    drawn = normals(f"prompt {number}".encode(), 3)
    ids = [2 + int(abs(float(one)) * 1e6) % (vocab_size - 2) for one in drawn]
    # The number itself, so that two prompts are never the same request.
    return (*ids, 2 + number % (vocab_size - 2))
