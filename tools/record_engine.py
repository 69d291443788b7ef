"""Record what a real engine answers: python tools/record_engine.py (vllm|pooling) URL OUT.json

It has the plug-in and serves the packaged SmolLM2 in float32. What is recorded: the checks that
every replica has to pass, and three answers, each compared first with what our own sampler draws
from the same weights. For `pooling` the server gives hidden states, which are held against our own
logits. `tests/unit/models/engine` plays both back where there is no such engine.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "simulators"))

import msgspec
from transcript import Exchange, Recorder, Transcript
from vllm_server import running

from tidegate.models import tokenizer
from tidegate.models.engine_model import ModelEngine
from tidegate.models.engine_port import Ask, DrawingEngine
from tidegate.models.engine_replicas import Replicas
from tidegate.models.engine_vllm import Vllm
from tidegate.models.prepared import prepare
from tidegate.sampling.params import SamplingParams

VOCABULARY = 49_152
QUESTION = "Why does the sea look blue?"
SETTINGS = (
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.7, top_p=0.9),
    SamplingParams(
        temperature=1.0, top_k=40, frequency_penalty=0.5, logit_bias=((260, 2.0), (1000, -5.0))
    ),
)


def asks(prompt: tuple[int, ...]) -> list[Ask]:
    """What is recorded after the checks."""
    return [
        Ask(
            prompt=prompt,
            seed=bytes([number]) * 32,
            params=params,
            max_tokens=10,
            ends=(2,),
            logprobs=number == 1,
        )
        for number, params in enumerate(SETTINGS)
    ]


def drawn(engine: DrawingEngine, ask: Ask) -> list[int]:
    """The tokens of an answer."""
    drawing = engine.start(ask)
    tokens: list[int] = []
    while len(tokens) < ask.max_tokens and (not tokens or tokens[-1] not in ask.ends):
        tokens.append(drawing.take().token)
    drawing.close()
    return tokens


def _without_paths(one: Exchange) -> Exchange:
    answered = re.sub(r'"root":"[^"]*"', '"root":"smollm2"', one.answered)
    return msgspec.structs.replace(one, answered=answered)


def record_states(recorder: Recorder, folder: Path, prompt: tuple[int, ...]) -> tuple[str, str]:
    """Version and name of a server whose states give our logits. Raises SystemExit otherwise."""
    import numpy as np

    from tidegate.models import transformers_torch
    from tidegate.models.replay_transformers import TransformersReplay
    from tidegate.models.replay_vllm import VllmReplay, open_head

    own = TransformersReplay(transformers_torch.load(folder, dtype="float32", threads=1))
    replay = VllmReplay(recorder.url, open_head(folder, "float32"))
    answer = (prompt[:4], prompt[4:8])
    (theirs_LV,), (ours_LV,) = replay.logits([answer]), own.logits([answer])
    apart = float(np.abs(theirs_LV - ours_LV).max())
    if not apart < 1e-3:
        raise SystemExit(f"logits differ by {apart:g}")
    numerics = replay.describe().numerics
    replay.close()
    return numerics.rpartition(" ")[2], replay.describe().name


def record_answers(recorder: Recorder, folder: Path, prompt: tuple[int, ...]) -> tuple[str, str]:
    """Version and name of a server that draws as we do. Raises SystemExit otherwise."""
    from tidegate.models import transformers_torch  # torch is needed for recording alone

    own = ModelEngine(transformers_torch.load(folder, dtype="float32", threads=1))
    engine = Replicas(Vllm(), [recorder.url], vocab_size=VOCABULARY)
    for ask in asks(prompt):
        theirs, ours = drawn(engine, ask), drawn(own, ask)
        if theirs != ours:
            raise SystemExit(f"the engine drew {theirs}, we draw {ours}")
    said = engine.replicas()[0].version, engine.describe().name
    engine.close()
    return said


def main(kind: str, url: str, out: str) -> None:
    """Record, compare, write."""
    record = {"vllm": record_answers, "pooling": record_states}[kind]
    folder = prepare("smollm2", dtype="float32")
    prompt = tuple(tokenizer.load(folder).chat([{"role": "user", "content": QUESTION}]))
    with running(Recorder(url)) as recorder:
        version, model = record(recorder, folder, prompt)
    transcript = Transcript(
        engine="vllm",
        version=version,
        model=model,
        how="tools/record_engine.py, SmolLM2-135M-Instruct as float32",
        exchanges=tuple(_without_paths(one) for one in recorder.exchanges),
    )
    Path(out).write_bytes(msgspec.json.format(msgspec.json.encode(transcript), indent=1) + b"\n")
    print(f"{len(recorder.exchanges)} exchanges, all equal to ours")


if __name__ == "__main__":
    main(*sys.argv[1:])
