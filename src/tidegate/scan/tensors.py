"""What kind of numbers a stretch of bytes holds, told from how its columns behave.

Weights are small, centred on zero and of similar size. Written as floating point, the byte that
holds the exponent takes few values (2.6–3.3 bits for trained networks) while the mantissa's are
even; cut into blocks as ggml does, scales recur every 18, 20, 34 … bytes. Neither happens in
encrypted data.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

LEAST: Final = 1024
_MOST: Final = 1 << 15
EVEN: Final = 0.02
"""Bits a byte short of eight, below which no layout of weights is known to stay."""
BLOCKS: Final = {
    "q4_0": (18, 1, "a half-precision scale before 16 bytes of two 4-bit weights"),
    "q4_1": (20, 1, "a half-precision scale and offset before 16 bytes of two 4-bit weights"),
    "q8_0": (34, 1, "a half-precision scale before 32 signed bytes"),
    "q4_K": (144, 1, "scale, offset and twelve bytes of sub-scales before 128 bytes"),
}
"""Layout → bytes a block, which byte of it is the scale's exponent, and what it looks like."""


class Numbers(NamedTuple):
    """What the bytes look like. `layout` is empty where they could be anything; `phase` is how far
    into a number or block the stretch begins; `surprise` is how clear it is, in bits a byte."""

    layout: str
    phase: int
    surprise: float
    says: str


NOTHING: Final = Numbers("", 0, 0.0, "too short to tell")


def look(data: bytes) -> Numbers:
    """The likeliest layout of a stretch of at least 1,024 bytes; the first 32 KiB are looked at."""
    taken_B = np.frombuffer(data[:_MOST], np.uint8)
    if len(taken_B) < LEAST:
        return NOTHING
    # A period of two is one of eighteen as well, so what explains more with less comes first.
    for test in (_floats_of_4, _floats_of_2, _blocks, _small):
        found = test(taken_B)
        if found is not None:
            return found
    unevenness = _deficit(taken_B)
    if unevenness < EVEN:
        says = "every byte value is equally frequent, as after encryption or compression"
    else:
        says = "bytes without the columns that numbers have"
    return Numbers("", 0, unevenness, says)


def _deficit(column_N: Bytes) -> float:
    """Bits a byte by which a column falls short of eight, less what chance alone takes away."""
    total = len(column_N)
    count_256 = np.bincount(column_N, minlength=256)
    share = count_256[count_256 > 0] / total
    # Miller and Madow's correction, for bins that a short column could have filled.
    expected = 255 / (2 * total * np.log(2)) if total > 512 else 8 - np.log2(min(total, 256)) + 0.5
    return float(8 + (share * np.log2(share)).sum() - expected)


def _columns(taken_B: Bytes, width: int) -> Bytes:
    rows = len(taken_B) // width
    return taken_B[: rows * width].reshape(rows, width)


def _floats(taken_B: Bytes, width: int) -> Numbers | None:
    """Numbers of 2 or 4 bytes: one column of exponents, far from even, next to even ones."""
    columns = _columns(taken_B, width)
    deficit_W = np.array([_deficit(columns[:, k]) for k in range(width)])
    high = int(deficit_W.argmax())
    others = np.delete(deficit_W, high)
    if deficit_W[high] < 0.6 or deficit_W[high] < float(others.min()) + 0.4:
        return None
    if width == 4 and deficit_W[(high + 2) % 4] > deficit_W[high] / 2:
        return None  # every second byte is an exponent: numbers of two bytes
    column_N = columns[:, high]
    negative = float((column_N >= 128).mean())
    if not 0.2 < negative < 0.8:
        return None
    name, says = _exponents(column_N, width)
    phase = (high + 1) % width
    bits = 8 - float(deficit_W[high])
    return Numbers(
        name,
        phase,
        float(deficit_W[high]),
        f"numbers of {width} bytes ({says}): their exponents take {bits:.1f} bits of eight and "
        f"{negative:.0%} are negative, as weights round zero are",
    )


def _floats_of_4(taken_B: Bytes) -> Numbers | None:
    return _floats(taken_B, 4)


def _floats_of_2(taken_B: Bytes) -> Numbers | None:
    return _floats(taken_B, 2)


def _exponents(column_N: Bytes, width: int) -> tuple[str, str]:
    middle = int(np.median(column_N & 127))
    if width == 4:
        return "fp32", "single precision"
    # Weights are below one: bfloat16 keeps seven bits of exponent biased by 127 in this byte,
    # half precision five biased by 15.
    if middle >= 48:
        return "bf16", "bfloat16"
    return "fp16", "half precision"


def _blocks(taken_B: Bytes) -> Numbers | None:
    """Blocks behind scales: a period whose one column is far from even."""
    best: Numbers | None = None
    for name, (width, exponent, says) in BLOCKS.items():
        columns = _columns(taken_B, width)
        if len(columns) < 24:
            continue
        # Variance between columns of how often the commonest sixteenth of values occurs.
        crowd_W = np.array(
            [np.bincount(columns[:, k] >> 2, minlength=64).max() for k in range(width)]
        )
        high = int(crowd_W.argmax())
        typical = float(np.median(crowd_W))
        excess = float(crowd_W[high] - typical) / np.sqrt(typical + 1)
        if excess < 8 or (best is not None and excess <= best.surprise * 4):
            continue
        best = Numbers(
            name,
            (high - exponent) % width,
            excess / 4,
            f"blocks of {width} bytes, {says} ({name}); one byte of each varies as scales do",
        )
    return best


def _small(taken_B: Bytes) -> Numbers | None:
    """Single signed bytes round zero, 8-bit floats, or pairs of 4-bit codes."""
    deficit = _deficit(taken_B)
    if deficit < 0.05:
        return None
    count_256 = np.bincount(taken_B, minlength=256).astype(float)
    total = count_256.sum()
    size_128 = count_256[:128] + count_256[:-129:-1]
    mirrored = float(np.abs(count_256[1:128] - count_256[:128:-1]).sum() / total)
    if mirrored < 0.15 + 2 * np.sqrt(128 / total):
        near = float(size_128[:32].sum() / total)
        if near > 0.4:
            return Numbers(
                "int8", 0, deficit, f"signed bytes, {near:.0%} of them within 32 of zero"
            )
    signs = float(np.abs(count_256[:128] - count_256[128:]).sum() / total)
    if signs < 0.15 + 2 * np.sqrt(128 / total) and deficit > 0.4:
        return Numbers(
            "fp8", 0, deficit, "8-bit floats: positive and negative values equally often"
        )
    low, high = (
        np.bincount(half, minlength=16) / len(taken_B) for half in (taken_B & 15, taken_B >> 4)
    )
    if float(np.abs(low - high).sum()) < 0.1 and float(np.abs(low - 1 / 16).sum()) > 0.12:
        return Numbers(
            "int4",
            0,
            deficit,
            "two 4-bit codes a byte, both halves with the same uneven frequencies",
        )
    return None
