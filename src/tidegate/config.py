"""Settings of a deployment: one TOML file, overridable by environment, each with unit and reason.

`TIDEGATE_LINK__WINDOW=8` sets `[link] window`. An unknown key is an error, not a silent default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from tidegate.errors import ConfigError

Positive = Annotated[int, Field(ge=1)]

LaneName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""An inner half's name in the settings of outer halves, the same in all of them; or the reverse."""

Zone = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""A zone's name; edges and ledger accounts are named after it."""

PREFIX = "TIDEGATE_"
DELIMITER = "__"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Models(_Section):
    """Which models; names as `tidegate models` lists them, paths, or hub ids.

    `exact:` before a strong or weak one runs it on the exact engine, as a converted folder does.
    """

    strong: str = "smollm2"
    weak: str = "ngram"
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    weak_dtype: Literal["bfloat16", "float32"] = "float32"
    """float32, so that the two halves' tables differ as rarely as floats allow."""
    tokenizer: str | None = None
    """A folder with the tokenizer's files; by default the strong model's. A real outer half is
    given one without weights."""
    engine: Literal["transformers", "llama.cpp", "vllm", "sglang"] = "transformers"
    """What runs the strong model; llama.cpp reads GGUF files, vllm and sglang are asked over HTTP
    as `[engine]` says."""
    parameters: Positive | None = None
    """Of the strong model, for the budgets; by default read from its folder, which a real outer
    half does not have."""
    threads: Positive = 2
    max_context: Positive = 4096
    """Tokens a sequence may hold; bounds the memory of the caches."""


class Engine(_Section):
    """Servers that run the strong model beside the inner half, with Tidegate's plug-in in them."""

    urls: tuple[str, ...] = ()
    """Every replica by itself, as http://host:port; behind a balancer a bad one would hide."""
    model: str | None = None
    """The served name, where a server has several."""
    key_file: Path | None = None
    """Holds the servers' API key."""
    version: str | None = None
    """One exact version beyond the tested ones, which you have measured yourself."""


class Sealed(_Section):
    """How the inner half opens a strong model that lies sealed; `[models] strong` is the folder."""

    owner: Path | None = None
    """The owner's public key, got by another way than the folder."""
    kms: str | None = None
    """Where data keys come from: a key service as `tidegate vault open --kms` names it, or
    `lease:SOCKET`; when that lease ends, so does the half."""
    model_id: str | None = None
    """The model that is expected; another one of its owner is refused."""
    manifest: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """The sealing that is expected; an older one is refused."""


class Ranks(_Section):
    """Several hosts of the inner zone that run one strong model together, each a part of its
    layers; for the exact engine. All of them have the same section."""

    addresses: tuple[str, ...] = ()
    """Where ranks 1, 2, … listen: sockets' paths or host:port. The inner half itself is rank 0."""
    secret_file: Path = Path("run/ranks.secret")
    """What a rank asks of who leads; made on first start. Copy it to the other hosts."""
    patience_ms: Positive = 60_000
    """A rank that does not answer a call within this is lost."""


class Link(_Section):
    """The upload-limited link between the halves."""

    address: str = Field(default="run/link.sock", min_length=1)
    """A socket's path, or host:port of a private network."""
    secret_file: Path = Path("run/link.secret")
    """What the inner half asks the outer one for; made on first start. Copy it where the other half
    runs elsewhere."""
    max_streams: Annotated[int, Field(ge=1, le=1024)] = 32
    window: Positive = 64
    """Steps granted beyond what is decoded; a cancelled stream wastes at most as many tokens."""
    delay_ms: Positive = 250
    """How long a token may wait for its frame to fill before padding is paid for it."""
    pace_ms: int = Field(default=0, ge=0)
    """Above 0: one frame of `pace_bytes` every so often, dummies included, whatever there is to
    say. Then the frames themselves tell nothing, and every dummy is charged."""
    pace_bytes: Positive = 16
    late_ms: Positive = 120_000
    """A pull answered later than this ends the session as an incident."""


class Outer(_Section):
    """The half that faces users."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    model_name: str = "tidegate"
    key_file: Path = Path("run/keys.json")
    """Digests of the keys users present; `tidegate serve key` adds one."""
    demo_key: bool = False
    """Also accept the public key `tidegate-demo` from this host itself."""
    seed_key_file: Path = Path("run/seed.key")
    """32 secret bytes that sampling seeds are derived from; made on first start. Never give it to
    the inner half."""
    chunk_interval_ms: int = Field(default=20, ge=0)
    """Answers leave at multiples of this, so that the inner half's timing is not passed on."""
    max_tokens: Positive = 1024
    streams_per_principal: Positive = 32
    open_metrics: bool = False
    scan: Literal["off", "alarm", "stop"] = "off"
    """Whether answers are looked at for weights, such as base64 of them, before they leave: `alarm`
    counts and logs what is found, `stop` also withholds the rest of the answer."""
    scan_calibration: Path | None = None
    """This site's, from `tidegate scan calibrate`."""
    fingerprints: tuple[Path, ...] = ()
    """Of own weights, from `tidegate scan fingerprint`; they name a leaked piece."""
    fingerprint_key: Path | None = None
    """The key file that they were made with. Who has both can test guesses of the weights."""
    ledger: Path = Path("run/outer-ledger.sqlite")
    record: Path | None = None
    """Where to write, outside, which tokens each answer was: for the demo."""
    control: str = Field(default="run/outer-control.sock", min_length=1)
    """Where `tidegate serve lanes` and `drain` ask, for this user alone; only with `[lanes]`."""
    lane_ledger: Path = Path("run/outer-lanes.sqlite")
    """Holds lanes' own budgets; only with such."""
    drain_s: int = Field(default=25, ge=0)
    """How long answers may go on once the half was told to stop; service managers wait longer."""


class SharedLedger(_Section):
    """One ledger for several outer halves, in PostgreSQL (docs/howto/postgres.md)."""

    urls: tuple[str, ...] = ()
    """`postgresql://user@host/database`, one a server of the cluster. Without any, this half keeps
    its ledger by itself, in `[outer] ledger`."""
    password_file: Path | None = None
    """The user's password, on one line."""
    table: str = Field(default="tidegate_ledger", pattern=r"^[a-z_][a-z0-9_]{0,40}$")
    holder: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    """This half's name, unlike any other's; needed with `urls`."""
    copy_file: Path = Path("run/ledger-copy.sqlite")
    """Every entry that was acknowledged, kept here too: shows and mends what a failover forgot."""
    replicated: bool = True
    """Take a server only while it waits for a standby. False: it is never failed over."""
    lasts_s: Annotated[int, Field(ge=3, le=3600)] = 30
    """A half that gave no word for so long is taken for dead, and its leases are charged."""
    lease_bits: Annotated[int, Field(ge=4096)] = 1 << 16
    """What a principal's lease holds beyond need; a half that dies is charged it in full."""
    longest_lease_bits: Annotated[int, Field(ge=4096)] = 1 << 22
    """What it grows to where it is used up within half a second."""
    patience_ms: Positive = 2_000
    """How long a request waits for bits before it is told to come again, with a 503."""
    silent_ms: Positive = 10_000
    """How long a server may be silent before it is taken for gone."""


class Record(_Section):
    """What the outer half writes down of every answer, for re-execution (`spec/record.md`)."""

    folder: Path | None = None
    """Where; without one nothing is recorded. It holds answers in the clear: guard it as them."""
    origin: str = Field(default="tidegate.local/record", pattern=r"^[^\s+]{1,200}$")
    """The record's name in its checkpoints, and its key's: a URL without scheme, by convention."""
    key_file: Path = Path("run/record.key")
    """Signs checkpoints; made on first start, with what verifies them beside it as `.pub`."""
    verifier: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """X25519 public key, in hex, of who may read seeds, prompts and stop strings. Without one they
    stand in the clear."""
    on_failure: Literal["stop", "go_on"] = "stop"
    """What happens when an answer cannot be recorded, as on a full disk: it ends with an error, or
    leaves all the same and the record says later how much did."""
    hold: str | None = Field(default=None, min_length=1)
    """The socket of a verifier (`tidegate verify … --gate`) who has to pass every answer before it
    leaves. Answers then come whole, and not at all where he does not answer."""
    hold_ms: Positive = 60_000
    """How long an answer waits for him."""
    sign_ms: Positive = 10_000
    """Entries are under a signed checkpoint after this long at the latest, ends at once."""
    segment_mib: Annotated[int, Field(ge=1, le=1024)] = 16
    """Size at which a new file is begun; the last one is read when the half starts."""
    model: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """The strong model's fingerprint; by default worked out where its folder is at hand."""
    lora: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """The fingerprint of the adapter that the strong model runs with."""


class Inner(_Section):
    """The half beside the weights."""

    ledger: Path = Path("run/inner-ledger.sqlite")
    reasoning_start: str | None = None
    reasoning_end: str | None = None
    """Delimiters between which the model thinks; what it thinks stays inside."""
    reasoning_tokens: Positive = 4096
    reviewers: tuple[str, ...] = ()
    """Digests, from `tidegate review new`, of the credentials of people who may read reasoning."""
    review_address: str = Field(default="run/review.sock", min_length=1)
    """Where they ask, inside the zone; only with `reviewers`."""
    measurements: Path | None = None
    """Where to write, inside, what each token cost and what it would have cost: for the demo."""
    drain_s: int = Field(default=25, ge=0)
    """How long streams may go on once the half was told to stop."""


class Caps(_Section):
    """Bits that may leave: ever, in any hour, in any day. What is not set is not capped."""

    lifetime: int | None = Field(default=None, ge=0)
    hour: int | None = Field(default=None, ge=0)
    day: int | None = Field(default=None, ge=0)


class Lane(_Section):
    """One link of several: to an inner half in an outer one's settings, and the other way round.

    Both halves need the same secret and the same `max_streams`; what is not set is as in `[link]`.
    """

    address: str | None = Field(default=None, min_length=1)
    """The inner half's, in an outer one's settings. An inner half listens at `[link] address` for
    all its lanes and tells them apart by their secrets."""
    secret_file: Path
    """Another one for each lane."""
    max_streams: Annotated[int, Field(ge=1, le=1024)] | None = None
    budget: Caps = Caps()
    """What may cross this lane, on top of every other cap."""


class Budget(_Section):
    """How much may leave."""

    profile: str = "demo"
    zones: tuple[Zone, ...] = Field(default=("inner", "outside"), min_length=2)
    """Innermost first; every step between neighbours has a cap of its own."""
    homes: dict[str, str] = {}
    """Zone of each principal who is not in the outermost one."""
    principals: dict[str, Caps] = {}
    """Caps of single principals, in place of the profile's."""
    edges: dict[str, Caps] = {}
    """Caps of single edges ("inner→outside"), in place of the profile's."""

    @field_validator("zones")
    @classmethod
    def _distinct(cls, zones: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(zones)) < len(zones):
            raise ValueError("a zone is named twice")
        return zones


class Settings(BaseSettings):
    """Everything a deployment can set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=DELIMITER, extra="forbid", frozen=True
    )

    models: Models = Models()
    engine: Engine = Engine()
    sealed: Sealed = Sealed()
    ranks: Ranks = Ranks()
    link: Link = Link()
    lanes: dict[LaneName, Lane] = {}
    outer: Outer = Outer()
    ledger: SharedLedger = SharedLedger()
    record: Record = Record()
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
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}", path=str(path)) from error
        except ValueError as error:
            raise ConfigError(f"{path} is not TOML: {error}", path=str(path)) from error
    stray = [name for name in overrides(os.environ) if _section(name) not in Settings.model_fields]
    if stray:
        raise ConfigError(f"{stray[0]} names no section of the settings", setting=stray[0])
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"setting {where}: {first['msg']}", setting=where) from error
    except SettingsError as error:
        # A whole section as one variable is read as JSON.
        raise ConfigError(f"a setting in the environment is malformed: {error}") from error


def overrides(environ: Mapping[str, str]) -> list[str]:
    """The variables that set something: `TIDEGATE_SECTION__KEY`, or a whole section's JSON."""
    return sorted(
        name
        for name in environ
        if name.upper().startswith(PREFIX)
        and (DELIMITER in name or _section(name) in Settings.model_fields)
    )


def _section(name: str) -> str:
    return name[len(PREFIX) :].partition(DELIMITER)[0].lower()
