"""From tallies to the figures others rely on, each with its target and how it came about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tidegate.bench.coding import Tally
from tidegate.bench.figures import Figure, at_least, at_most, report

PLAIN = "sum of bits over the same tokens and weak logits; plain at its best fixed temperature"


Tallies = Mapping[tuple[str, float], Tally]


def figures(main: Tallies, more: Tallies, vocab_size: int) -> dict[str, Figure]:
    """All figures of one run.

    The targets speak of `main`, one pair of models with `vocab_size` tokens; `more` holds other
    pairs, and the n-gram's among them gives the times at V = 49,152.
    """
    together = {**main, **more}
    every = sum(tally.tokens for tally in together.values())
    exact = sum(tally.exact for tally in together.values())
    refused = sum(tally.refused_frames for tally in together.values())
    result = {
        "exact_share": at_least(
            exact / every,
            1.0,
            unit="of tokens",
            n=every,
            how="decoded outside and equal; one weak forward feeds both ends here",
        ),
        "refused_frames": at_most(
            refused, 0, unit="frames", n=every, how="frames whose replay outside differed"
        ),
    }
    own = {temperature: tally for (_, temperature), tally in main.items()}
    # The targets are for two real models; the n-gram is too weak for them, and too fast.
    real = not any(name == "ngram" for name, _ in main)
    result |= _ratios(own, vocab_size, bound=real)
    if real:
        result |= _against_model(own)
    ngram = [tally for (name, _), tally in together.items() if name == "ngram"]
    result |= _times("", ngram, "V = 49,152")
    result |= _times(f"v{vocab_size}.", list(own.values()), f"V = {vocab_size:,}")
    for (name, temperature), tally in together.items():
        result |= _absolute(f"{name}.t{temperature:g}".replace("t0.", "t0"), tally)
    return result


def _ratios(own: Mapping[float, Tally], vocab_size: int, *, bound: bool) -> dict[str, Figure]:
    """Coupled over plain, raw ids and KL; without targets unless `bound`."""

    def held(value: float, limit: float, n: int, how: str) -> Figure:
        if bound and limit < math.inf:
            return at_most(value, limit, unit="ratio", n=n, how=how)
        return report(value, unit="ratio", n=n, how=how)

    limits = {0.0: ("t0", 1.03), 0.7: ("t07", 0.80), 1.0: ("t1", 0.65)}
    result = {}
    for temperature, tally in own.items():
        key, limit = limits.get(temperature, (f"t{temperature:g}", math.inf))
        result[f"{key}.coupled_over_plain"] = held(
            tally.coupled / tally.plain(), limit, tally.tokens, PLAIN
        )
    warm = own.get(1.0)
    if warm:
        raw = math.ceil(math.log2(vocab_size))
        result["t1.coupled_over_raw"] = held(
            warm.coupled / (raw * warm.tokens), 0.075, warm.tokens, f"raw token ids of {raw} bits"
        )
        result["t1.coupled_over_kl"] = report(
            warm.coupled / warm.kl, unit="ratio", n=warm.tokens, how="KL(strong || weak) summed"
        )
    return result


TIMED = "steps of 32 streams; noise, ranking, range coding and replay, one thread"


def _against_model(own: Mapping[float, Tally]) -> dict[str, Figure]:
    tokens = sum(tally.timed_tokens for tally in own.values())
    weak = sum(tally.weak_seconds for tally in own.values())
    coder = sum(tally.encode_seconds + tally.decode_seconds for tally in own.values())
    if not weak:
        return {}
    return {
        "coder_over_model_time": at_most(
            coder / weak, 0.10, unit="ratio", n=tokens, how=f"both ends; {TIMED}"
        )
    }


def _times(prefix: str, tallies: Sequence[Tally], vocabulary: str) -> dict[str, Figure]:
    tokens = sum(tally.timed_tokens for tally in tallies)
    if not tokens:
        return {}
    seconds = {
        "encode": sum(tally.encode_seconds for tally in tallies),
        "decode": sum(tally.decode_seconds for tally in tallies),
    }
    result = {}
    for end, total in seconds.items():
        key, value, how = (
            f"{prefix}{end}_us_per_token",
            1e6 * total / tokens,
            f"{vocabulary}; {TIMED}",
        )
        result[key] = (
            report(value, unit="µs", n=tokens, how=how)
            if prefix
            else at_most(value, 300, unit="µs", n=tokens, how=how)
        )
    return result


def _absolute(key: str, tally: Tally) -> dict[str, Figure]:
    n = tally.tokens
    values = {
        "coupled": (tally.coupled, "seed-coupled, ideal length of the model's probabilities"),
        "plain": (tally.plain(), PLAIN),
    }
    if tally.kl:
        values |= {
            "kl": (tally.kl, "KL(strong || weak) at the sampling temperature"),
            "entropy": (tally.entropy, "entropy of the strong model's distribution"),
        }
    result = {
        f"{key}.{name}": report(bits / n, unit="bits/token", n=n, how=how)
        for name, (bits, how) in values.items()
    }
    if tally.kl:
        result[f"{key}.over_kl"] = report(
            tally.coupled / tally.kl, unit="ratio", n=n, how="coupled over KL"
        )
        result[f"{key}.perplexity_over_strong"] = report(
            2 ** (tally.kl / n), unit="ratio", n=n, how="how much worse the weak model is: 2 ** KL"
        )
    result[f"{key}.first_guess"] = report(
        tally.agreed / n, unit="of tokens", n=n, how="weak score plus noise is highest at the token"
    )
    return result
