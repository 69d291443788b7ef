"""The searches of a Sigma rule: maps of fields to values, with modifiers.

Fields are paths with dots. A value matches without regard to case, and may have `*` and `?`, unless
a modifier says otherwise. A list of values is met by one of them, with `|all` by all of them; a
field that holds a list is met by one of its members. Modifiers known: contains, startswith,
endswith, all, re, cased, exists, lt, lte, gt, gte, cidr. Others are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Final

from tidegate.audit.sigma_condition import Test, all_of, any_of
from tidegate.errors import ConfigError

Match = Callable[[Any], bool]

_SHAPES: Final = frozenset({"contains", "startswith", "endswith"})
_NUMBERS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "lt": lambda held, limit: held < limit,
    "lte": lambda held, limit: held <= limit,
    "gt": lambda held, limit: held > limit,
    "gte": lambda held, limit: held >= limit,
}
_SPECIAL: Final = frozenset({"re", "cidr", "exists", *_NUMBERS})
_KNOWN: Final = _SHAPES | _SPECIAL | {"all", "cased"}
_WILD: Final = re.compile(r"\\([\\*?])|([*?])")


def search(told: Any, rule: str) -> Test:
    """The test that one search is. Raises ConfigError for shapes and modifiers it cannot be."""
    if isinstance(told, Mapping):
        if not told:
            raise ConfigError(f"{rule}: a search without fields matches everything; refused")
        return all_of([_field(str(name), value, rule) for name, value in told.items()])
    if isinstance(told, list) and told and all(isinstance(part, Mapping) for part in told):
        return any_of([search(part, rule) for part in told])
    raise ConfigError(f"{rule}: a search that names no fields (keywords) is not supported")


def _field(name: str, value: Any, rule: str) -> Test:
    path, *modifiers = name.split("|")
    unknown = [modifier for modifier in modifiers if modifier not in _KNOWN]
    if unknown:
        raise ConfigError(f"{rule}: the modifier {unknown[0]!r} of {path} is not supported")
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(one, Mapping | list) for one in values):
        raise ConfigError(f"{rule}: {path} has a value that is neither text, number nor null")
    if "exists" in modifiers:
        if len(modifiers) > 1 or not isinstance(value, bool):
            raise ConfigError(f"{rule}: `exists` of {path} stands alone, with true or false")
        return lambda record: (held(record, path) is not _ABSENT) == value
    matches = [_match(one, frozenset(modifiers), path, rule) for one in values]
    whole = all if "all" in modifiers else any
    return lambda record: _met(held(record, path), matches, whole)


def _met(found: Any, matches: Sequence[Match], whole: Callable[[Any], bool]) -> bool:
    if isinstance(found, list):
        return whole(any(match(member) for member in found) for match in matches)
    return whole(match(found) for match in matches)


class _Absent:
    pass


_ABSENT: Final = _Absent()


def held(record: Any, path: str) -> Any:
    """What stands at a path; a member whose name has dots is found too. Lists give all members."""
    if isinstance(record, Mapping):
        if path in record:
            return record[path]
        head, dot, rest = path.partition(".")
        while dot:
            if head in record:
                return held(record[head], rest)
            more, dot, rest = rest.partition(".")
            head = f"{head}.{more}"
        return _ABSENT
    if isinstance(record, list):
        members = [member for one in record if (member := held(one, path)) is not _ABSENT]
        return members or _ABSENT
    return _ABSENT


def _match(value: Any, modifiers: frozenset[str], path: str, rule: str) -> Match:
    special = modifiers & _SPECIAL
    if len(special) > 1 or (special and modifiers & _SHAPES):
        raise ConfigError(f"{rule}: the modifiers of {path} contradict each other")
    if "re" in modifiers:
        try:
            pattern = re.compile(str(value))
        except re.error as error:
            raise ConfigError(f"{rule}: the expression for {path}: {error}") from error
        return lambda found: _texts(found) is not None and bool(pattern.search(str(found)))
    if "cidr" in modifiers:
        return _in_network(value, path, rule)
    if special:
        return _compared(_NUMBERS[next(iter(special))], value, path, rule)
    if value is None:
        return lambda found: found is None or found is _ABSENT
    if isinstance(value, bool):
        wanted = str(value).lower()
        return lambda found: str(found).lower() == wanted and found is not _ABSENT
    flags = 0 if "cased" in modifiers else re.IGNORECASE
    shaped = re.compile(_pattern(str(value), modifiers), flags | re.DOTALL)
    return lambda found: _texts(found) is not None and bool(shaped.fullmatch(_texts(found) or ""))


def _texts(found: Any) -> str | None:
    if found is None or isinstance(found, _Absent | Mapping):
        return None
    return str(found).lower() if isinstance(found, bool) else str(found)


def _pattern(value: str, modifiers: frozenset[str]) -> str:
    """`*` and `?` are wild, and `\\*`, `\\?`, `\\\\` are themselves."""
    parts, at = [], 0
    for found in _WILD.finditer(value):
        parts.append(re.escape(value[at : found.start()]))
        wild = {"*": ".*", "?": "."}
        parts.append(re.escape(found[1]) if found[1] else wild[found[2]])
        at = found.end()
    made = "".join((*parts, re.escape(value[at:])))
    before = ".*" if modifiers & {"contains", "endswith"} else ""
    after = ".*" if modifiers & {"contains", "startswith"} else ""
    return before + made + after


def _in_network(value: Any, path: str, rule: str) -> Match:
    try:
        network = ip_network(str(value), strict=False)
    except ValueError as error:
        raise ConfigError(f"{rule}: the network for {path}: {error}") from error

    def match(found: Any) -> bool:
        try:
            return ip_address(str(found)) in network
        except ValueError:
            return False

    return match


def _compared(compare: Callable[[float, float], bool], value: Any, path: str, rule: str) -> Match:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{rule}: {path} is compared with {value!r}, which is no number")
    limit = float(value)

    def match(found: Any) -> bool:
        try:
            return compare(float(found), limit)
        except (TypeError, ValueError):
            return False

    return match
