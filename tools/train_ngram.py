"""Make the packaged n-gram: `python tools/train_ngram.py [--out FOLDER] [--takes N]`.

1. Have SmolLM2 answer the prompts of `ngram_prompts`, greedily and at temperature 0.7.
2. Fit the smoothing on every tenth prompt with counts of the others.
3. Count all answers; write tables and manifest.
4. Have SmolLM2 answer packaged prompts, which step 1 never saw, and write how the n-gram compares.

About 40 minutes on two cores. Answers are kept in the work folder; a run that was stopped resumes.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path

import msgspec
import safetensors.numpy
from ngram_answers import Wanted, collect
from ngram_fit import fit
from ngram_prompts import prompts
from rich.progress import Progress

from tidegate.models import ngram, tokenizer
from tidegate.models.cache import publish
from tidegate.models.card import Text, compare
from tidegate.models.ngram_tables import NgramManifest, Smoothing, count
from tidegate.models.port import Model
from tidegate.models.prepared import manifest_of, prepare
from tidegate.models.transformers_torch import load

ORDER = 4
MAX_TOKENS = 200
TRAINING_TEMPERATURES = (0.7, 0.0)
JUDGED_TEMPERATURES = (0.0, 0.7, 1.0)
JUDGE_EVERY = 5  # of the packaged prompts
LARGEST_TABLES = 8 << 20


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("src/tidegate/data"))
    parser.add_argument("--work", type=Path, default=Path("out/ngram"))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    folder = prepare("smollm2")
    strong = load(folder, threads=options.threads)
    words = tokenizer.load(folder)

    def chat(prompt: str) -> list[int]:
        return words.chat([{"role": "user", "content": prompt}])

    with Progress() as shown:
        asked = [chat(prompt) for prompt in prompts()]
        texts = answers(
            strong,
            dict(enumerate(asked)),
            TRAINING_TEMPERATURES,
            options.work / "answers.jsonl",
            shown,
        )
        held = [(one, text) for one, text in texts if one.prompt % 10 == 9]
        rest = [text for one, text in texts if one.prompt % 10 != 9]
        task = shown.add_task("fitting", total=None)
        smoothing = fit(
            count(rest, order=ORDER, vocab_size=strong.vocab_size),
            [text for _, text in held],
            lambda bits: shown.update(task, description=f"fitting: {bits:.4f} bits", advance=1),
        )
        manifest = write_tables(
            options.out,
            [text for _, text in texts],
            smoothing,
            strong,
            words.vocabulary_hash,
            manifest_of(folder).made_with,
        )
        weak = ngram.load(options.out / "ngram_smollm2.json")
        packaged = (resources.files("tidegate") / "data" / "prompts.jsonl").read_text("utf-8")
        rows = [json.loads(line) for line in packaged.splitlines()]
        judged = answers(
            strong,
            {n: chat(rows[n]["prompt"]) for n in range(0, len(rows), JUDGE_EVERY)},
            JUDGED_TEMPERATURES,
            options.work / "judged.jsonl",
            shown,
        )
        card = {}
        for temperature in JUDGED_TEMPERATURES:
            chosen = [text for one, text in judged if one.temperature == temperature]
            task = shown.add_task(
                f"comparing at {temperature}", total=sum(len(a) for _, a in chosen)
            )
            card[str(temperature)] = compare(strong, weak, chosen, progress=_advance(shown, task))
    write_manifest(options.out, msgspec.structs.replace(manifest, card=card))
    print(msgspec.json.format(msgspec.json.encode(card)).decode())


def answers(
    strong: Model,
    asked: Mapping[int, Sequence[int]],
    temperatures: Sequence[float],
    path: Path,
    shown: Progress,
) -> list[tuple[Wanted, Text]]:
    """What SmolLM2 says to each prompt at each temperature."""
    wanted = [Wanted(n, t, 0) for n, t in itertools.product(asked, temperatures)]
    task = shown.add_task(f"answering ({path.name})", total=None)
    done = collect(
        strong, asked, wanted, path, max_tokens=MAX_TOKENS, progress=_advance(shown, task)
    )
    return [(one, (asked[one.prompt], ids)) for one, ids in done]


def write_tables(
    folder: Path,
    texts: Sequence[Text],
    smoothing: Smoothing,
    strong: Model,
    vocabulary_hash: str,
    made_with: str,
) -> NgramManifest:
    """Count, store, and describe; the card is still empty."""
    tables = count(texts, order=ORDER, vocab_size=strong.vocab_size)
    data = safetensors.numpy.save(tables)
    if len(data) > LARGEST_TABLES:
        raise SystemExit(f"the tables take {len(data)} bytes; use fewer answers")
    temporary = folder / "ngram_smollm2.making"
    temporary.write_bytes(data)
    publish(temporary, folder / "ngram_smollm2.safetensors")
    tokens = sum(len(answer) for _, answer in texts)
    manifest = NgramManifest(
        name=f"order-{ORDER} token n-gram with cache, for SmolLM2",
        licence="Apache-2.0",
        provenance=(
            f"Counted from {tokens} tokens that SmolLM2-135M-Instruct (Apache-2.0) wrote in answer "
            f"to {len(prompts())} prompts of our own, at temperatures "
            f"{' and '.join(str(t) for t in TRAINING_TEMPERATURES)}, by tools/train_ngram.py "
            f"({made_with}). It was counted from text; no weight of the strong model went into it."
        ),
        parameters=sum(table.size for name, table in tables.items() if "counts" in name),
        training_tokens=tokens,
        vocab_size=strong.vocab_size,
        eos_ids=tuple(sorted(strong.eos_ids)),
        vocabulary_hash=vocabulary_hash,
        tables_file="ngram_smollm2.safetensors",
        tables_sha256=hashlib.sha256(data).hexdigest(),
        smoothing=smoothing,
    )
    write_manifest(folder, manifest)
    return manifest


def write_manifest(folder: Path, manifest: NgramManifest) -> None:
    """Put the manifest beside its tables."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    (folder / "ngram_smollm2.json").write_bytes(text + b"\n")


def _advance(shown: Progress, task: object) -> Callable[[int], None]:
    return lambda done: shown.update(task, advance=done)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
