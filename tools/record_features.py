"""Record whether an engine's answers are ours with a feature on, for the compatibility matrix.

    python tools/record_features.py URL OUT.json FEATURE... -- FLAGS AS THE SERVER WAS STARTED

Six sampled answers of SmolLM2 in float32, three of them after one long prompt that the server has
then read before, each held against our own sampler over the same weights. Counters of the server
say whether a feature was at work. What OUT holds of other features stays.
"""

from __future__ import annotations

import sys
from pathlib import Path

import httpx2
import msgspec
from record_engine import VOCABULARY, drawn

from tidegate.models import tokenizer
from tidegate.models.engine_model import ModelEngine
from tidegate.models.engine_port import Ask
from tidegate.models.engine_replicas import Replicas
from tidegate.models.engine_vllm import Vllm
from tidegate.models.prepared import prepare
from tidegate.sampling.params import SamplingParams

LONG = "Tide tables say when water rises and when it falls in a harbour. " * 14
TEXTS = (LONG, LONG, LONG, "Name three ships.", "What is a quay?", LONG + "Why?")
COUNTERS = ("vllm:prefix_cache_hits_total", "vllm:num_preemptions_total")


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`equal` of `asked` answers were ours, with the server started with `flags`."""

    engine: str
    version: str
    flags: str
    asked: int
    equal: int
    tokens: int
    counters: dict[str, float]


def main(url: str, out: Path, features: list[str], flags: str) -> None:
    """Ask, compare, write."""
    from tidegate.models import transformers_torch

    folder = prepare("smollm2", dtype="float32")
    words = tokenizer.load(folder)
    own = ModelEngine(transformers_torch.load(folder, dtype="float32", threads=1))
    engine = Replicas(Vllm(), [url], vocab_size=VOCABULARY)
    equal = tokens = 0
    for number, text in enumerate(TEXTS):
        ask = Ask(
            prompt=tuple(words.chat([{"role": "user", "content": text}])),
            seed=bytes([number + 1]) * 32,
            params=SamplingParams(temperature=0.8, top_p=0.95),
            max_tokens=10,
            ends=(2,),
        )
        theirs = drawn(engine, ask)
        equal += theirs == drawn(own, ask)
        tokens += len(theirs)
    found = Feature(
        engine="vllm",
        version=engine.replicas()[0].version,
        flags=flags,
        asked=len(TEXTS),
        equal=equal,
        tokens=tokens,
        counters=counters(url),
    )
    engine.close()
    known = msgspec.json.decode(out.read_bytes(), type=dict[str, Feature]) if out.exists() else {}
    known |= dict.fromkeys(features, found)
    text = msgspec.json.encode(dict(sorted(known.items())))
    out.write_bytes(msgspec.json.format(text, indent=1) + b"\n")
    print(found)


def counters(url: str) -> dict[str, float]:
    """What the server counted, of `COUNTERS`."""
    lines = httpx2.get(url + "/metrics", trust_env=False).text.splitlines()
    return {
        name: sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))
        for name in COUNTERS
    }


if __name__ == "__main__":
    split = sys.argv.index("--")
    address, target, *names = sys.argv[1:split]
    main(address, Path(target), names, " ".join(sys.argv[split + 1 :]))
