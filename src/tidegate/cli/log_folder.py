"""A log's folder: its entries, its key, and the policy that says who must witness it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.cli.ground import secret_bytes
from tidegate.clock import SystemClock
from tidegate.disk import replace_whole
from tidegate.errors import ConfigError
from tidegate.transparency.cosign import WitnessKey
from tidegate.transparency.errors import LogError
from tidegate.transparency.log import Log
from tidegate.transparency.note import Signer, Verifier
from tidegate.transparency.policy import Policy, TrustedLog, Witness, n_of, parse
from tidegate.transparency.store_sqlite import SqliteStore

ENTRIES = "log.sqlite"
KEY = "log.key"
PUBLIC = "log.pub"
POLICY = "policy"


@dataclass(frozen=True, slots=True)
class LogFolder:
    """An opened folder."""

    log: Log
    signer: Signer
    policy: Policy


def make(folder: Path, origin: str, witnesses: tuple[Witness, ...], needed: int) -> Policy:
    """Make a log's folder, key and policy. Raises ConfigError where there is one."""
    if (folder / PUBLIC).exists():
        raise ConfigError(f"there is a log in {folder} already")
    folder.mkdir(parents=True, exist_ok=True)
    signer = Signer(origin, Ed25519PrivateKey.from_private_bytes(secret_bytes(folder / KEY)))
    policy = n_of(TrustedLog(signer.verifier), witnesses, needed)
    SqliteStore(folder / ENTRIES).close()
    replace_whole(folder / POLICY, policy.encode().encode())
    # Last: what makes the folder a log.
    replace_whole(folder / PUBLIC, f"{signer.verifier.encode()}\n".encode())
    return policy


@contextmanager
def opened(folder: Path) -> Iterator[LogFolder]:
    """A log's folder, for as long as the context lasts. Raises ConfigError or LogError."""
    public = folder / PUBLIC
    if not public.exists():
        raise ConfigError(f"there is no log in {folder}; `tidegate log init` makes one")
    verifier = Verifier.parse(public.read_text(encoding="utf-8").strip())
    key = Ed25519PrivateKey.from_private_bytes(secret_bytes(folder / KEY))
    signer = Signer(verifier.name, key)
    if signer.verifier != verifier:
        raise ConfigError(f"{KEY} and {PUBLIC} in {folder} do not belong together")
    with closing(SqliteStore(folder / ENTRIES)) as store:
        yield LogFolder(Log(store, SystemClock()), signer, read_policy(folder / POLICY))


def read_policy(path: Path) -> Policy:
    """A policy's file. Raises ConfigError where it cannot be read or is none."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the policy {path} cannot be read") from error
    except LogError as error:
        raise ConfigError(f"{path}: {error.message}") from error


def witness_of(number: int, said: str) -> Witness:
    """A witness said as KEYFILE=URL. Raises ConfigError."""
    path, equals, url = said.partition("=")
    if not equals or not url.startswith(("http://", "https://")):
        raise ConfigError(f"{said!r} is no KEYFILE=URL, such as w1/witness.pub=http://w1:8701")
    try:
        # The first of its keys, if it signs with two.
        key = WitnessKey.parse(Path(path).read_text(encoding="utf-8").split("\n")[0])
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the witness's key {path} cannot be read") from error
    except LogError as error:
        raise ConfigError(f"{path}: {error.message}") from error
    return Witness(f"w{number}", key, url)
