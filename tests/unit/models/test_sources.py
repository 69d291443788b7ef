from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.errors import ModelError
from tidegate.models.cache import cache_root
from tidegate.models.sources import locate


def test_a_path_is_taken_as_it_is(tmp_path: Path):
    assert locate(str(tmp_path)) == tmp_path


def test_an_unreachable_hub_says_what_to_do_instead(monkeypatch: pytest.MonkeyPatch):
    hub = pytest.importorskip("huggingface_hub", reason="needs tidegate[torch]")
    errors = pytest.importorskip("huggingface_hub.errors")

    def offline(*_: object, **__: object) -> str:
        raise errors.LocalEntryNotFoundError("offline")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(ModelError, match="give a path"):
        locate("somebody/some-model")


def test_a_hub_download_never_asks_for_pickles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    hub = pytest.importorskip("huggingface_hub", reason="needs tidegate[torch]")
    asked: list[str] = []

    def snapshot(spec: str, *, allow_patterns: list[str]) -> str:
        asked.extend(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    assert locate("somebody/some-model") == tmp_path
    assert asked
    assert not any(pattern.endswith((".bin", ".pt", ".py", "*")) for pattern in asked[:-1])


def test_nonsense_lists_what_is_possible():
    with pytest.raises(ModelError, match="neither a file"):
        locate("no such thing")


def test_the_cache_folder_follows_its_own_variable_then_xdg(tmp_path: Path):
    assert cache_root({"TIDEGATE_CACHE": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert cache_root({"XDG_CACHE_HOME": "/b"}) == Path("/b/tidegate")
    assert cache_root({}) == Path.home() / ".cache" / "tidegate"
