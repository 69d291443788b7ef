"""Write the packaged student: `python tools/export_student.py --work FOLDER --judged FOLDER`.

1. Quantise what `tools/train_student.py` left in its work folder, int8 by output channel, in the
   layout of the exact engine.
2. Write the mixture's manifest beside it: the student's tokens, its n-gram, its provenance.
3. Read the held-out answers with the result and with the strong model, and put into the manifest
   how much worse it is.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress, TaskID
from student_answers import read_part
from student_data import conversations
from train_student import CLASSES, shape_of

from tidegate.models import mixture, ngram
from tidegate.models.card import Comparison, Text, compare
from tidegate.models.exact import format as exact_format
from tidegate.models.exact.rotation import tables
from tidegate.models.exact.shape import LAYER_OPS, Shape
from tidegate.models.exact.weights import integer_rows
from tidegate.models.load import load_strong, load_tokenizer

NAME = "student_smollm2"
Array = NDArray[Any]


def tensors(shape: Shape, state: dict[str, torch.Tensor]) -> Iterator[tuple[str, Array]]:
    """Everything in the order of the converted format."""
    floats = {name: value.float().numpy() for name, value in state.items()}
    weight, scale = integer_rows(floats["embed"])
    yield "embed.weight", weight
    yield "embed.scale", scale
    cos, sin = tables(shape.context_length, shape.head_size, shape.rope_theta)
    yield "rope.cos", cos
    yield "rope.sin", sin
    for layer in range(shape.layers):
        for op in LAYER_OPS:
            weight, scale = integer_rows(floats[f"layers.{layer}.{op}"], 127)
            yield f"layers.{layer}.{op}.weight", weight
            yield f"layers.{layer}.{op}.scale", scale
        for norm in ("attn_norm", "mlp_norm"):
            yield f"layers.{layer}.{norm}", floats[f"layers.{layer}.{norm}"]
    yield "norm", floats["norm"]
    weight, scale = integer_rows(floats["head"], 127)
    yield "head.weight", weight
    yield "head.scale", scale


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--judged", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("out/student"))
    parser.add_argument("--out", type=Path, default=Path("src/tidegate/data"))
    parser.add_argument("--strong", default="exact:smollm2", help="a model's name or folder")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    state = torch.load(options.work / "checkpoint.pt", weights_only=True)["student"]
    shape = shape_of(options.width, options.layers)
    words = load_tokenizer(options.strong)
    weak = ngram.load()
    manifest = _write(options, shape, state, weak, words.vocabulary_hash)
    model = mixture.load(options.out / f"{NAME}.json")
    strong = load_strong(options.strong, dtype="float32", threads=options.threads)
    card: dict[str, Comparison] = {}
    with Progress() as shown:
        for temperature, texts in sorted(_judged(options.judged).items()):
            tokens = sum(len(answer) for _, answer in texts)
            task = shown.add_task(f"comparing at {temperature}", total=tokens)
            advance = partial(_advance, shown, task)
            card[str(temperature)] = compare(strong, model, texts, progress=advance)
    _describe(options.out, msgspec.structs.replace(manifest, card=card))
    print(msgspec.json.format(msgspec.json.encode(card)).decode())


def _write(
    options: argparse.Namespace,
    shape: Shape,
    state: dict[str, torch.Tensor],
    weak: ngram.NgramModel,
    vocabulary_hash: str,
) -> mixture.MixtureManifest:
    parts = [read_part(path) for path in sorted(options.answers.glob("*.safetensors"))]
    seen = sum(len(part["ids"]) for part in parts)
    answers = sum(len(part["lengths"]) for part in parts)
    provenance = (
        f"Trained by tools/train_student.py on {seen} tokens of {answers} answers that "
        "SmolLM2-135M-Instruct (Apache-2.0) gave to prompts of our own at temperatures 1, 0.7 and "
        "0, and on its distribution at each of those tokens. Started from statistics of the same "
        "answers; no weight of the strong model went into it."
    )
    folder = options.out / NAME
    shutil.rmtree(folder, ignore_errors=True)
    written = exact_format.write(
        folder,
        shape,
        tensors(shape, state),
        name="student of SmolLM2-135M-Instruct",
        licence="Apache-2.0",
        provenance=provenance,
        source_sha256=hashlib.sha256((options.work / "checkpoint.pt").read_bytes()).hexdigest(),
        made_with=f"torch {torch.__version__.split('+')[0]}, numpy {np.__version__}",
        settings={"eos_token_id": []},
        files={},
    )
    tokens = np.sort(np.load(options.work / "classes.npy")[:CLASSES])
    manifest = mixture.MixtureManifest(
        name="student of SmolLM2 beside an order-4 n-gram with cache",
        licence="Apache-2.0",
        provenance=f"{provenance} The n-gram: {weak.describe().provenance}",
        parameters=shape.parameters + weak.describe().parameters,
        training_tokens=seen,
        vocab_size=weak.vocab_size,
        eos_ids=tuple(sorted(weak.eos_ids)),
        vocabulary_hash=vocabulary_hash,
        student=NAME,
        student_root=written.root,
        ngram=weak.fingerprint,
        tokens=tuple(tokens.tolist()),
    )
    _describe(options.out, manifest)
    return manifest


def _describe(folder: Path, manifest: mixture.MixtureManifest) -> None:
    # One line: sixteen thousand numbers would be as many lines.
    (folder / f"{NAME}.json").write_bytes(msgspec.json.encode(manifest) + b"\n")


def _advance(shown: Progress, task: TaskID, done: int) -> None:
    shown.update(task, advance=done)


def _judged(folder: Path) -> dict[float, list[Text]]:
    """Held-out answers by temperature."""
    texts: dict[float, list[Text]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        part = read_part(path)
        for index, prompt, ids, _ in conversations(part):
            temperature = round(float(part["temperatures"][index]), 3)
            texts.setdefault(temperature, []).append((prompt.tolist(), ids.tolist()))
    return texts


if __name__ == "__main__":
    main()
