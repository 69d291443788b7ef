"""Multiple-choice questions from the packaged prompts, answered by the likeliest letter."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidegate.models.tokenizer import FileTokenizer

F32 = NDArray[np.float32]

LETTERS = "ABCD"
ASK = "\nAnswer with one letter."
BEGIN = "The answer is ("


class Question(NamedTuple):
    """Tokens up to where the letter belongs, and which letter (0 to 3) is right."""

    tokens: tuple[int, ...]
    answer: int


class _Answers(msgspec.Struct, frozen=True):
    answers: dict[str, str]


class _Prompt(msgspec.Struct, frozen=True):
    id: str
    prompt: str


def questions(words: FileTokenizer) -> list[Question]:
    """All packaged questions whose answer is known, as chats in which the answer has begun."""
    data = files("tidegate.data")
    known = msgspec.json.decode((data / "mmlu_answers.json").read_bytes(), type=_Answers).answers
    rows = (data / "prompts.jsonl").read_bytes().splitlines()
    prompts = {row.id: row.prompt for row in (msgspec.json.decode(r, type=_Prompt) for r in rows)}
    begin = words.encode(BEGIN)
    return [
        Question(
            (*words.chat([{"role": "user", "content": prompts[name] + ASK}]), *begin),
            LETTERS.index(letter),
        )
        for name, letter in sorted(known.items())
    ]


def answers(logits: Iterator[F32], words: FileTokenizer) -> list[int]:
    """The likeliest letter of each question; `logits` are those after its last token, (V,)."""
    letters = [words.encode(letter)[0] for letter in LETTERS]
    return [int(np.argmax(logits_V[letters])) for logits_V in logits]


class Verdict(NamedTuple):
    """Shares of right answers, and how far they lie apart in standard errors of the second's."""

    share: float
    reference: float
    standard_errors: float


def compare(found: Sequence[int], reference: Sequence[int], asked: Sequence[Question]) -> Verdict:
    """Two engines' answers to the same questions."""
    share, other = (
        sum(answer == question.answer for answer, question in zip(given, asked, strict=True))
        / len(asked)
        for given in (found, reference)
    )
    error = math.sqrt(max(other * (1 - other), 1 / len(asked)) / len(asked))
    return Verdict(share, other, abs(share - other) / error)
