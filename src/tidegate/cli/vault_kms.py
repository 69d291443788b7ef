"""`tidegate vault kms`: key services by name, and the life of their wrapping keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tidegate.errors import ConfigError
from tidegate.vault.kms_local import LocalKms
from tidegate.vault.kms_openbao import OpenBaoKms
from tidegate.vault.kms_pkcs11 import Pkcs11Kms
from tidegate.vault.kms_port import Kms

BAO_VARIABLE = "BAO_TOKEN"
PIN_VARIABLE = "TIDEGATE_PKCS11_PIN"
CA_VARIABLE = "BAO_CACERT"

KMS_HELP = (
    "The key service: local:FILE, openbao:ADDRESS#MOUNT/KEY (token in $BAO_TOKEN) or "
    "pkcs11:MODULE#TOKEN/KEY (PIN in $TIDEGATE_PKCS11_PIN)."
)
KmsName = Annotated[str, typer.Argument(metavar="KMS", help=KMS_HELP)]

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Wrapping keys: what seals the data keys of shards, and can refuse to open them again.",
)


@app.command()
def create(kms: KmsName) -> None:
    """Make the wrapping key. One that is there is never replaced."""
    kind, place = _split(kms)
    if kind == "local":
        LocalKms.create(Path(place))
    else:
        service = kms_of(kms)
        if isinstance(service, OpenBaoKms | Pkcs11Kms):
            service.create()
    typer.echo(f"made {kms}")


@app.command()
def rotate(kms: KmsName) -> None:
    """Make a new version; keys are wrapped under it from now on. Old ones still open.

    Then `tidegate vault rewrap` each sealed folder, and `revoke` the version before.
    """
    typer.echo(f"the newest version is {kms_of(kms).rotate()}")


@app.command()
def revoke(
    kms: KmsName,
    version: Annotated[int, typer.Argument(min=1, help="This version and all before it.")],
) -> None:
    """Destroy a version and those before it, for ever: what they wrapped opens no more."""
    kms_of(kms).revoke(version)
    typer.echo(f"version {version} is revoked")


def kms_of(name: str) -> Kms:
    """The key service that a name means. Raises ConfigError, KmsError."""
    kind, place = _split(name)
    if kind == "local":
        return LocalKms(Path(place))
    where, _, key = place.rpartition("#")
    holder, _, label = key.rpartition("/")
    if not (where and holder and label):
        raise ConfigError(f"{name!r} does not name a wrapping key; {KMS_HELP}")
    if kind == "openbao":
        ca_file = os.environ.get(CA_VARIABLE)
        return OpenBaoKms(where, label, _secret(BAO_VARIABLE), mount=holder, ca_file=ca_file)
    return Pkcs11Kms(where, holder, label, _secret(PIN_VARIABLE))


def _split(name: str) -> tuple[str, str]:
    kind, _, place = name.partition(":")
    if kind not in {"local", "openbao", "pkcs11"} or not place:
        raise ConfigError(f"{name!r} is no key service; {KMS_HELP}")
    return kind, place


def _secret(variable: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise ConfigError(f"set ${variable}; secrets are not taken from the command line")
    return value
