"""One link's bitstream: symbols in, frames out, and back, with every byte accounted for.

The encoder runs beside the weights. The decoder runs outside and holds an encoder of its own, to
which it gives every symbol it decodes together with the same steps and pulls: a received frame must
equal the frame this replay produces, byte for byte, padding included (docs/adr/0001). So there is
one byte string for any sequence of symbols and pulls, and no slack to hide bits in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum

from tidegate._native._kernels import ffi, lib
from tidegate.coding.candidates import CANDIDATES, Candidates
from tidegate.errors import LinkError, NonCanonicalError
from tidegate.units import Bits, MicroBits

MAX_TOKEN_BITS = 32
"""No token costs more: at most 12 bits of flag and log2(V + 4) < 19.1 of number, loss included."""

MAX_VOCAB = 1 << 19
MAX_CHOICES = 1 << 20

ABORT = -1
"""Returned in place of a token: the strong model failed for this stream."""

_ABORT_CODE = 0  # controls follow the vocabulary; codes 1 to 3 are reserved and refused
_TRIM = 1 << 16
_WINDOW: int = lib.TG_WINDOW_BYTES


class Flag(IntEnum):
    """Contexts of yes/no symbols; the first 32 of the native table belong to tokens."""

    READY = 32
    """Whether a stream that thinks inside has something to say at this step."""


class _Coder:
    """The native state and what both directions need of it."""

    def __init__(self, vocab_size: int) -> None:
        if not 1 <= vocab_size <= MAX_VOCAB:
            raise ValueError(f"a vocabulary of {vocab_size} tokens is outside 1 to {MAX_VOCAB}")
        self.vocab_size = vocab_size
        self.native = ffi.gc(lib.tg_link_new(vocab_size), lib.tg_link_free)
        if self.native == ffi.NULL:
            raise MemoryError


def _arguments(cand: Candidates) -> tuple[int, object, object, object, int]:
    """Candidates as the kernels take them. Raises ValueError for sizes they would overrun."""
    count = len(cand.ids)
    columns = (cand.ids, cand.gaps, cand.falls)
    if count > CANDIDATES or any(column.nbytes != 4 * count for column in columns):
        raise ValueError(f"candidates are three int32 arrays of equal length up to {CANDIDATES}")
    ids, gaps, falls = (ffi.from_buffer("int32_t[]", column) for column in columns)
    return count, ids, gaps, falls, int(cand.greedy)


def _check_count(count: int) -> None:
    if not 1 <= count <= MAX_CHOICES:
        raise ValueError(f"a choice is among 1 to {MAX_CHOICES}, not {count}")


class UploadEncoder:
    """Turns symbols into frames. One per link, on the inner side."""

    def __init__(self, vocab_size: int) -> None:
        """Raises ValueError for a vocabulary the number code cannot hold."""
        self._coder = _Coder(vocab_size)
        self._native = self._coder.native
        self._queue = bytearray()
        self.bytes_sent = 0
        self.padding_bytes = 0
        self.segment_start = 0
        """Offset, in all bytes ever framed, at which the current segment begins."""

    def put_token(self, cand: Candidates, token: int) -> MicroBits:
        """Append a token; returns its ideal length in 2**-16 bit. Raises ValueError if outside."""
        if not 0 <= token < self._coder.vocab_size:
            raise ValueError(f"token {token} is outside a vocabulary of {self._coder.vocab_size}")
        return self._put(cand, token)

    def put_abort(self, cand: Candidates) -> MicroBits:
        """Append, in place of a token, that this stream's generation failed."""
        return self._put(cand, self._coder.vocab_size + _ABORT_CODE)

    def _put(self, cand: Candidates, code: int) -> MicroBits:
        lib.tg_put_token(self._native, *_arguments(cand), code)
        return self._cost()

    def put_wait(self, ready: bool) -> MicroBits:
        """Append whether a stream that thinks inside starts to speak at this step."""
        lib.tg_put_flag(self._native, int(Flag.READY), int(ready))
        return self._cost()

    def put_choice(self, index: int, count: int) -> MicroBits:
        """Append which of `count` candidates won. Raises ValueError out of range."""
        _check_count(count)
        if not 0 <= index < count:
            raise ValueError(f"choice {index} is outside {count} candidates")
        lib.tg_put_number(self._native, index, count)
        return self._cost()

    def _cost(self) -> MicroBits:
        if self._native.encoder.failed:
            raise MemoryError
        return MicroBits(self._native.cost)

    @property
    def empty(self) -> bool:
        """Whether all that was put in has been framed."""
        return not (self._queue or self._native.encoder.started)

    def settled_bytes(self) -> int:
        """Bytes a frame could carry now without ending the segment."""
        return len(self._queue) + int(lib.tg_settled(self._native))

    def take_frame(self, size: int) -> bytes:
        """The next `size` bytes, padded with zeros where the symbols so far do not fill them.

        Raises ValueError unless `size` is positive.
        """
        if size < 1:
            raise ValueError(f"a frame of {size} bytes")
        self._drain(int(lib.tg_settled(self._native)))
        if len(self._queue) < size:
            if self._native.encoder.started:
                lib.tg_finish(self._native)
                if self._native.encoder.failed:
                    raise MemoryError
                self._drain(int(self._native.encoder.length))
            padding = max(0, size - len(self._queue))
            self._queue += bytes(padding)
            self.padding_bytes += padding
            self.segment_start = self.bytes_sent + len(self._queue)
        frame = bytes(self._queue[:size])
        del self._queue[:size]
        self.bytes_sent += size
        return frame

    def _drain(self, size: int) -> None:
        out = bytearray(size)
        lib.tg_take(self._native, size, ffi.from_buffer("uint8_t[]", out))
        self._queue += out


@dataclass(slots=True)
class _Pull:
    after_step: int
    size: int
    expected: bytes | None = None
    received: bytes | None = None


class UploadDecoder:
    """Turns frames into symbols and replays an encoder over them. One per link, on the outer side.

    Call order per step: `get_*` for each active stream in the order of the step, then `end_step`.
    `pull` is called when a pull is sent, `receive` when its answer arrives, in the same order.
    """

    def __init__(self, vocab_size: int) -> None:
        """Raises ValueError for a vocabulary the number code cannot hold."""
        self._replay = UploadEncoder(vocab_size)
        self._coder = self._replay._coder
        self._native = self._coder.native
        self._pulls: deque[_Pull] = deque()
        self._answered = 0
        self._step = -1
        self._bytes = bytearray()
        self._base = 0  # offset of _bytes[0] in all bytes ever received
        self._segment = 0
        self.last_cost = MicroBits(0)

    @property
    def padding_bytes(self) -> int:
        """Zeros that filled frames, over all frames replayed so far."""
        return self._replay.padding_bytes

    def unsent_bits(self) -> Bits:
        """Bits of decoded symbols that no replayed frame carries yet."""
        return Bits(8 * self._replay.settled_bytes())

    def pull(self, after_step: int, size: int) -> None:
        """A pull of `size` bytes was sent after steps up to `after_step` were granted.

        Raises ValueError for an empty one, or one out of order.
        """
        if size < 1:
            raise ValueError(f"a pull of {size} bytes")
        if self._pulls and after_step < self._pulls[-1].after_step:
            raise ValueError("pulls are recorded in the order in which they are sent")
        self._pulls.append(_Pull(after_step, size))
        self._replay_pulls()

    def receive(self, frame: bytes) -> None:
        """The answer to the oldest unanswered pull. Raises NonCanonicalError or LinkError."""
        if self._answered == len(self._pulls):
            raise LinkError("a frame arrived that no pull asked for")
        pull = self._pulls[self._answered]
        if len(frame) != pull.size:
            raise LinkError(f"a frame of {len(frame)} bytes answered a pull of {pull.size}")
        pull.received = frame
        self._answered += 1
        self._bytes += frame
        self._forget_used()
        self._compare()

    def get_token(self, cand: Candidates) -> int | None:
        """The next token, ABORT, or None while the bytes so far do not determine it."""
        data = self._segment_bytes()
        out = ffi.new("int32_t *")
        if data is None or not lib.tg_get_token(self._native, *data, *_arguments(cand), out):
            return None
        code = int(out[0])
        if code >= self._coder.vocab_size:
            if code != self._coder.vocab_size + _ABORT_CODE:
                raise NonCanonicalError("a reserved control code was sent")
            self.last_cost = self._replay.put_abort(cand)
            return ABORT
        self.last_cost = self._replay.put_token(cand, code)
        return code

    def get_wait(self) -> bool | None:
        """Whether the stream starts to speak at this step; None while undetermined."""
        data = self._segment_bytes()
        out = ffi.new("int *")
        if data is None or not lib.tg_get_flag(self._native, *data, int(Flag.READY), out):
            return None
        self.last_cost = self._replay.put_wait(bool(out[0]))
        return bool(out[0])

    def get_choice(self, count: int) -> int | None:
        """Which of `count` candidates won; None while undetermined."""
        _check_count(count)
        data = self._segment_bytes()
        out = ffi.new("uint32_t *")
        if data is None or not lib.tg_get_number(self._native, *data, count, out):
            return None
        self.last_cost = self._replay.put_choice(int(out[0]), count)
        return int(out[0])

    def end_step(self, step: int) -> None:
        """All symbols of `step` were taken. Raises NonCanonicalError if a frame does not replay."""
        self._step = step
        self._replay_pulls()

    def _replay_pulls(self) -> None:
        for pull in self._pulls:
            if pull.expected is None:
                if pull.after_step > self._step:
                    break
                pull.expected = self._replay.take_frame(pull.size)
        if self._replay.segment_start != self._segment:
            self._segment = self._replay.segment_start
            lib.tg_decoder_restart(self._native)
        self._compare()

    def _compare(self) -> None:
        while self._pulls and self._pulls[0].expected is not None:
            pull = self._pulls[0]
            if pull.received is None:
                return
            if pull.received != pull.expected:
                raise NonCanonicalError("a frame is not the one its symbols encode to")
            self._pulls.popleft()
            self._answered -= 1

    def _segment_bytes(self) -> tuple[object, int] | None:
        """The bytes the decoder's position counts from, or None before the segment's first."""
        self._forget_used()
        if self._base < self._segment:
            return None
        return ffi.from_buffer("uint8_t[]", self._bytes), len(self._bytes)

    def _forget_used(self) -> None:
        """Drop bytes before the current segment, and used ones where it has grown long."""
        skip = min(self._segment - self._base, len(self._bytes))
        # The last bytes the decoder took in may belong to the next segment.
        used = int(self._native.decoder.position) - _WINDOW
        if skip <= 0 and used >= _TRIM:
            skip = used
            self._native.decoder.position = _WINDOW
        if skip > 0:
            del self._bytes[:skip]
            self._base += skip
