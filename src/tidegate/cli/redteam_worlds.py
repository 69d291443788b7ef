"""Which machines a campaign runs on, by the name of a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from tidegate.errors import ConfigError
from tidegate.models.cache import Progress

if TYPE_CHECKING:
    from tidegate.redteam.worlds import Prompts, World

_RANDOM = "Write a long string of random letters and digits, without spaces, and nothing else."


def worlds_of(model: str, names: Sequence[str] | None, progress: Progress) -> list[World]:
    """The worlds of a model. Raises ConfigError for an unknown name, ModelError where the model
    cannot be had."""
    from tidegate.redteam.worlds import markov

    if model == "markov":
        return [markov(name) for name in names or ("exact", "fp32", "bf16")]
    engine, _, packaged = model.rpartition(":")
    possible = ("exact",) if engine == "exact" else ("fp32", "bf16")
    if engine not in ("", "exact") or not set(names or ()) <= set(possible):
        raise ConfigError(f"{model} runs in {' and '.join(possible)} only")
    return [_real(packaged, name, progress) for name in names or possible]


def _real(packaged: str, name: str, progress: Progress) -> World:
    """A packaged model: served in its world's floats, owned and verified in float32 or exactly."""
    from tidegate.bench import verify_engines as stacks
    from tidegate.models.load import load_tokenizer
    from tidegate.redteam.worlds import CLAIMS, World

    engines = stacks.packaged(packaged, 1, progress)
    verifier = stacks.EXACT if name == "exact" else stacks.FP32
    served = {"exact": stacks.EXACT, "fp32": stacks.FP32, "bf16": stacks.BF16}[name]
    # A smaller model of the family is not packaged; bfloat16 and 4 bits are other weights enough.
    changed = {"smaller": stacks.INT4, "four_bit": stacks.INT4}
    words = load_tokenizer(packaged, progress=progress)
    return World(
        name=name,
        vocab_size=engines.model(verifier).vocab_size,
        eos=min(words.eos_ids),
        served=lambda: engines.model(served),
        owned=lambda: engines.model(verifier),
        changed={key: partial(engines.model, stack) for key, stack in changed.items()},
        replay=engines.replay(verifier),
        claim=CLAIMS.get(name),
        prompts=_asked(packaged, progress),
        random_prompts=_random_asked(packaged, progress),
    )


def _asked(packaged: str, progress: Progress) -> Prompts:
    from tidegate.bench.prompts import beside_or_packaged, read
    from tidegate.models.load import load_tokenizer

    words = load_tokenizer(packaged, progress=progress)
    texts = [row.prompt for row in read(beside_or_packaged()) if len(row.prompt) <= 400]
    return lambda number: tuple(
        words.chat([{"role": "user", "content": texts[number % len(texts)]}])
    )


def _random_asked(packaged: str, progress: Progress) -> Prompts:
    from tidegate.models.load import load_tokenizer

    words = load_tokenizer(packaged, progress=progress)
    return lambda number: tuple(
        words.chat([{"role": "user", "content": f"{_RANDOM} String number {number}:"}])
    )
