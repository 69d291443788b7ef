"""What this machine's processor computes fast."""

from __future__ import annotations

from pathlib import Path

from tidegate.models.prepared import Dtype

_CPUINFO = Path("/proc/cpuinfo")
_KNOWN = frozenset({"avx2", "avx512bw"})
_ENOUGH = frozenset({"avx512bw", "amx_bf16"})


def quick_dtype(cpuinfo: Path = _CPUINFO) -> Dtype:
    """bfloat16, or float32 where an x86 processor is known to be slow at the former.

    oneDNN, which torch multiplies with, has no bfloat16 kernels below AVX-512. What takes their
    place was 2.3, 4.7 and 6.3 times slower than float32 at 1, 32 and 512 rows (x @ w.T with w
    3,072 x 576, torch 2.13.0, two AVX2 cores).
    """
    try:
        text = cpuinfo.read_text()
    except OSError:
        return "bfloat16"
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    flags = frozenset(line.split())
    return "float32" if flags & _KNOWN and not flags & _ENOUGH else "bfloat16"
