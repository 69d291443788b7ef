from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.bench.prompts import Prompt, load
from tidegate.errors import ConfigError


def write(path: Path, count: int) -> Path:
    rows = [
        Prompt(str(i), "x" * (i % 7 + 1), f"source {i // 10}", "CC0", "chat") for i in range(count)
    ]
    path.write_bytes(b"\n".join(map(msgspec.json.encode, rows)) + b"\n\n")
    return path


@given(count=st.integers(1, 60), data=st.data())
def test_prompts_are_drawn_once_each_and_always_the_same(
    count: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
):
    path = write(tmp_path_factory.getbasetemp() / "prompts.jsonl", count)
    limit = data.draw(st.integers(0, count))
    chosen = load(path, limit, longest=7)
    assert len({prompt.id for prompt in chosen}) == limit
    assert chosen == load(path, limit, longest=7)
    assert chosen == load(path, count, longest=7)[:limit]


def test_every_stretch_of_a_run_sees_every_source(tmp_path: Path):
    chosen = load(write(tmp_path / "prompts.jsonl", 60), 60, longest=7)
    for start in range(0, 60, 12):
        assert len(Counter(prompt.source for prompt in chosen[start : start + 12])) >= 3


def test_long_prompts_are_left_out_and_too_few_are_refused(tmp_path: Path):
    path = write(tmp_path / "prompts.jsonl", 14)
    assert {len(prompt.prompt) for prompt in load(path, 6, longest=3)} == {1, 2, 3}
    with pytest.raises(ConfigError, match="holds 6 prompts"):
        load(path, 7, longest=3)


@pytest.mark.parametrize("content", [b"{", b'{"id": "x"}', b"\xff", b"[]"])
def test_a_malformed_file_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError):
        load(path, 1, longest=100)
    with pytest.raises(ConfigError):
        load(tmp_path / "nowhere", 1, longest=100)


def test_an_empty_file_holds_no_prompts(tmp_path: Path):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b"")
    with pytest.raises(ConfigError):
        load(path, 1, longest=100)


def test_the_packaged_sample_is_enough_for_the_demo_and_says_where_it_is_from():
    sample = load(None, 24, longest=600)
    assert len({prompt.id for prompt in sample}) == 24
    assert all(prompt.source and prompt.licence and prompt.prompt for prompt in sample)
