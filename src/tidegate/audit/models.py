"""What is guarded: models, their shards and where each lies, the keys, and who is who.

Logs name objects by where they lie. A model's shards are laid end to end on one line of bytes, so
that a copy in another store, or in another folder, is the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final

import msgspec

from tidegate.errors import ConfigError

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of a model: its number in the manifest, its size, and its first byte's place on the
    model's line."""

    number: int
    name: str
    size: int
    begin: int


@dataclass(frozen=True, slots=True)
class Model:
    """One model. `places`: prefixes under which all its shards lie. `keys`: that wrap its data
    keys, as events name them."""

    name: str
    shards: tuple[Shard, ...]
    places: tuple[str, ...]
    keys: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return self.shards[-1].begin + self.shards[-1].size if self.shards else 0


@dataclass(frozen=True, slots=True)
class Guarded:
    """Everything that the audit knows beforehand.

    `identities`: a principal's name in a log -> its name here. `brokers`: who unwraps data keys
    when a grant is released. `networks`: our own, each of which counts as one source.
    """

    models: tuple[Model, ...]
    identities: dict[str, str] = field(default_factory=dict)
    brokers: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    def named(self, principal: str) -> str:
        """A principal's name here."""
        return self.identities.get(principal, principal)

    def places(self) -> dict[str, tuple[int, Shard]]:
        """Every object that is a shard -> its model's number and the shard."""
        return {
            place + shard.name: (number, shard)
            for number, model in enumerate(self.models)
            for place in model.places
            for shard in model.shards
        }

    def keys(self) -> dict[str, int]:
        """Every key -> its model's number."""
        return {key: number for number, model in enumerate(self.models) for key in model.keys}

    def holder_of(self, target: str) -> int | None:
        """The model in whose place `target` lies, or of whose place it is the bucket."""
        for number, model in enumerate(self.models):
            for place in model.places:
                if target.startswith(place) or (
                    target and place.startswith(target.rstrip("/") + "/")
                ):
                    return number
        return None


class _ShardTable(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    size: int
    number: int | None = None


class _ModelTable(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    at: list[str]
    keys: list[str] = []
    manifest: str | None = None
    shards: list[_ShardTable] = []


class _IdentityTable(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    known_as: list[str]


class Table(msgspec.Struct, forbid_unknown_fields=True):
    """The models file as it is written (TOML)."""

    model: list[_ModelTable]
    identity: list[_IdentityTable] = []
    brokers: list[str] = []
    networks: list[str] = []


MOST_SHARDS: Final = 65_536


def table_of(data: dict[str, Any]) -> Table:
    """Raises ConfigError where a field is missing, of another type, or one there is not."""
    try:
        return msgspec.convert(data, Table)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the models file: {error}") from error


def guarded(table: Table, manifests: dict[str, list[tuple[str, int]]] | None = None) -> Guarded:
    """What the table says, with the shards of `manifests` (file -> names and sizes, in order).

    Raises ConfigError for a model without shards or without a place, and for places that two
    models share.
    """
    models = tuple(_model(told, (manifests or {}).get(told.manifest or "")) for told in table.model)
    if not models:
        raise ConfigError(
            "the models file names no model; add a [[model]] with name, at and shards"
        )
    taken: dict[str, str] = {}
    for model in models:
        for place in model.places:
            for shard in model.shards:
                other = taken.setdefault(place + shard.name, model.name)
                if other != model.name:
                    raise ConfigError(
                        f"{place}{shard.name} is of two models, {other} and {model.name}"
                    )
    identities = {known: told.name for told in table.identity for known in told.known_as}
    return Guarded(
        models,
        identities,
        frozenset(table.brokers),
        tuple(_network(text) for text in table.networks),
    )


def _model(told: _ModelTable, sealed: list[tuple[str, int]] | None) -> Model:
    listed = sealed or [(shard.name, shard.size) for shard in told.shards]
    numbers = [shard.number for shard in told.shards] if not sealed else []
    if not listed or len(listed) > MOST_SHARDS:
        raise ConfigError(
            f"model {told.name}: {len(listed)} shards; give a manifest, or a [[model.shards]] with "
            f"name and size for each, at most {MOST_SHARDS:,}"
        )
    if not told.at:
        raise ConfigError(
            f"model {told.name}: `at` is empty; say where it lies (s3://bucket/folder/)"
        )
    shards, begin = [], 0
    for place, (name, size) in enumerate(listed):
        if size <= 0:
            raise ConfigError(f"model {told.name}, shard {name}: a size of {size} bytes")
        number = numbers[place] if place < len(numbers) else None
        shards.append(Shard(place if number is None else number, name, size, begin))
        begin += size
    places = tuple(at if at.endswith("/") else at + "/" for at in told.at)
    return Model(told.name, tuple(shards), places, tuple(_prefixed(key) for key in told.keys))


def _prefixed(key: str) -> str:
    """`arn:aws:kms:…` and `projects/…` are ids of keys; k8s:// and bao: name secrets."""
    return key if key.startswith(("kms:", "k8s://", "bao:")) else f"kms:{key}"


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ConfigError(f"`networks`: {error}") from error


class Sources:
    """Addresses -> sources: our own networks one each, others by /24 or /48, names as they are."""

    def __init__(self, networks: tuple[Network, ...]) -> None:
        self._networks = networks
        self._known: dict[str, str] = {}

    def of(self, address: str) -> str:
        """The source that an address belongs to."""
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _ADDRESSES:
                self._known.clear()
            known = self._known[address] = self._named(address)
        return known

    def _named(self, address: str) -> str:
        try:
            parsed = ip_address(address)
        except ValueError:
            return address
        for network in self._networks:
            if parsed in network:
                return str(network)
        return str(ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


_ADDRESSES: Final = 65_536
