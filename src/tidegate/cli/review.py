"""`tidegate review`: for authorised people inside, to read reasoning that stayed there."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tidegate.cli.serve import SettingsFile, settings_of
from tidegate.errors import TidegateError
from tidegate.serve.inner.reasoning import credential_digest
from tidegate.serve.inner.review import ask

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Read reasoning that stayed inside. Runs beside the inner half; every attempt is logged.",
)


@app.command()
def new() -> None:
    """Make a reviewer's credential; print it, this once, and the digest for the settings."""
    credential = secrets.token_urlsafe(32)
    typer.echo(f"credential: {credential}")
    typer.echo(f"for [inner] reviewers: {credential_digest(credential).hex()}")


@app.command()
def read(
    reasoning_ref: Annotated[str, typer.Argument(help="The id the answer came with.")],
    credential_file: Annotated[Path, typer.Option(help="Holds the reviewer's credential.")],
    settings: SettingsFile = None,
) -> None:
    """Print one answer's reasoning."""
    address = settings_of(settings, None).inner.review_address
    try:
        credential = credential_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TidegateError(f"cannot read a credential from {credential_file}") from error
    try:
        reply = asyncio.run(ask(address, reasoning_ref, credential))
    except (OSError, msgspec.DecodeError) as error:
        raise TidegateError(f"cannot ask the inner half at {address}: {error}") from error
    if reply.text is None:
        raise TidegateError(reply.error or "refused")
    typer.echo(reply.text)
