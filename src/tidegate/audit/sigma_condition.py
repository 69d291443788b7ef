"""The condition of a Sigma rule: names of searches, `and`, `or`, `not`, brackets, `1 of`, `all of`.

https://sigmahq.io/sigma-specification/specification/sigma-rules-specification.html

Anything else (aggregations behind `|`, `near`) is refused: a rule that is half understood is worse
than none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from tidegate.errors import ConfigError

Test = Callable[[Mapping[str, Any]], bool]

_TOKEN: Final = re.compile(r"\s*(\(|\)|[^\s()]+)")
_WORDS: Final = frozenset({"and", "or", "not", "of", "1", "all", "them"})
MOST_TOKENS: Final = 500


def condition(text: str, searches: Mapping[str, Test], rule: str) -> Test:
    """The test that the condition is. Raises ConfigError for what it cannot be."""
    tokens = _TOKEN.findall(text)
    if not tokens or len(tokens) > MOST_TOKENS or "".join(tokens) != re.sub(r"\s", "", text):
        raise ConfigError(f"{rule}: the condition {text[:80]!r} cannot be read")
    if any("|" in token for token in tokens) or "near" in tokens:
        raise ConfigError(
            f"{rule}: the condition aggregates ({text[:80]!r}); only single events are looked at"
        )
    parser = _Parser(tokens, searches, rule)
    made = parser.either()
    if parser.left():
        raise ConfigError(f"{rule}: {parser.left()!r} in the condition is one too many")
    return made


class _Parser:
    def __init__(self, tokens: list[str], searches: Mapping[str, Test], rule: str) -> None:
        self._tokens, self._searches, self._rule = tokens, searches, rule
        self._at = 0

    def left(self) -> str:
        """The next token, or nothing."""
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def either(self) -> Test:
        """`a or b`."""
        tests = [self._both()]
        while self._take("or"):
            tests.append(self._both())
        return tests[0] if len(tests) == 1 else any_of(tests)

    def _both(self) -> Test:
        tests = [self._one()]
        while self._take("and"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else all_of(tests)

    def _one(self) -> Test:
        if self._take("not"):
            test = self._one()
            return lambda record: not test(record)
        if self._take("("):
            test = self.either()
            if not self._take(")"):
                raise ConfigError(f"{self._rule}: a bracket in the condition is not shut")
            return test
        word = self._next()
        if word.lower() in ("1", "all") and self._take("of"):
            return (any_of if word == "1" else all_of)(self._several(self._next()))
        if word.lower() in _WORDS or word not in self._searches:
            raise ConfigError(f"{self._rule}: the condition names {word!r}, which is no search")
        return self._searches[word]

    def _several(self, pattern: str) -> list[Test]:
        named = [
            test
            for name, test in self._searches.items()
            if (pattern == "them" and not name.startswith("_")) or fnmatchcase(name, pattern)
        ]
        if not named:
            raise ConfigError(f"{self._rule}: no search is called {pattern!r}")
        return named

    def _take(self, word: str) -> bool:
        if self.left().lower() != word:
            return False
        self._at += 1
        return True

    def _next(self) -> str:
        token = self.left()
        if not token:
            raise ConfigError(f"{self._rule}: the condition ends too early")
        self._at += 1
        return token


def any_of(tests: list[Test]) -> Test:
    """Whether one holds."""
    return lambda record: any(test(record) for test in tests)


def all_of(tests: list[Test]) -> Test:
    """Whether all hold."""
    return lambda record: all(test(record) for test in tests)
