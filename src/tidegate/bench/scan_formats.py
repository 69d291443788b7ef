"""Weights written as thieves write them: number formats, and the wrappings around those.

Layouts follow ggml (q8_0, q4_0, q4_1: blocks of 32 behind half-precision scales), OCP FP8 (E4M3),
and QLoRA (arXiv 2305.14314, appendix E) for nf4.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import zstandard
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Floats = np.ndarray[Any, np.dtype[np.float32]]
"""Rows of weights, R × C; C is a multiple of 64."""

Codes = np.ndarray[Any, np.dtype[np.uint8]]

NF4 = np.array(
    [-1, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0,
     0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1],
    np.float32,
)  # fmt: skip
_BLOCK = 32
_NF4_BLOCK = 64
_E4M3_LARGEST = 448.0


def fp32(weights_RC: Floats) -> bytes:
    """Little-endian single precision."""
    return bytes(weights_RC.astype("<f4").tobytes())


def fp16(weights_RC: Floats) -> bytes:
    """Little-endian half precision."""
    return bytes(weights_RC.astype("<f2").tobytes())


def bf16(weights_RC: Floats) -> bytes:
    """The upper halves of single precision, rounded to even."""
    bits = weights_RC.astype("<f4").view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def fp8(weights_RC: Floats) -> bytes:
    """E4M3, scaled by tensor so that the largest weight is the largest number."""
    scaled = weights_RC * (_E4M3_LARGEST / max(float(np.abs(weights_RC).max()), 1e-12))
    size = np.abs(scaled)
    exponent = np.clip(np.floor(np.log2(np.maximum(size, 2.0**-20))), -6, 8)
    units = np.rint(size / np.exp2(exponent - 3)).astype(np.int32)
    # Eight units are the leading one; rounding up to sixteen is the next exponent's first.
    codes = np.where(units < 8, units, (exponent.astype(np.int32) + 6) * 8 + units)
    return bytes((np.minimum(codes, 0x7E) | (np.signbit(scaled) << 7)).astype(np.uint8).tobytes())


def int8(weights_RC: Floats) -> bytes:
    """Signed bytes, each row scaled by its largest weight; scales are kept elsewhere."""
    return bytes(np.rint(weights_RC / _scales(weights_RC, 127)).astype(np.int8).tobytes())


def int4(weights_RC: Floats) -> bytes:
    """Two signed nibbles a byte, low one first, groups of 128 scaled by their largest weight."""
    groups = weights_RC.reshape(-1, 128 if weights_RC.size % 128 == 0 else 64)
    return _nibbles(np.rint(groups / _scales(groups, 7)).astype(np.int8).reshape(-1) & 15)


def nf4(weights_RC: Floats) -> bytes:
    """Two nibbles a byte, high one first, blocks of 64; scales are kept elsewhere."""
    blocks = weights_RC.reshape(-1, _NF4_BLOCK)
    scaled = blocks / _scales(blocks, 1)
    codes = np.searchsorted((NF4[1:] + NF4[:-1]) / 2, scaled.reshape(-1)).astype(np.uint8)
    return (codes[::2] << 4 | codes[1::2]).tobytes()


def q8_0(weights_RC: Floats) -> bytes:
    """ggml: scale, 32 signed bytes."""
    blocks = weights_RC.reshape(-1, _BLOCK)
    scales = _scales(blocks, 127).astype("<f2")
    codes = np.rint(blocks / np.maximum(scales.astype(np.float32), 1e-12)).astype(np.int8)
    return np.hstack([scales.view(np.uint8), codes.view(np.uint8)]).tobytes()


def q4_0(weights_RC: Floats) -> bytes:
    """ggml: scale, 16 bytes of which the low nibbles are the block's first half."""
    blocks = weights_RC.reshape(-1, _BLOCK)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)
    scales = (extreme / -8).astype("<f2")
    whole = scales.astype(np.float32)
    codes = np.clip(np.rint(blocks / np.where(whole == 0, 1, whole)) + 8, 0, 15).astype(np.uint8)
    return np.hstack([scales.view(np.uint8), _halves(codes)]).tobytes()


def q4_1(weights_RC: Floats) -> bytes:
    """ggml: scale, least weight, 16 bytes as in q4_0."""
    blocks = weights_RC.reshape(-1, _BLOCK)
    least = blocks.min(axis=1, keepdims=True)
    steps = np.maximum((blocks.max(axis=1, keepdims=True) - least) / 15, 1e-12)
    codes = np.clip(np.rint((blocks - least) / steps), 0, 15).astype(np.uint8)
    pair = np.hstack([steps, least]).astype("<f2")
    return np.hstack([pair.view(np.uint8), _halves(codes)]).tobytes()


def _scales(blocks: Floats, levels: int) -> Floats:
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    return np.asarray(np.maximum(largest, 1e-12) / levels, np.float32)


def _halves(codes: Codes) -> Codes:
    return np.asarray(codes[:, : _BLOCK // 2] | codes[:, _BLOCK // 2 :] << 4, np.uint8)


def _nibbles(codes: np.ndarray[Any, Any]) -> bytes:
    return bytes((codes[::2] | codes[1::2] << 4).astype(np.uint8).tobytes())


FORMATS: Mapping[str, Callable[[Floats], bytes]] = {
    "fp32": fp32,
    "fp16": fp16,
    "bf16": bf16,
    "fp8": fp8,
    "int8": int8,
    "q8_0": q8_0,
    "q4_0": q4_0,
    "q4_1": q4_1,
    "int4": int4,
    "nf4": nf4,
}


def encrypted(data: bytes) -> bytes:
    """AES-128 in counter mode. The key is no secret: nobody decrypts it."""
    cipher = Cipher(algorithms.AES(bytes(range(16))), modes.CTR(bytes(16))).encryptor()
    return cipher.update(data)


WRAPPINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "base64": base64.b64encode,
    "zstd": zstandard.ZstdCompressor(level=3).compress,
    "gzip": lambda data: gzip.compress(data, 6, mtime=0),
    "encrypted": encrypted,
    "hex": lambda data: data.hex().encode(),
    "ascii85": base64.a85encode,
}
