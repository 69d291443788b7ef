"""Settings of a deployment: one TOML file, overridable by environment, each with unit and reason.

`TIDEGATE_LINK__WINDOW=8` sets `[link] window`. An unknown key is an error, not a silent default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tidegate.errors import ConfigError

Positive = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Models(_Section):
    """Which models; names as `tidegate models` lists them, paths, or hub ids."""

    strong: str = "smollm2"
    weak: str = "ngram"
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    weak_dtype: Literal["bfloat16", "float32"] = "float32"
    """float32, so that the two halves' tables differ as rarely as floats allow."""
    tokenizer: str | None = None
    """A folder with the tokenizer's files; by default the strong model's. A real outer half is given
    one without weights."""
    engine: Literal["transformers", "llama.cpp"] = "transformers"
    """What runs the strong model; llama.cpp reads GGUF files."""
    threads: Positive = 2
    max_context: Positive = 4096
    """Tokens a sequence may hold; bounds the memory of the caches."""


class Link(_Section):
    """The upload-limited link between the halves."""

    address: str = "run/link.sock"
    """A socket's path, or host:port of a private network."""
    token_file: Path | None = None
    """A shared secret the inner half asks the outer one for; without it, the socket's permissions
    are what keeps others away."""
    max_streams: Positive = 32
    window: Positive = 4
    """Steps granted beyond what is decoded: enough to hide a round trip, and wasted at most once a
    cancelled stream."""
    deadline_ms: Positive = 60
    """How long a token may wait for its frame to fill before padding is paid for it."""
    late_ms: Positive = 30_000
    """After this long without an answer to a pull, the link is torn down as an incident."""


class Outer(_Section):
    """The half that faces users."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    model_name: str = "tidegate"
    key_file: Path | None = None
    seed_key_file: Path | None = None
    """At least 16 secret bytes that sampling seeds are derived from; made on first start."""
    chunk_interval_ms: int = Field(default=20, ge=0)
    """Answers leave at multiples of this, so that the inner half's timing is not passed on."""
    max_tokens: Positive = 1024
    ledger: Path = Path("run/outer-ledger.sqlite")
    principals: tuple[str, ...] = ()


class Inner(_Section):
    """The half beside the weights."""

    ledger: Path = Path("run/inner-ledger.sqlite")
    reasoning_start: str | None = None
    reasoning_end: str | None = None
    """Delimiters between which the model thinks; what it thinks stays inside."""
    measurements: Path | None = None
    """Where to write, inside, what each token cost and what it would have cost: for the demo."""


class Budget(_Section):
    """How much may leave."""

    profile: str = "demo"
    zones: tuple[str, ...] = ("inner", "outside")


class Settings(BaseSettings):
    """Everything a deployment can set."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEGATE_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    models: Models = Models()
    link: Link = Link()
    outer: Outer = Outer()
    inner: Inner = Inner()
    budget: Budget = Budget()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


def load(path: Path | None) -> Settings:
    """Settings from a TOML file (or defaults) and the environment. Raises ConfigError."""
    values = {}
    if path is not None:
        if not path.is_file():
            raise ConfigError(f"there is no settings file {path}", path=str(path))
        try:
            values = TomlConfigSettingsSource(Settings, path)()
        except ValueError as error:
            raise ConfigError(f"{path} is not TOML: {error}", path=str(path)) from error
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"setting {where}: {first['msg']}", setting=where) from error
