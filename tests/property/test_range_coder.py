"""Kernel and definition agree byte for byte; bytes settle and symbols decode as early as can be."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate._native._kernels import ffi, lib
from tidegate.coding.range_coder import RangeDecoder, RangeEncoder

TOTALS = st.one_of(
    st.sampled_from([1, 2, 3, 255, 256, 257, 65535, 65536, 65537, 151_940, 2**20]),
    st.integers(1, 2**20),
)


@st.composite
def numbers(draw):
    """(value, total), often at an edge: the last slot takes the division's remainder."""
    total = draw(TOTALS)
    value = draw(st.one_of(st.sampled_from([0, total - 1]), st.integers(0, total - 1)))
    return value, total


@st.composite
def answers(draw):
    """(probability of yes in 2**-16, answer), often a very likely or very unlikely one."""
    odds = draw(st.one_of(st.sampled_from([2, 16, 65520, 65534]), st.integers(2, 65534)))
    return odds, draw(st.booleans())


SYMBOLS = st.lists(st.one_of(numbers(), answers()), max_size=60)


def share(symbol) -> tuple[int, int, int]:
    if isinstance(symbol[1], bool):
        odds, yes = symbol
        return (0, odds, 65536) if yes else (odds, 65536 - odds, 65536)
    return symbol[0], 1, symbol[1]


class Kernel:
    """The kernel's coder, with answers of any probability: the flag's counter is set by hand."""

    def __init__(self) -> None:
        self.link = ffi.gc(lib.tg_link_new(1000), lib.tg_link_free)

    def put(self, symbol) -> None:
        if isinstance(symbol[1], bool):
            self.link.model.flag_F[0].odds = symbol[0]
            lib.tg_put_flag(self.link, 0, symbol[1])
        else:
            lib.tg_put_number(self.link, *symbol)

    def get(self, symbol, data: bytes):
        if isinstance(symbol[1], bool):
            self.link.model.flag_F[0].odds = symbol[0]
            out = ffi.new("int *")
            return bool(out[0]) if lib.tg_get_flag(self.link, data, len(data), 0, out) else None
        out = ffi.new("uint32_t *")
        found = lib.tg_get_number(self.link, data, len(data), symbol[1], out)
        return int(out[0]) if found else None

    def settled(self) -> int:
        return int(lib.tg_settled(self.link))

    def take(self, size: int) -> bytes:
        out = bytearray(size)
        lib.tg_take(self.link, size, ffi.from_buffer("uint8_t[]", out))
        return bytes(out)

    def finish(self) -> None:
        lib.tg_finish(self.link)


def get(decoder: RangeDecoder, symbol):
    """The symbol or None, from the definition's decoder."""
    yes_no = isinstance(symbol[1], bool)
    first, last = decoder.slots(65536 if yes_no else symbol[1])
    if yes_no:
        first, last = first < symbol[0], last < symbol[0]
    if first != last:
        return None
    decoder.narrow(*share((symbol[0], first) if yes_no else (first, symbol[1])))
    return first


def wanted(symbol):
    return symbol[1] if isinstance(symbol[1], bool) else symbol[0]


@given(segments=st.lists(st.tuples(SYMBOLS, st.lists(st.integers(0, 60))), max_size=4))
@settings(deadline=None, max_examples=300)
def test_kernel_and_definition_write_the_same_bytes(segments):
    kernel, definition = Kernel(), RangeEncoder()
    for symbols, takes in segments:
        for number, symbol in enumerate(symbols):
            kernel.put(symbol)
            definition.put(*share(symbol))
            assert kernel.settled() == definition.settled()
            if number in takes:
                assert kernel.take(kernel.settled()) == definition.take(definition.settled())
        kernel.finish()
        definition.finish()
        assert kernel.settled() == definition.settled()
        assert kernel.take(kernel.settled()) == definition.take(definition.settled())


def encoded(symbols) -> bytes:
    coder = RangeEncoder()
    for symbol in symbols:
        coder.put(*share(symbol))
    coder.finish()
    return coder.take(coder.settled())


@given(symbols=SYMBOLS, after=st.binary(max_size=8))
@settings(deadline=None, max_examples=200)
def test_a_segment_decodes_whatever_follows_it(symbols, after):
    data = encoded(symbols)
    kernel, decoder = Kernel(), RangeDecoder()
    decoder.feed(data + after)
    for symbol in symbols:
        assert kernel.get(symbol, data + after) == get(decoder, symbol) == wanted(symbol)


@given(symbols=SYMBOLS)
@settings(deadline=None, max_examples=200)
def test_no_shorter_string_ends_a_segment(symbols):
    """Of all strings one byte shorter, only the neighbours of the segment's prefix could do."""
    data = encoded(symbols)
    if not data:
        return
    prefix = int.from_bytes(data[:-1], "big")
    for value in {prefix, min(prefix + 1, 256 ** (len(data) - 1) - 1)}:
        decoder = RangeDecoder()
        decoder.feed(value.to_bytes(len(data) - 1, "big"))
        assert [get(decoder, symbol) for symbol in symbols] != [wanted(s) for s in symbols]


@given(symbols=SYMBOLS, more=SYMBOLS)
@settings(deadline=None, max_examples=200)
def test_settled_bytes_never_change_and_unsettled_ones_might(symbols, more):
    coder = RangeEncoder()
    for symbol in symbols:
        coder.put(*share(symbol))
    settled = coder.settled()
    low, high = (
        encoded([*symbols, *[(extreme, 65536)] * 5])[: settled + 2] for extreme in (0, 65535)
    )
    assert low[:settled] == high[:settled]
    # An interval of exactly one cell has a byte that is certain and not yet written; no more.
    assert low != high
    assert encoded([*symbols, *more])[:settled] == low[:settled]


@given(symbols=SYMBOLS, data=st.data())
@settings(deadline=None, max_examples=200)
def test_a_symbol_is_returned_exactly_when_all_continuations_agree_on_it(symbols, data):
    """The lowest and the highest continuation bound all others: decoding is monotone."""
    whole = encoded(symbols)
    known = whole[: data.draw(st.integers(0, len(whole)))]
    eager, lowest, highest, kernel = RangeDecoder(), RangeDecoder(), RangeDecoder(), Kernel()
    eager.feed(known)
    lowest.feed(known + bytes(300))
    highest.feed(known + b"\xff" * 300)
    for symbol in symbols:
        got, low, high = get(eager, symbol), get(lowest, symbol), get(highest, symbol)
        assert got == (low if low == high else None)
        assert kernel.get(symbol, known) == got
        if got is None:
            return


@given(garbage=st.binary(max_size=200), symbols=SYMBOLS)
@settings(deadline=None, max_examples=200)
def test_every_byte_string_has_a_meaning_and_both_decoders_agree_on_it(garbage, symbols):
    kernel, decoder = Kernel(), RangeDecoder()
    decoder.feed(garbage)
    for symbol in symbols:
        got = get(decoder, symbol)
        assert kernel.get(symbol, garbage) == got
        state = kernel.link.decoder
        assert state.missing <= 6
        assert state.code + (1 << 8 * state.missing) <= state.range
        if got is None:
            assert decoder._missing > 0
            return
