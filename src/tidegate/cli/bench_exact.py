"""What `tidegate bench exact` measures, a part at a time; each part can run alone."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tidegate.bench.figures import Figure, Result
from tidegate.bench.prompts import Prompt, beside_or_packaged, read
from tidegate.cli.bench import AsJson, Only, Prompts, chosen_of, finish
from tidegate.cli.progress import bars
from tidegate.errors import ModelError
from tidegate.models.cache import Progress
from tidegate.models.port import Model

SMOLLM2 = "smollm2"
ACCURACY = {
    # Enough for a standard error of a third of the target, and for the time a bench may take.
    "smollm2": (SMOLLM2, 8_000),
    "qwen": ("qwen2.5-coder-0.5b", 5_000),
}
"""Key → packaged name, and tokens to read."""

IDENTITY_TOKENS = 20_480
FLOAT_TOKENS = 1_000
TURNS = 5

Part = Callable[[Path | None, Progress], dict[str, Figure]]
"""Takes a file of prompts, or None for the usual ones, and a progress bar."""


def exact(
    as_json: AsJson = False,
    only: Only = None,
    prompts: Prompts = None,
) -> None:
    """The integer-exact engine: equal bits, accuracy, speed, proofs; beside torch and llama.cpp.

    Parts: identity (the same bits however it runs), accuracy (perplexity and tasks against fp32),
    speed (tokens a second against bf16), proof (what it costs to check without the weights),
    student (bits a token with the packaged student outside).
    """
    chosen = chosen_of(only, PARTS)
    figures: dict[str, Figure] = {}
    with bars() as progress:
        for name in chosen:
            figures |= PARTS[name](prompts, progress)
    finish(Result("exact", figures), as_json)


def identity(prompts: Path | None, progress: Progress) -> dict[str, Figure]:
    """The same bits in every way of running, and how float engines fare."""
    from tidegate.bench import exact_float, exact_identity
    from tidegate.models import tokenizer
    from tidegate.models.prepared import prepare

    source, converted = prepare(SMOLLM2, progress=progress), _converted(SMOLLM2, progress)
    words = tokenizer.load(source)
    texts, total = [], 0
    for prompt in _mixed(prompts):
        texts.append(words.chat([{"role": "user", "content": prompt.prompt}]))
        total += len(texts[-1])
        if total >= IDENTITY_TOKENS:
            break
    few = exact_identity.beginning(texts, FLOAT_TOKENS)
    return exact_identity.measure(converted, texts, progress) | exact_float.measure(
        source, few, progress
    )


def accuracy(prompts: Path | None, progress: Progress) -> dict[str, Figure]:
    """Perplexity and right answers against the same weights in fp32."""
    from tidegate.bench import exact_accuracy
    from tidegate.models.exact.calibrate import calibration_prompts
    from tidegate.models.prepared import prepare

    seen = {prompt.id for prompt in calibration_prompts()}
    unseen = [prompt.prompt for prompt in _mixed(prompts) if prompt.id not in seen]
    figures: dict[str, Figure] = {}
    for key, (name, tokens) in ACCURACY.items():
        figures |= exact_accuracy.measure(
            key,
            prepare(name, progress=progress),
            _converted(name, progress),
            unseen,
            tokens=tokens,
            progress=progress,
        )
    return figures


def speed(prompts: Path | None, progress: Progress) -> dict[str, Figure]:
    """Tokens a second beside the peers, on all cores."""
    from tidegate.bench import exact_speed
    from tidegate.models import tokenizer, transformers_torch
    from tidegate.models.exact import load as exact_load
    from tidegate.models.prepared import prepare

    cores = len(os.sched_getaffinity(0))
    source, converted = prepare(SMOLLM2, progress=progress), _converted(SMOLLM2, progress)
    words = tokenizer.load(source)
    tokens = [token for prompt in _mixed(prompts)[:64] for token in words.encode(prompt.prompt)]
    with tempfile.TemporaryDirectory() as folder:
        engines: dict[str, Model] = {
            "exact": exact_load.load(converted, threads=cores),
            "bf16": transformers_torch.load(source, dtype="bfloat16", threads=cores),
            "fp32": transformers_torch.load(source, dtype="float32", threads=cores),
        }
        engines |= _llama_cpp(SMOLLM2, Path(folder), cores, progress)
        return exact_speed.measure(engines, tokens, turns=TURNS, progress=progress)


def proof(_prompts: Path | None, progress: Progress) -> dict[str, Figure]:
    """What proofs cost and whether a tampered one passes; over the packaged model's own answers."""
    from tidegate.bench import exact_proof
    from tidegate.models.exact import format as folder_format

    converted = folder_format.read(_converted(SMOLLM2, progress))
    cores = len(os.sched_getaffinity(0))
    return exact_proof.figures(converted, threads=cores, progress=progress)


def student(_: Path | None, progress: Progress) -> dict[str, Figure]:
    """Bits a token with the packaged student outside; its held-out prompts are packaged."""
    from tidegate.bench import exact_student

    return exact_student.measure(threads=len(os.sched_getaffinity(0)), progress=progress)


PARTS: Mapping[str, Part] = {
    "identity": identity,
    "accuracy": accuracy,
    "speed": speed,
    "proof": proof,
    "student": student,
}


def _converted(name: str, progress: Progress) -> Path:
    from tidegate.models.exact.convert import prepare_exact

    return prepare_exact(name, progress=progress)


def _mixed(path: Path | None) -> list[Prompt]:
    """Prompts of all sources in a fixed order that mixes them."""
    rows = read(path or beside_or_packaged())
    return sorted(rows, key=lambda row: hashlib.sha256(row.id.encode()).digest())


def _llama_cpp(name: str, folder: Path, threads: int, progress: Progress) -> dict[str, Model]:
    """The model in Q8_0 on llama.cpp where that is installed; else nothing."""
    if importlib.util.find_spec("llama_cpp") is None:
        return {}
    import llama_cpp

    from tidegate.models import llamacpp
    from tidegate.models.sources import locate

    made = folder / "q8_0.gguf"
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    settings.allow_requantize = True
    settings.nthread = threads
    given = str(locate(name, None, progress)).encode()
    if llama_cpp.llama_model_quantize(given, str(made).encode(), ctypes.byref(settings)):
        raise ModelError(f"llama.cpp could not make Q8_0 of {name}")
    return {"q8_0": llamacpp.load(made, threads=threads)}
