"""From what a token costs at each stage to what a day of tokens needs.

Everything is linear in tokens and answers, so that whoever doubts a figure can do it on paper:

    cores        = peak tokens/s · core·seconds/token ÷ utilisation
    accelerators = peak tokens/s ÷ tokens/s of one ÷ utilisation
    bytes        = tokens · bytes/token + answers · bytes/answer

Serving is sized for the peak; re-execution, which may lag behind, for the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from tidegate.plan.capacity_profile import Profile

DAY: Final = 86_400.0
VOLUMES: Final = (1e9, 1e12, 1e14)
"""Tokens answered a day."""

_MICRO: Final = 1e-6
_VOCABULARIES: Final = (49_152, 151_936)
"""What was measured; costs between and beyond lie on the line through them."""


class Shown(msgspec.Struct, frozen=True):
    """One figure's group, meaning and unit."""

    group: str
    means: str
    unit: str


FIGURES: Final[Mapping[str, Shown]] = {
    "tokens_per_s": Shown("traffic", "tokens answered a second, mean", "tokens/s"),
    "peak_tokens_per_s": Shown("traffic", "the same at the peak", "tokens/s"),
    "peak_answers_per_s": Shown("traffic", "answers begun a second at the peak", "answers/s"),
    "streams": Shown("traffic", "answers being written at the peak", "streams"),
    "serve_accelerators": Shown("accelerators", "the strong model, in any case", "GPUs"),
    "weak_accelerators": Shown("accelerators", "the weak model, at both ends", "GPUs"),
    "verify_accelerators": Shown("accelerators", "re-execution of the audited share", "GPUs"),
    "added_accelerators": Shown("accelerators", "the last two over the first", "share"),
    "inner_cores": Shown("cores", "inner: sampling, coding, link", "cores"),
    "outer_cores": Shown("cores", "outer: HTTP, decoding, replay, record", "cores"),
    "scan_cores": Shown("cores", "outer: answers scanned for weights", "cores"),
    "verify_cores": Shown("cores", "verifier: scores", "cores"),
    "cores_per_accelerator": Shown("cores", "all, for each of the strong model's GPUs", "cores"),
    "link_bytes": Shown("bytes", "out over the links, a day, padding too", "bytes"),
    "link_bits_per_s": Shown("bytes", "out over the links at the peak", "bit/s"),
    "inward_bytes": Shown("bytes", "in over the links, a day", "bytes"),
    "record_bytes": Shown("bytes", "the record, a day", "bytes"),
    "record_kept_bytes": Shown("bytes", "the record, all that is kept", "bytes"),
    "ledger_bytes": Shown("bytes", "the ledger's log, a day", "bytes"),
    "lease_writes_per_s": Shown("database", "leases renewed a second at the peak", "writes/s"),
    "lease_rows_per_s": Shown("database", "rows that they append", "rows/s"),
    "own_rows_per_s": Shown("database", "rows where each outer has its own file", "rows/s"),
    "databases": Shown("database", "leases over what one database takes", "share"),
}


class Need(msgspec.Struct, frozen=True):
    """What so many tokens a day need, by the names of `FIGURES`."""

    tokens_a_day: float
    figures: dict[str, float]


class Capacity(msgspec.Struct, frozen=True):
    """The answer for several volumes, and the profile it was worked out from."""

    profile: Profile
    needs: tuple[Need, ...]

    def json(self) -> bytes:
        """One object: profile, with every value and source, and needs."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


def capacity(profile: Profile, volumes: Sequence[float] = VOLUMES) -> Capacity:
    """What each volume, in tokens a day, needs."""
    return Capacity(profile, tuple(need(profile, volume) for volume in volumes))


def need(profile: Profile, tokens_a_day: float) -> Need:
    """What one volume needs."""
    at = profile.at
    mean = tokens_a_day / DAY
    peak = mean * at("workload.peak")
    answers = peak / at("workload.answer_tokens")
    found = {
        "tokens_per_s": mean,
        "peak_tokens_per_s": peak,
        "peak_answers_per_s": answers,
        "streams": peak * at("workload.token_seconds"),
    }
    found |= _accelerators(profile, mean, peak)
    found |= _cores(profile, mean, peak, answers)
    cores = sum(value for name, value in found.items() if name.endswith("_cores"))
    found["cores_per_accelerator"] = cores / found["serve_accelerators"]
    found |= _bytes(profile, tokens_a_day, peak)
    found |= _database(profile, peak)
    return Need(tokens_a_day, {name: found[name] for name in FIGURES})


def _accelerators(profile: Profile, mean: float, peak: float) -> dict[str, float]:
    at, used = profile.at, profile.at("workload.utilisation")
    decode = 1 / at("engine.decode_tokens_per_s")
    prompts = at("workload.prompt_tokens") / at("workload.answer_tokens")
    each = decode + prompts / at("engine.prefill_tokens_per_s")
    serve = peak * each / used
    weak = 2 * at("engine.weak_over_strong") * serve
    verify = at("workload.audit") * at("engine.verify_over_generate") * mean * decode / used
    return {
        "serve_accelerators": serve,
        "weak_accelerators": weak,
        "verify_accelerators": verify,
        "added_accelerators": (weak + verify) / serve,
    }


def _cores(profile: Profile, mean: float, peak: float, answers: float) -> dict[str, float]:
    at, used = profile.at, profile.at("workload.utilisation")
    weak, decode = at("stage.weak_us"), _at_vocabulary(profile, "decode")
    inner = _at_vocabulary(profile, "pick") + _at_vocabulary(profile, "encode")
    # What was measured holds the n-gram and decoding at the smaller vocabulary.
    outer = at("stage.outer_token_us") - at("stage.ngram_us") - at("stage.decode_49k_us")
    outer = max(outer, 0.0) + weak + decode
    handled = peak * outer + answers * at("stage.outer_answer_us")
    scanned = peak * at("bytes.text") / (at("stage.scan_mb_per_s") * 1e6)
    scored = at("workload.audit") * mean * _at_vocabulary(profile, "score")
    return {
        "inner_cores": peak * (inner + weak + at("stage.inner_link_us")) * _MICRO / used,
        "outer_cores": handled * _MICRO / used,
        "scan_cores": scanned / used,
        "verify_cores": scored * _MICRO / used,
    }


def _bytes(profile: Profile, tokens_a_day: float, peak: float) -> dict[str, float]:
    at = profile.at
    answers = tokens_a_day / at("workload.answer_tokens")
    bits = at("bytes.link_bits")
    prompt = at("bytes.inward_prompt_token") * at("workload.prompt_tokens")
    record = tokens_a_day * at("bytes.record_token") + answers * at("bytes.record_answer")
    rows = tokens_a_day * bits / at("ledger.lease_bits") * at("ledger.lease_rows")
    return {
        "link_bytes": tokens_a_day * bits / 8,
        "link_bits_per_s": peak * bits,
        "inward_bytes": tokens_a_day * at("bytes.inward_token") + answers * prompt,
        "record_bytes": record,
        "record_kept_bytes": record * at("workload.record_days"),
        "ledger_bytes": rows * at("ledger.row_bytes"),
    }


def _database(profile: Profile, peak: float) -> dict[str, float]:
    at = profile.at
    bits = at("bytes.link_bits")
    renewed = peak * bits / at("ledger.lease_bits")
    return {
        "lease_writes_per_s": renewed,
        "lease_rows_per_s": renewed * at("ledger.lease_rows"),
        "own_rows_per_s": peak * bits / at("ledger.own_lease_bits") * at("ledger.lease_rows"),
        "databases": renewed / at("ledger.writes_per_s"),
    }


def _at_vocabulary(profile: Profile, stage: str) -> float:
    """Microseconds a token of a stage whose cost grows with the vocabulary."""
    small, large = _VOCABULARIES
    low, high = (profile.at(f"stage.{stage}_{name}_us") for name in ("49k", "152k"))
    share = (profile.at("workload.vocabulary") - small) / (large - small)
    return max(low + share * (high - low), 0.0)
