from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.cli.toml import to_toml
from tidegate.config import (
    Budget,
    Caps,
    Inner,
    Link,
    Models,
    Outer,
    Record,
    Settings,
    load,
    overrides,
)
from tidegate.errors import ConfigError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SOME = TEXT.filter(bool)
PATHS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).map(
    Path
)
BITS = st.none() | st.integers(0, 2**40)
CAPS = st.builds(Caps, lifetime=BITS, hour=BITS, day=BITS)

SETTINGS = st.builds(
    Settings,
    models=st.builds(
        Models,
        strong=TEXT,
        weak=TEXT,
        dtype=st.sampled_from(("bfloat16", "float32")),
        tokenizer=st.none() | TEXT,
        parameters=st.none() | st.integers(1, 2**40),
    ),
    link=st.builds(Link, address=SOME, secret_file=PATHS, pace_ms=st.integers(0, 10**6)),
    outer=st.builds(
        Outer,
        port=st.integers(0, 65535),
        model_name=TEXT,
        demo_key=st.booleans(),
        record=st.none() | PATHS,
    ),
    record=st.builds(
        Record,
        folder=st.none() | PATHS,
        verifier=st.none() | st.just("0f" * 32),
        on_failure=st.sampled_from(("stop", "go_on")),
    ),
    inner=st.builds(
        Inner, reasoning_start=st.none() | TEXT, reviewers=st.lists(TEXT, max_size=3).map(tuple)
    ),
    budget=st.builds(
        Budget,
        zones=st.lists(
            st.from_regex(r"[a-z0-9][\w.-]{0,8}", fullmatch=True).filter(str.isascii),
            min_size=2,
            max_size=4,
            unique=True,
        ).map(tuple),
        homes=st.dictionaries(TEXT, TEXT, max_size=3),
        principals=st.dictionaries(TEXT, CAPS, max_size=2),
        edges=st.dictionaries(TEXT, CAPS, max_size=2),
    ),
)


@given(settings=SETTINGS)
def test_settings_written_for_another_process_are_read_back_equal(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.getbasetemp() / "settings.toml"
    path.write_text(to_toml(settings), encoding="utf-8")
    assert load(path) == settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[link]\nwindo = 3", "link.windo"),
        ("[lnik]\nwindow = 3", "lnik"),
        ("[link]\nwindow = 0", "link.window"),
        ("[link]\nwindow = 'many'", "link.window"),
        ("[link]\naddress = ''", "link.address"),
        ("[link\n", "not TOML"),
        ("\x00", "not TOML"),
        ("[budget]\nzones = ['inner']", "budget.zones"),
        ("[budget]\nzones = ['inner', 'inner']", "named twice"),
        ("[budget]\nzones = ['inner', 'out\"side']", "budget.zones"),
        ("[outer]\nport = 65536", "outer.port"),
        ("[models]\ndtype = 'int4'", "models.dtype"),
    ],
)
def test_a_wrong_settings_file_is_refused_and_the_place_named(file: Path, text: str, told: str):
    file.write_text(text)
    with pytest.raises(ConfigError, match=told):
        load(file)


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_refused(file: Path):
    with pytest.raises(ConfigError, match="no settings file"):
        load(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not TOML"):
        load(file)
    with pytest.raises(ConfigError, match="no settings file"):
        load(file.parent)


def test_the_environment_overrides_the_file(file: Path, monkeypatch: pytest.MonkeyPatch):
    file.write_text("[link]\nwindow = 3\nmax_streams = 5")
    monkeypatch.setenv("TIDEGATE_LINK__WINDOW", "8")
    monkeypatch.setenv("TIDEGATE_CACHE", "/not/a/setting")
    settings = load(file)
    assert (settings.link.window, settings.link.max_streams) == (8, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TIDEGATE_LINK__WINDO", "3"),
        ("TIDEGATE_LNIK__WINDOW", "3"),
        ("TIDEGATE_LINK__WINDOW", "many"),
        ("TIDEGATE_LINK", "not json"),
        ("TIDEGATE_OUTER", "5"),
        ("TIDEGATE_BUDGET__ZONES", '["a'),
    ],
)
def test_a_wrong_variable_is_refused_not_ignored(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError):
        load(None)


def test_only_what_sets_something_counts_as_an_override():
    environ = {
        "TIDEGATE_LINK__WINDOW": "8",
        "TIDEGATE_OUTER": "{}",
        "TIDEGATE_CACHE": "/x",
        "PATH": "/bin",
    }
    assert overrides(environ) == ["TIDEGATE_LINK__WINDOW", "TIDEGATE_OUTER"]
