"""From an alert to the answers it is about: an answer's entries in the record, found by number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from tidegate.console.errors import SourceError
from tidegate.errors import RecordError
from tidegate.record.entries import Begin, End, Entry, Gap, Open, Prefill, Tokens, parse
from tidegate.verify.record_lines import EntryLine, parse_line, pieces
from tidegate.verify.record_store import Source

_MOST_ENTRIES: Final = 200_000
"""Entries read on from an answer's beginning, other answers' included."""

Said = Callable[[Begin, tuple[int, ...]], dict[str, str]]
"""Makes prompt and answer readable, for those who may read them."""


class Records:
    """Looks answers up in a record. What it says is as the record has it, unverified."""

    def __init__(self, source: Source, said: Said | None = None) -> None:
        self._source, self._said = source, said

    def answer(self, number: int, *, prompts: bool) -> dict[str, Any]:
        """Answer `number`, named by the entry that began it. `prompts`: with what was said.

        Raises:
            SourceError: there is none, or the record cannot be read.
        """
        begin: Begin | None = None
        ids: list[int] = []
        told: list[dict[str, Any]] = []
        try:
            for entry in self._from(number):
                does = entry.does
                if entry.n == number:
                    if not isinstance(does, Begin):
                        raise SourceError(f"entry {number} of the record begins no answer")
                    begin = does
                elif not isinstance(does, Open | Gap | Begin) and does.response == number:
                    if isinstance(does, Tokens):
                        ids += does.ids
                    told.append(_told(entry))
                    if isinstance(does, End):
                        break
        except RecordError as error:
            raise SourceError(error.message) from error
        if begin is None:
            raise SourceError(f"the record has no entry {number}")
        shown = _begun(number, begin) | {"entries": told, "tokens": len(ids)}
        if prompts and self._said is not None:
            shown["said"] = self._said(begin, tuple(ids))
        return shown

    def _from(self, number: int) -> Iterator[Entry]:
        segments = self._source.segments()
        start = max((segment for segment in segments if segment <= number), default=None)
        if start is None:
            return
        read = 0
        for segment in (segment for segment in segments if segment >= start):
            for piece in pieces(self._source, segment, 0):
                line = parse_line(piece.data) if piece.whole else None
                if not isinstance(line, EntryLine):
                    continue
                entry = parse(line.raw)
                if entry.n < number:
                    continue
                read += 1
                if read > _MOST_ENTRIES:
                    return
                yield entry


def _begun(number: int, begin: Begin) -> dict[str, Any]:
    hidden = {"private", "params"}
    fields = msgspec.to_builtins(begin, enc_hook=str)
    return {"answer": number} | {name: fields[name] for name in fields if name not in hidden}


def _told(entry: Entry) -> dict[str, Any]:
    """An entry without tokens, which are what was said."""
    does = entry.does
    shown: dict[str, Any] = {"n": entry.n, "time": entry.time / 1000}
    if isinstance(does, Tokens):
        return shown | {"kind": "tokens", "start": does.start, "count": len(does.ids)}
    if isinstance(does, Prefill | End):
        return shown | dict(msgspec.to_builtins(does))
    return shown | {"kind": type(does).__name__.lower()}
