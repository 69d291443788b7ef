"""From tallies to the figures others rely on, each with its target and how it came about."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tidegate.bench.coding import Tally
from tidegate.bench.figures import Figure, at_least, at_most, report

PLAIN = "sum of bits over the same tokens and weak logits; plain at its best fixed temperature"


def figures(
    tallies: Mapping[tuple[str, float], Tally], main: str, vocab_size: int
) -> dict[str, Figure]:
    """All figures of one run; `main` names the weak model the targets speak of."""
    every = sum(tally.tokens for tally in tallies.values())
    exact = sum(tally.exact for tally in tallies.values())
    refused = sum(tally.refused_frames for tally in tallies.values())
    result = {
        "exact_share": at_least(
            exact / every, 1.0, unit="of tokens", n=every, how="decoded outside and equal"
        ),
        "refused_frames": at_most(
            refused, 0, unit="frames", n=every, how="frames whose replay outside differed"
        ),
    }
    own = {t: tally for (name, t), tally in tallies.items() if name == main}
    result |= _ratios(own, vocab_size)
    result |= _speed(own)
    for (name, temperature), tally in tallies.items():
        result |= _absolute(f"{name}.t{temperature:g}".replace("0.", "0"), tally)
    return result


def _ratios(own: Mapping[float, Tally], vocab_size: int) -> dict[str, Figure]:
    limits = {0.0: ("t0", 1.03), 0.7: ("t07", 0.80), 1.0: ("t1", 0.65)}
    result = {}
    for temperature, tally in own.items():
        key, limit = limits[temperature]
        result[f"{key}.coupled_over_plain"] = at_most(
            tally.coupled / tally.plain(), limit, unit="ratio", n=tally.tokens, how=PLAIN
        )
    warm = own.get(1.0)
    if warm:
        raw = math.ceil(math.log2(vocab_size))
        result["t1.coupled_over_raw"] = at_most(
            warm.coupled / (raw * warm.tokens),
            0.075,
            unit="ratio",
            n=warm.tokens,
            how=f"raw token ids of {raw} bits",
        )
        result["t1.coupled_over_kl"] = report(
            warm.coupled / warm.kl, unit="ratio", n=warm.tokens, how="KL(strong || weak) summed"
        )
    return result


def _speed(own: Mapping[float, Tally]) -> dict[str, Figure]:
    tokens = sum(tally.timed_tokens for tally in own.values())
    if not tokens:
        return {}
    encode = sum(tally.encode_seconds for tally in own.values())
    decode = sum(tally.decode_seconds for tally in own.values())
    weak = sum(tally.weak_seconds for tally in own.values())
    how = "steps of 32 streams; noise, ranking, range coding and replay, one thread"
    return {
        "coder_over_model_time": at_most(
            (encode + decode) / weak, 0.10, unit="ratio", n=tokens, how=f"both ends; {how}"
        ),
        "encode_us_per_token": at_most(1e6 * encode / tokens, 300, unit="µs", n=tokens, how=how),
        "decode_us_per_token": at_most(1e6 * decode / tokens, 300, unit="µs", n=tokens, how=how),
    }


def _absolute(key: str, tally: Tally) -> dict[str, Figure]:
    n = tally.tokens
    values = {
        "coupled": (tally.coupled, "seed-coupled, ideal length of the model's probabilities"),
        "plain": (tally.plain(), PLAIN),
        "kl": (tally.kl, "KL(strong || weak) at the sampling temperature; at T = 0 cross-entropy"),
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
    result[f"{key}.first_guess"] = report(
        tally.agreed / n, unit="of tokens", n=n, how="weak score plus noise is highest at the token"
    )
    return result
