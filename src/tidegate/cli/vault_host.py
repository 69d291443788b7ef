"""`tidegate vault host`: how a host with a TPM is made known, in four steps of two machines."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidegate.clock import SystemClock
from tidegate.errors import ConfigError

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Make a host with a TPM known to the vault: `keys` on the host, `credential` with the "
    "owner, `answer` on the host, `admit` with the owner.",
)

TpmFolder = Annotated[Path, typer.Option("--tpm", help="Where this host keeps its TPM's keys.")]
Tcti = Annotated[str, typer.Option(help="Where the TPM is.")]
Out = Annotated[Path, typer.Option(help="Where to write it.")]
DEVICE = "device:/dev/tpmrm0"
T = TypeVar("T", bound=msgspec.Struct)


class _Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ek_public: bytes
    ak_name: bytes


class _Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    blob: bytes
    seed: bytes
    nonce: bytes


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sent: _Sent
    ek: bytes
    ak_name: bytes
    secret: bytes


@app.command()
def keys(tpm: TpmFolder, out: Out = Path("host-keys.json"), tcti: Tcti = DEVICE) -> None:
    """On the host: have its TPM make keys, and write their public parts for the owner."""
    from tidegate.vault.tpm_live import Tpm

    made = Tpm(tpm, tcti)
    made.make_keys()
    _write(out, _Keys(made.ek_public, made.ak_name))


@app.command()
def credential(
    keys: Annotated[Path, typer.Argument(help="What `keys` wrote on the host.")],
    keep: Annotated[Path, typer.Option(help="For yourself, until the host was admitted.")] = Path(
        "credential-kept.json"
    ),
    out: Out = Path("credential.json"),
) -> None:
    """With the owner: make a credential that only that TPM can open."""
    from tidegate.vault.tpm_enrol import challenged

    found = _read(keys, _Keys)
    made = challenged(found.ek_public, found.ak_name)
    sent = _Sent(made.credential.blob, made.credential.seed, secrets.token_bytes(32))
    _write(keep, _Kept(sent, made.ek, made.ak_name, made.secret))
    _write(out, sent)


@app.command()
def answer(
    credential: Annotated[Path, typer.Argument(help="What the owner made.")],
    tpm: TpmFolder,
    certificate: Annotated[
        list[Path] | None, typer.Option(help="Between the TPM's certificate and its maker's root.")
    ] = None,
    out: Out = Path("host-evidence.json"),
    tcti: Tcti = DEVICE,
) -> None:
    """On the host: have the TPM open the credential, and quote its registers."""
    from tidegate.attest.certificates import parse_certificates
    from tidegate.attest.tpm_credential import Credential
    from tidegate.vault.tpm_live import Tpm

    sent, made = _read(credential, _Sent), Tpm(tpm, tcti)
    secret = made.activate(Credential(sent.blob, sent.seed))
    chain = [one.der for path in certificate or () for one in parse_certificates(_bytes(path))]
    _put(out, made.enrolment(secret, chain, sent.nonce))


@app.command()
def admit(
    evidence: Annotated[Path, typer.Argument(help="What `answer` wrote on the host.")],
    name: Annotated[str, typer.Option(help="How the policy will call the host.")],
    root: Annotated[list[Path], typer.Option(help="Certificates of TPM makers that you trust.")],
    keep: Annotated[Path, typer.Option(help="What `credential` kept.")] = Path(
        "credential-kept.json"
    ),
    out: Annotated[
        Path | None, typer.Option(help="The host's reference values; by default NAME.json.")
    ] = None,
    revocation: Annotated[
        bool, typer.Option(help="Whether to ask after revoked certificates.")
    ] = True,
) -> None:
    """With the owner: check all of it, and write the host's reference values.

    They are the registers as the host has them now. Admit it while it runs what you mean it to run;
    approvers then approve exactly this state. Prints the lines for the policy.
    """
    from tidegate.attest.tpm_credential import Credential
    from tidegate.attest.tpm_evidence import parse_tpm
    from tidegate.vault.tpm_enrol import Challenge, enrolled

    kept, raw = _read(keep, _Kept), _bytes(evidence)
    made = Challenge(Credential(kept.sent.blob, kept.sent.seed), kept.ek, kept.ak_name, kept.secret)
    host, file, appraisal = enrolled(
        name,
        raw,
        made,
        kept.sent.nonce,
        [_bytes(path) for path in root],
        datetime.fromtimestamp(SystemClock().now(), UTC),
        registers=parse_tpm(raw).registers.get("sha256", {}),
        revocation=revocation,
    )
    table = Table("check", "name", "seen")
    for check in appraisal.checks:
        table.add_row(str(check.number), check.name, check.detail)
    Console(stderr=True).print(table)
    _put(out or Path(f"{name}.json"), file)
    lines = (f'{field} = "{getattr(host, field)}"' for field in host.__struct_fields__)
    typer.echo("\n".join(["[[hosts]]", *lines]))


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(_bytes(path), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not what belongs here: {error}") from error


def _write(path: Path, body: msgspec.Struct) -> None:
    _put(path, msgspec.json.encode(body))


def _put(path: Path, raw: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(raw)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
