"""The console's settings, and the parts that they name, wired together."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tidegate.cli import parts
from tidegate.cli.gate_status import Status
from tidegate.cli.ground import budgets_of
from tidegate.clock import Clock
from tidegate.config import Settings, load
from tidegate.console.headline import Part
from tidegate.console.picture import Gate, Meter
from tidegate.console.records import Records, Said
from tidegate.console.source_grants import Broker
from tidegate.console.source_json import Findings, StatusFile
from tidegate.console.source_ledger import LedgerSource
from tidegate.console.source_metrics import MetricsSource, fetched
from tidegate.console.source_verify import ReportFeed, VerifySource
from tidegate.console.sources import Feed, Source
from tidegate.errors import ConfigError
from tidegate.record.entries import Begin
from tidegate.record.private import unpack
from tidegate.vault.api_client import BrokerClient
from tidegate.verify.record_store_files import FileSource

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_BITS_A_PARAMETER = 16


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Tls(_Strict, frozen=True):
    """Certificate chain and key, PEM."""

    certificate: Path
    key: Path


class BrokerSettings(_Strict, frozen=True):
    """The vault's broker. `reader`: a file with the token of whoever may look; `tokens`: a folder
    with a file NAME.token for each approver."""

    url: str
    reader: Path
    tokens: Path


class ConsoleSettings(_Strict, frozen=True):
    """One console.

    Args:
        name: shown on the page, to tell consoles apart.
        host, port: where to listen. Beyond loopback only with `tls`.
        hosts: further names under which browsers ask for it, `name` or `name:port`.
        folder: for people and events; made if need be.
        outer: the settings file of the outer half: its ledger, budgets, metrics and record.
        metrics_key: a file with an API key, where the outer half's metrics are not open to all.
        verify: what `tidegate verify --follow --live FILE` writes.
        gate: what `tidegate gate` writes as its status.
        findings: name → file that OCSF findings are appended to.
        broker: where requests for weights wait.
        log: the folder of a transparency log that every action is appended to before it is done.
        weight_bits: size of the weights as stored; by default 16 bits a parameter.
    """

    name: str = "console"
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8700
    hosts: tuple[str, ...] = ()
    tls: Tls | None = None
    folder: Path = Path("run/console")
    outer: Path | None = None
    metrics_key: Path | None = None
    verify: Path | None = None
    gate: Path | None = None
    findings: dict[str, Path] = {}
    broker: BrokerSettings | None = None
    log: Path | None = None
    weight_bits: Annotated[int, msgspec.Meta(ge=1)] | None = None


def settings_of(path: Path) -> ConsoleSettings:
    """The settings in a TOML file; paths in it start from its folder. Raises ConfigError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    folder = path.resolve().parent

    def decoded(kind: type, value: Any) -> Any:
        if kind is Path and isinstance(value, str):
            return folder / value
        raise ValueError(f"{value!r} is no path")

    try:
        settings: ConsoleSettings = msgspec.convert(raw, ConsoleSettings, dec_hook=decoded)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
    if settings.host not in LOOPBACK and settings.tls is None:
        raise ConfigError(
            f"{path}: beyond this machine the console needs [tls] with certificate and key; or let "
            "it listen on 127.0.0.1 behind a proxy"
        )
    return settings


def hosts_of(settings: ConsoleSettings, port: int) -> frozenset[str]:
    """What browsers may say the console's host is."""
    names = {settings.host, *settings.hosts}
    names |= LOOPBACK if settings.host in LOOPBACK else set()
    named = {f"[{name}]" if name.count(":") > 1 else name for name in names}
    return frozenset({f"{name}:{port}" for name in named if not _has_port(name)} | named)


def _has_port(name: str) -> bool:
    return name.rpartition("]")[2].count(":") == 1


def sources_of(settings: ConsoleSettings, clock: Clock) -> dict[str, Source]:
    """The picture's sources by part; parts that are not set up are left out."""
    sources: dict[str, Source] = {}
    if settings.outer is not None:
        outer = load(settings.outer)
        parameters = parts.strong_parameters(outer.models)
        link = MetricsSource(
            fetched(_metrics_url(outer), _secret(settings.metrics_key)),
            model=outer.outer.model_name,
            slots=outer.link.max_streams,
        )
        sources["budget"] = LedgerSource(
            outer.outer.ledger,
            budgets_of(outer, parameters),
            clock,
            weight_bits=settings.weight_bits or _BITS_A_PARAMETER * parameters,
            crossed=link.crossed,
        )
        sources["link"] = link
    if settings.verify is not None:
        sources["verification"] = VerifySource(settings.verify, clock)
    if settings.gate is not None:
        sources["gate"] = StatusFile(settings.gate, gate_of, clock, said_by="the gate")
    broker = broker_of(settings)
    if broker is not None:
        sources["grants"] = broker
    return sources


def feeds_of(settings: ConsoleSettings) -> tuple[Feed, ...]:
    """Where events come from."""
    findings = [Findings(path, source=name) for name, path in settings.findings.items()]
    return (*findings, *([] if settings.verify is None else [ReportFeed(settings.verify)]))


def broker_of(settings: ConsoleSettings) -> Broker | None:
    """The broker, if there is one."""
    named = settings.broker
    if named is None:
        return None

    def client_of(name: str) -> BrokerClient | None:
        path = named.tokens / f"{name}.token"
        return BrokerClient(named.url, _secret(path) or "") if path.exists() else None

    return Broker(BrokerClient(named.url, _secret(named.reader) or ""), client_of)


def records_of(settings: ConsoleSettings) -> Records | None:
    """The outer half's record, with prompts and answers in words where they are not sealed."""
    outer = None if settings.outer is None else load(settings.outer)
    if outer is None or outer.record.folder is None:
        return None
    return Records(FileSource(outer.record.folder), _said(outer))


def gate_of(raw: dict[str, Any]) -> Part:
    """The gate's status as `tidegate gate status --json` tells it. Raises msgspec errors."""
    status = msgspec.convert(raw, Status)
    meters = status.meters
    shut = "" if meters is None else meters.latched or meters.closed
    return Gate(
        open=status.open and not shut,
        reason=shut or status.reason,
        agreement="not said" if meters is None else meters.verdict,
        meters=()
        if meters is None
        else tuple(
            Meter(
                name=one.meter,
                counted=one.wire_bytes,
                agrees=True if meters.agree else False if one.meter in meters.verdict else None,
            )
            for one in meters.counts
        ),
        classes=tuple(
            {"name": row.name, "used": row.charged, "quota": row.quota} for row in status.rows
        ),
    )


def _said(outer: Settings) -> Said:
    words = None

    def said(begin: Begin, ids: tuple[int, ...]) -> dict[str, str]:
        nonlocal words
        words = words or parts.load_tokenizer(outer.models)
        if begin.key:
            prompt = "(sealed to the verifier)"
        else:
            prompt = words.decode(unpack(begin.private).prompt)
        return {"prompt": prompt, "answer": words.decode(ids)}

    return said


def _metrics_url(outer: Settings) -> str:
    host = outer.outer.host
    return f"http://{f'[{host}]' if ':' in host else host}:{outer.outer.port}/metrics"


def _secret(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
