"""Pages are shared where contents are equal, and written by one sequence only."""

from __future__ import annotations

import numpy as np
import pytest
from exact_models import shape_of, tensors

from tidegate.errors import ModelError
from tidegate.models.exact.cache import Cache
from tidegate.models.exact.ops import PAGE
from tidegate.models.exact.ops_numpy import NumpyOps
from tidegate.models.exact.parameters import parameters_of

SHAPE = shape_of(layers=1, width=16, ffn_size=16, heads=1, kv_heads=1)
LONG = list(range(40)) * 5  # three full pages and eight tokens


def fresh(spare: int = 256) -> Cache:
    return Cache(SHAPE, NumpyOps(parameters_of(SHAPE, tensors(SHAPE))), spare=spare)


def write(cache: Cache, sequence_id: int, tokens: list[int]) -> int:
    """Append tokens, marking their places in the pool; returns how many were known already."""
    known = 0 if cache.length(sequence_id) else cache.start(sequence_id, tokens)
    part = [(sequence_id, tokens[known:])]
    rows = cache.rows(part, [0])
    pages_N = rows.tables_SP[0, rows.position_N // PAGE]
    cache.pool.keys[0, pages_N, 0, rows.position_N % PAGE, 0] = rows.token_N
    cache.commit(part)
    return known


def read(cache: Cache, sequence_id: int) -> list[int]:
    """What the pool holds for a sequence."""
    rows = cache.rows([(sequence_id, [0])], [0])
    place_T = np.arange(cache.length(sequence_id))
    found = cache.pool.keys[0, rows.tables_SP[0, place_T // PAGE], 0, place_T % PAGE, 0].tolist()
    cache.cut(sequence_id, cache.length(sequence_id))
    return found


def test_a_known_beginning_is_not_run_again():
    cache = fresh()
    assert write(cache, 0, LONG) == 0
    assert write(cache, 1, LONG) == 3 * PAGE
    assert write(cache, 2, LONG[: 2 * PAGE]) == PAGE  # its last token has to run
    assert write(cache, 3, [1, *LONG]) == 0
    assert write(cache, 4, [*LONG[:PAGE], 96, *LONG]) == PAGE
    for number in (0, 1):
        assert read(cache, number) == LONG
    assert read(cache, 4) == [*LONG[:PAGE], 96, *LONG]


def test_what_was_dropped_is_known_until_its_pages_are_needed():
    cache = fresh(spare=3)
    write(cache, 0, LONG)
    cache.drop(0)
    assert write(cache, 1, LONG) == 3 * PAGE
    cache.drop(1)
    write(cache, 2, LONG[::-1])
    cache.drop(2)
    assert write(cache, 3, LONG) == 0
    assert read(cache, 3) == LONG


def test_dropping_everything_gives_all_pages_back():
    cache = fresh(spare=0)
    before = cache.pool.pages
    for turn in range(40):
        write(cache, turn, LONG)
        cache.fork(turn, 1000 + turn)
        cache.drop(turn)
        cache.drop(1000 + turn)
    assert cache.pool.pages == before


def test_a_fork_shares_the_past_and_not_the_future():
    cache = fresh()
    write(cache, 0, LONG)
    cache.fork(0, 1)
    write(cache, 0, [90, 91])
    write(cache, 1, [80])
    assert read(cache, 0) == [*LONG, 90, 91]
    assert read(cache, 1) == [*LONG, 80]
    cache.drop(0)
    assert read(cache, 1) == [*LONG, 80]


@pytest.mark.parametrize("length", [5, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE])
def test_cutting_one_sequence_leaves_those_it_shares_pages_with(length: int):
    cache = fresh()
    write(cache, 0, LONG)
    write(cache, 1, LONG)
    cache.cut(0, length)
    write(cache, 0, [77] * PAGE)
    assert read(cache, 0) == [*LONG[:length], *[77] * PAGE]
    assert read(cache, 1) == LONG
    assert write(cache, 2, LONG) == 3 * PAGE
    assert read(cache, 2) == LONG


def test_the_pool_grows_and_keeps_what_it_holds():
    cache = fresh()
    size = cache.pool.pages
    sequences = [[number % 90, number // 90, *LONG] for number in range(size // 3)]
    for number, tokens in enumerate(sequences):
        assert write(cache, number, tokens) == 0
    assert cache.pool.pages == 2 * size
    assert all(read(cache, number) == sequences[number] for number in range(0, size // 3, 17))


def test_unknown_and_taken_ids_are_refused():
    cache = fresh()
    write(cache, 0, LONG)
    for refused in (lambda: cache.drop(1), lambda: cache.fork(1, 2), lambda: cache.fork(0, 0)):
        with pytest.raises(ModelError):
            refused()
