"""Prompts written for training the student: other requests than those the n-gram was counted from.

None is taken from the packaged sample, on which the student is judged. The kinds are those that
users send (requests for a service, functions to finish, multiple choice, open questions), so that
most of what the student reads is of the kind it will have to predict.
"""
# ruff: noqa: E501  tables read better unwrapped

from __future__ import annotations

import ngram_prompts
from student_tables import (
    CHOICES,
    CITIES,
    FUNCTIONS,
    ITEMS,
    NAMES,
    OPEN_QUESTIONS,
    SERVICE_REQUESTS,
)

_EVERY_OTHER_FORM = 4
"""One of so many pairs of subject and form that the n-gram's prompts leave over."""

_ASKS = (
    "Complete the following Python function.",
    "Complete the following Python function.",
    "Finish this Python function and explain it.",
)


def prompts() -> list[str]:
    """All prompts; the same list on every call, without any that the n-gram was counted from."""
    taken = set(ngram_prompts.prompts())
    found = [
        *(_function(style, *parts) for style in range(3) for parts in FUNCTIONS),
        *(_choice(turn, *parts) for turn in range(3) for parts in CHOICES),
        *(_service(turn, form) for turn in range(5) for form in SERVICE_REQUESTS),
        *OPEN_QUESTIONS,
        *ngram_prompts.about_subjects()[::_EVERY_OTHER_FORM],
    ]
    return [text for text in dict.fromkeys(found) if text not in taken]


def _function(style: int, signature: str, says: str, given: str, result: str) -> str:
    name = signature.split("(")[0]
    head = "from typing import List, Optional\n\n\n" if style == 1 else "\n"
    quotes = "'''" if style == 2 else '"""'
    example = (
        f"\n    >>> {name}({given})\n    {result}"
        if style != 2
        else f"\n    For {given} return {result}."
    )
    return f"{_ASKS[style]}\n\n```python\n{head}def {signature}:\n    {quotes} {says}{example}\n    {quotes}\n```"


def _choice(turn: int, question: str, *options: str) -> str:
    turned = options[turn:] + options[:turn]
    listed = " ".join(f"({letter}) {text}" for letter, text in zip("ABCD", turned, strict=True))
    return f"{question}\n{listed}"


def _service(turn: int, form: str) -> str:
    start = (7 * turn + len(form)) % 1_000
    return form.format(
        city=CITIES[start % len(CITIES)],
        other=CITIES[(start + 3 + turn) % len(CITIES)],
        item=ITEMS[(start + turn) % len(ITEMS)],
        name=NAMES[(start + 2 * turn) % len(NAMES)],
        n=2 + (start * 3 + turn) % 17,
        m=20 + (start * 7) % 80,
    )
