"""Symbols to bytes and frames, and back, in Python: the definition of the link's bitstream.

A token is sent as answers to "is it this candidate?", asked best candidate first, or as a bare
number where that is cheaper. The C kernel and `tidegate.coding.upload` are held to this file byte
for byte; it is slow, and what another implementer reads (spec/symbol-model.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tidegate.coding.candidates import Candidates
from tidegate.coding.range_coder import RangeDecoder, RangeEncoder
from tidegate.coding.symbol_model import ONE, Model, Prepared
from tidegate.errors import LinkError, NonCanonicalError
from tidegate.sampling.noise import ilog2

CONTROLS = 4
"""Codes after the vocabulary: the first says that the stream failed, the others are reserved."""


def cost_of(count: int, total: int) -> int:
    """-log2(count / total) in 2**-16 bit."""
    return (ilog2(total) - ilog2(count)) >> 16


@dataclass(frozen=True, slots=True)
class Symbol:
    """What is said at one place of the schedule; both sides know it, the value crosses.

    argument: a flag's context, how many numbers there are, or nothing for a token.
    """

    kind: Literal["token", "flag", "number"]
    cand: Candidates | None = None
    argument: int = 0


class ReferenceEncoder:
    """The same bytes as `tidegate.coding.upload.UploadEncoder`, slowly."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.model = Model()
        self.coder = RangeEncoder()
        self.cost = 0
        """Ideal length of the last symbol, 2**-16 bit."""
        self.segment_start = 0
        """Offset, in all bytes ever framed, at which the current segment begins."""
        self._sent = 0
        self._queue = bytearray()

    def put(self, symbol: Symbol, value: int) -> None:
        """Any symbol."""
        if symbol.cand is not None:
            self.put_token(symbol.cand, value)
        elif symbol.kind == "flag":
            self.put_flag(symbol.argument, bool(value))
        else:
            self.put_number(value, symbol.argument)

    def put_token(self, cand: Candidates, code: int) -> None:
        """A token id, or vocab_size + a control code."""
        token, ids = Prepared(cand), [int(i) for i in cand.ids]
        alphabet = self.vocab_size + CONTROLS
        questions, cost = [], 0
        if code in ids:
            rank = ids.index(code)
            # Where all others were answered with no, the last candidate needs no question.
            questions = [self.model.ask(token, r) for r in range(min(rank + 1, len(ids) - 1))]
            answers = [r == rank for r in range(len(questions))]
            cost = sum(
                cost_of(q.yes if yes else ONE - q.yes, ONE)
                for q, yes in zip(questions, answers, strict=True)
            )
        direct = code not in ids or cost > cost_of(1, alphabet)
        self.put_flag(direct_flag(token), direct)
        if direct:
            flag_cost = self.cost
            self.put_number(code, alphabet)
            self.cost += flag_cost
            return
        for question, yes in zip(questions, answers, strict=True):
            self._answer(question.yes, yes)
            self.model.learn(question, yes)
        self.cost += cost

    def put_flag(self, context: int, yes: bool) -> None:
        """A yes or no under an adaptive context of its own."""
        flag = self.model.flags[context]
        self.cost = cost_of(flag.odds if yes else ONE - flag.odds, ONE)
        self._answer(flag.odds, yes)
        flag.learn(yes)

    def put_number(self, value: int, total: int) -> None:
        """One of `total` equally likely values."""
        self.cost = cost_of(1, total)
        self.coder.put(value, 1, total)

    def _answer(self, odds: int, yes: bool) -> None:
        self.coder.put(0 if yes else odds, odds if yes else ONE - odds, ONE)

    def take_frame(self, size: int) -> bytes:
        """The answer to a pull (docs/adr/0001, rule 4)."""
        self._queue += self.coder.take(self.coder.settled())
        if len(self._queue) < size:
            if self.coder.started:
                self.coder.finish()
                self._queue += self.coder.take(self.coder.settled())
            self._queue += bytes(max(size - len(self._queue), 0))
            self.segment_start = self._sent + len(self._queue)
        self._sent += size
        frame = bytes(self._queue[:size])
        del self._queue[:size]
        return frame


def direct_flag(token: Prepared) -> int:
    """The flag that says whether a token is sent as a bare number."""
    return token.greedy * 16 + token.spread


class ReferenceDecoder:
    """Decodes one segment. `encoder` must be given every symbol after it was decoded here."""

    def __init__(self, encoder: ReferenceEncoder, segment: bytes = b"") -> None:
        self._encoder = encoder
        self._coder = RangeDecoder()
        self._coder.feed(segment)

    def feed(self, data: bytes) -> None:
        """More of the segment's bytes."""
        self._coder.feed(data)

    def get(self, symbol: Symbol) -> int | None:
        """Any symbol, or None while undetermined."""
        if symbol.cand is not None:
            return self.get_token(symbol.cand)
        if symbol.kind == "flag":
            return self.get_flag(symbol.argument)
        return self.get_number(symbol.argument)

    def get_token(self, cand: Candidates) -> int | None:
        """A token id, vocab_size + a control code, or None while undetermined."""
        model, coder = self._encoder.model, self._coder.copy()
        token = Prepared(cand)
        direct = _answered(coder, model.flags[direct_flag(token)].odds)
        found: int | None = None
        if direct is None:
            return None
        if direct or not len(cand.ids):
            found = _numbered(coder, self._encoder.vocab_size + CONTROLS)
        else:
            rank = _first_yes(coder, lambda r: model.ask(token, r).yes, len(cand.ids))
            found = None if rank is None else int(cand.ids[rank])
        if found is not None:
            self._coder = coder
        return found

    def get_flag(self, context: int) -> bool | None:
        """A yes or no, or None while undetermined."""
        return _answered(self._coder, self._encoder.model.flags[context].odds)

    def get_number(self, total: int) -> int | None:
        """One of `total` values, or None while undetermined."""
        return _numbered(self._coder, total)


def _answered(coder: RangeDecoder, odds: int) -> bool | None:
    first, last = coder.slots(ONE)
    if first < odds <= last:
        return None
    yes = last < odds
    coder.narrow(0 if yes else odds, odds if yes else ONE - odds, ONE)
    return yes


def _numbered(coder: RangeDecoder, total: int) -> int | None:
    value, last = coder.slots(total)
    if value != last:
        return None
    coder.narrow(value, 1, total)
    return value


def _first_yes(coder: RangeDecoder, odds: Callable[[int], int], count: int) -> int | None:
    for rank in range(count - 1):
        yes = _answered(coder, odds(rank))
        if yes is None:
            return None
        if yes:
            return rank
    return count - 1


def decode_frames(
    vocab_size: int,
    steps: Sequence[Sequence[Symbol]],
    pulls: Sequence[tuple[int, int]],
    frames: Sequence[bytes],
) -> list[list[int]]:
    """The values of every step's symbols, from the answers to pulls (after step, size).

    Raises NonCanonicalError for a reserved code or frames that the decoded symbols do not encode
    to, LinkError where the frames do not determine a symbol.
    """
    encoder = ReferenceEncoder(vocab_size)
    data, replayed = b"".join(frames), bytearray()
    decoder = ReferenceDecoder(encoder, data)
    values: list[list[int]] = []
    for step, symbols in enumerate(((), *steps), start=-1):  # pulls may precede all steps
        values.append([])
        for symbol in symbols:
            value = decoder.get(symbol)
            if value is None:
                raise LinkError("the frames end before a symbol is determined")
            if symbol.kind == "token" and value > vocab_size:
                raise NonCanonicalError("a reserved control code was sent")
            encoder.put(symbol, value)
            values[-1].append(int(value))
        start = encoder.segment_start
        for _, size in (pull for pull in pulls if pull[0] == step):
            replayed += encoder.take_frame(size)
        if encoder.segment_start != start:
            decoder = ReferenceDecoder(encoder, data[encoder.segment_start :])
    if replayed != data:
        raise NonCanonicalError("the frames are not what their symbols encode to")
    return values[1:]
