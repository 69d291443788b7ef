"""Train the packaged student: `python tools/train_student.py --answers FOLDER --judged FOLDER`.

1. Choose the student's classes: the tokens to which the strong model gives most probability.
2. Train the mixture of student and packaged n-gram on the strong model's own answers: at every
   token, the cross-entropy of the strong model's whole distribution at temperature 1, and where the
   answer was greedy, mostly of its first choice.
3. Print bits per token on answers to held-out packaged prompts, beside the n-gram alone.

Make the answers first, with `tools/student_answers.py FOLDER` and `… --judged`; write the packaged
folder afterwards with `tools/export_student.py`. A run that was stopped resumes; answers that were
added meanwhile join at the next pass. One CPU thread or one GPU; the same seed and answers give the
same student on the same machine.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from student_data import Answer, Batch, Classes, batches, collate, ranked_tokens, read_answers
from student_net import MixtureLoss, Muon, Student, matrices, mixed_scores
from student_start import embedding_and_head

from tidegate.models import ngram
from tidegate.models.cache import publish
from tidegate.models.exact.shape import Shape, check

CLASSES = 16_382
"""With the class of all others and the gate, a head of 16,384 rows."""

FREQUENT = 1_536
"""Classes in every step; of the others a share is drawn until the last stretch."""
SAMPLED_SHARE = 0.2
SAMPLED_UNTIL = 0.8
GREEDY_SHARPNESSES = (1.0, 1.2, 1.4, 1.7)
DECAY_FROM = 0.55  # of all steps; constant before, then a line to zero
WARM_UP = 40
SAVE_EVERY = 20


def shape_of(width: int, layers: int) -> Shape:
    """Sizes of a student; heads of 64, two queries to a key."""
    return check(
        Shape(
            family="llama",
            vocab_size=CLASSES + 2,
            width=width,
            layers=layers,
            heads=width // 64,
            kv_heads=max(1, width // 128),
            head_size=64,
            ffn_size=width * 11 // 4,
            context_length=8192,
            eps=1e-5,
            rope_theta=10_000.0,
            qkv_bias=False,
            tied=False,
        )
    )


@dataclass
class Trainer:
    """A student with its optimisers, where it is in its training, and how to go on."""

    student: Student
    base_C: torch.Tensor
    frequent_C: torch.Tensor
    device: torch.device
    steps: int
    rates: tuple[float, float]
    step: int = 0
    passes: int = 0

    def __post_init__(self) -> None:
        self.muon = Muon(list(matrices(self.student)), lr=self.rates[0])
        chosen = {id(weight) for weight in self.muon.param_groups[0]["params"]}
        # The head's rows are small and meet a hidden state of length 16; the embedding's are not.
        scaled = {id(self.student.embed): 2.5, id(self.student.head): 0.5}
        groups = [
            {"params": [weight], "scale": scaled.get(id(weight), 1.0)}
            for weight in self.student.parameters()
            if id(weight) not in chosen
        ]
        self.adam = torch.optim.Adam(groups, lr=self.rates[1], betas=(0.9, 0.98), eps=1e-9)

    def learn(self, group: Sequence[Answer]) -> float:
        """One step; the loss in nats."""
        done = self.step / self.steps
        share = min(1.0, (self.step + 1) / WARM_UP, max(0.0, (1 - done) / (1 - DECAY_FROM)))
        for optimiser, rate in zip((self.muon, self.adam), self.rates, strict=True):
            for parameters in optimiser.param_groups:
                parameters["lr"] = rate * share * parameters.get("scale", 1.0)
        batch = collate(group, self.device)
        self.student.train()
        some = () if done > SAMPLED_UNTIL else batch.targets.sample(self.frequent_C, SAMPLED_SHARE)
        loss = MixtureLoss.apply(
            self._hidden(batch), self.student.head, self.base_C, batch.targets, *some
        )
        loss.backward()
        self.muon.step()
        self.adam.step()
        self.student.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()

    @torch.no_grad()
    def judge(self, answers: Sequence[Answer], batch_tokens: int) -> dict[str, float]:
        """Bits per token at each temperature; `n-gram` with the student's part left out."""
        self.student.eval()
        sums: dict[str, list[float]] = {}
        for group in batches(answers, batch_tokens, None):
            batch = collate(group, self.device)
            hidden_Nd = self._hidden(batch)
            for name, hidden in (("mixture", hidden_Nd), ("n-gram", torch.zeros_like(hidden_Nd))):
                scores_NC, _ = mixed_scores(hidden, self.student.head, self.base_C, batch.targets)
                for key, bits in _bits(scores_NC, batch):
                    sums.setdefault(f"{name} {key}", []).extend(bits)
        return {name: sum(bits) / len(bits) for name, bits in sorted(sums.items())}

    def _hidden(self, batch: Batch) -> torch.Tensor:
        return self.student(batch.inputs_BT).flatten(0, 1)[batch.places_N]

    def save(self, path: Path) -> None:
        """Everything a later run needs to go on from here."""
        making = path.with_suffix(".making")
        torch.save(
            {
                "student": self.student.state_dict(),
                "muon": self.muon.state_dict(),
                "adam": self.adam.state_dict(),
                "step": self.step,
                "passes": self.passes,
            },
            making,
        )
        publish(making, path)

    def restore(self, path: Path) -> None:
        """Go on from what `save` wrote."""
        saved = torch.load(path, map_location=self.device, weights_only=True)
        self.student.load_state_dict(saved["student"])
        self.muon.load_state_dict(saved["muon"])
        self.adam.load_state_dict(saved["adam"])
        self.step, self.passes = saved["step"], saved["passes"]


def _bits(scores_NC: torch.Tensor, batch: Batch) -> Iterator[tuple[str, list[float]]]:
    """Bits of the tokens that came. The rest class counts as one token at other sharpness."""
    for temperature in (0.0, 0.7, 1.0):
        rows = (batch.temperatures_N - temperature).abs() < 1e-3
        for sharpness in GREEDY_SHARPNESSES if temperature == 0 else (1 / temperature,):
            scores = scores_NC[rows] * sharpness
            chosen = scores.gather(1, batch.classes_N[rows, None])[:, 0]
            nats = scores.logsumexp(1) - chosen - sharpness * batch.excess_N[rows]
            label = f"T={temperature}" + (f" x{sharpness}" if temperature == 0 else "")
            yield label, (nats / math.log(2)).tolist()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--judged", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("out/student"))
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=3072, help="padded tokens a step")
    parser.add_argument("--muon", type=float, default=0.02)
    parser.add_argument("--adam", type=float, default=0.004)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--judge-every", type=int, default=150)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pause-file", type=Path, help="wait while this file exists")
    return parser.parse_args()


class _Reader:
    """Answers of a folder; each part is read once, also if it comes later."""

    def __init__(self, classes: Classes, weak: ngram.NgramModel, work: Path) -> None:
        self._classes, self._weak, self._work = classes, weak, work
        self._known: dict[Path, list[Answer]] = {}

    def __call__(self, folder: Path) -> list[Answer]:
        for path in sorted(folder.glob("*.safetensors")):
            if path not in self._known:
                self._known[path] = read_answers(path, self._classes, self._weak, self._work)
        return [a for path, part in self._known.items() if path.parent == folder for a in part]


def main() -> None:
    """Entry point."""
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    weak = ngram.load()
    classes, frequent = _classes(options, weak.vocab_size)
    read = _Reader(classes, weak, options.work)
    device = torch.device(options.device)
    base = np.append(weak.base_scores()[classes.tokens_C], np.float32([0, 0]))
    trainer = Trainer(
        Student(shape_of(options.width, options.layers), dropout=options.dropout).to(device),
        torch.from_numpy(base).to(device),
        torch.from_numpy(frequent).to(device),
        device,
        options.steps,
        (options.muon, options.adam),
    )
    checkpoint = options.work / "checkpoint.pt"
    if checkpoint.exists():
        trainer.restore(checkpoint)
    else:
        answers = read(options.answers)
        start = embedding_and_head(answers, CLASSES + 2, options.width, options.seed)
        with torch.no_grad():
            trainer.student.embed.copy_(start[0])
            trainer.student.head.copy_(start[1])
    with Progress(console=Console(stderr=True, soft_wrap=True)) as shown:
        task = shown.add_task("training", total=options.steps, completed=trainer.step)
        while trainer.step < options.steps:
            answers = read(options.answers)
            places = sum(answer.places for answer in answers)
            shown.console.print(f"pass {trainer.passes} over {places} tokens", highlight=False)
            rng = np.random.default_rng([options.seed, trainer.passes])
            for group in batches(answers, options.batch, rng):
                while options.pause_file is not None and options.pause_file.exists():
                    time.sleep(2)
                loss = trainer.learn(group) / math.log(2)
                shown.update(task, advance=1, description=f"loss {loss:.3f} bits")
                last = trainer.step == options.steps
                if last or trainer.step % options.judge_every == 0:
                    figures = trainer.judge(read(options.judged), options.batch)
                    line = "  ".join(f"{name} {bits:.3f}" for name, bits in figures.items())
                    shown.console.print(f"step {trainer.step}: {line}", highlight=False)
                if last or trainer.step % SAVE_EVERY == 0:
                    trainer.save(checkpoint)
                if last:
                    return
            trainer.passes += 1


def _classes(options: argparse.Namespace, vocab_size: int) -> tuple[Classes, NDArray[np.bool_]]:
    """Chosen once, from the answers that are there at the start; and which are frequent."""
    path = options.work / "classes.npy"
    if not path.exists():
        np.save(path, ranked_tokens(sorted(options.answers.glob("*.safetensors")), vocab_size))
    ranked = np.load(path)[:CLASSES]
    frequent = np.isin(np.sort(ranked), ranked[:FREQUENT])
    return Classes(np.sort(ranked), vocab_size), np.append(frequent, [True, True])


if __name__ == "__main__":
    main()
