"""Settings written back as TOML, so that two processes start from the same file."""

from __future__ import annotations

import json

from tidegate.config import Settings


def to_toml(settings: Settings) -> str:
    """The settings as a TOML document that `config.load` reads back to an equal value."""
    sections = settings.model_dump(mode="json", exclude_none=True)
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in section.items())
        for name, section in sections.items()
    )


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_plain(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _plain(value)


def _plain(value: object) -> str:
    # Strings, integers and booleans are spelled alike in JSON and TOML, but for two things: TOML
    # has no escapes for halves of a character, and wants DEL escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
