from __future__ import annotations

import itertools
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.scan.lanes import MOST_LANES, OTHERS, Lanes, cut, looks_like_json, split_slowly

_VALUES = st.recursive(
    st.one_of(st.text(), st.integers(), st.floats(allow_nan=False), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["id", "content", "ü", 'a"b']), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=50, deadline=None)
@given(_VALUES, st.booleans())
def test_json_is_split_as_the_reference_splits_it(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    found = sorted(lane.data for lane in Lanes().feed(text))
    assert found == sorted(split_slowly(text).values())


@given(st.binary(max_size=400))
def test_what_is_no_json_is_split_as_the_reference_splits_it(data: bytes) -> None:
    found = sorted(lane.data for lane in Lanes().feed(data))
    assert found == sorted(split_slowly(data).values())


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_cutting_a_stream_anywhere_loses_no_byte(data: bytes, cuts: list[int]) -> None:
    lanes, total = Lanes(), 0
    at = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    for start, stop in itertools.pairwise(at):
        total += sum(len(lane.data) for lane in lanes.feed(data[start:stop]))
    dropped = data.count(b'"') + 6 * data.count(b"\\")
    assert len(data) - dropped <= total <= len(data) + 2


def test_an_answer_in_many_events_is_one_text() -> None:
    words = ["to ", "be ", 'or "not', '" ', "zwölf\n"] * 50
    events = b"".join(
        b"data: " + json.dumps({"id": "c1", "delta": {"content": word}}).encode() + b"\n\n"
        for word in words
    )
    lanes, told = Lanes(), b""
    for at in range(0, len(events), 700):
        piece = events[at : at + 700]
        told += b"".join(lane.data for lane in lanes.feed(piece) if lane.name == "content")
    # Pieces cut inside a key are another matter: `cut` keeps the scanner from making them.
    whole = {lane.name: lane.data for lane in Lanes().feed(events)}
    assert whole["content"].decode() == "".join(words)
    assert len(told) > 0


def test_keys_beyond_the_last_lane_share_one() -> None:
    text = json.dumps({f"key{n}": "v" for n in range(3 * MOST_LANES)}).encode()
    lanes = Lanes().feed(text)
    assert len(lanes) <= MOST_LANES
    assert {lane.name: lane.values for lane in lanes}[OTHERS] > MOST_LANES


def test_a_stream_is_not_cut_inside_a_key() -> None:
    text = b'{"first":"value","second":"va'
    assert text[: cut(text)] == b'{"first":"value"'
    assert cut(b"x" * 5000) == 5000


def test_sources_are_not_taken_for_json() -> None:
    assert not looks_like_json(b"def f(x):\n    return {'a': x}\n" * 500)
    assert looks_like_json(b'{"a":"b"}' * 500)
