"""Which number type a processor is quick at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.models.cpu import quick_dtype


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags\t\t: fpu sse avx avx2 fma", "float32"),
        ("flags\t\t: fpu avx2 avx512f avx512bw", "bfloat16"),
        ("flags\t\t: fpu avx2 amx_bf16 amx_tile", "bfloat16"),
        ("Features\t: fp asimd bf16", "bfloat16"),
    ],
)
def test_bfloat16_is_avoided_only_where_it_is_known_to_be_slow(
    tmp_path: Path, flags: str, expected: str
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\n{flags}\nbugs\t\t: none\n")
    assert quick_dtype(path) == expected


def test_without_a_description_of_the_processor_nothing_changes(tmp_path: Path) -> None:
    assert quick_dtype(tmp_path / "absent") == "bfloat16"
