"""Scenario files: those shipped with the package, and the user's."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from tidegate.errors import ConfigError
from tidegate.plan.scenario import Scenario, read


def shipped_names() -> tuple[str, ...]:
    """Names of the packaged scenarios."""
    folder = files("tidegate.data") / "plan"
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def text_of(name: str) -> str:
    """The text of a scenario, by path or packaged name. Raises ConfigError where there is none."""
    if name in shipped_names():
        return (files("tidegate.data") / "plan" / f"{name}.toml").read_text(encoding="utf-8")
    path = Path(name)
    if not path.is_file():
        known = ", ".join(shipped_names())
        raise ConfigError(
            f"there is no scenario {name}: neither a file nor one of {known}", file=name
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not text in UTF-8", file=name) from error


def scenario_of(name: str) -> Scenario:
    """The scenario of that path or packaged name. Raises ConfigError."""
    return read(text_of(name), name)


def shipped() -> dict[str, Scenario]:
    """Every packaged scenario by name."""
    return {name: scenario_of(name) for name in shipped_names()}
