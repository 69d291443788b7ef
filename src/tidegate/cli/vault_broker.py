"""`tidegate vault broker|token|key|current`: running a broker, and who takes part in it."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tidegate.cli.ground import log_as_json, log_stream
from tidegate.cli.vault_grant import (
    DEFAULT_TOKEN,
    DEFAULT_URL,
    SoftwareKeyFile,
    TokenFile,
    Url,
    client_of,
    refusable,
)
from tidegate.clock import SystemClock
from tidegate.disk import replace_whole
from tidegate.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")

MOST_CONNECTIONS = 64
"""A few people and a few hosts; beyond that it is an attack, or somebody's loop."""


def broker(
    settings: Annotated[Path, typer.Argument(help="A TOML file; see docs/howto/vault.md.")],
) -> None:
    """Run the broker: take requests and approvals, release keys, keep the journal."""
    import uvicorn

    from tidegate.cli.vault_kms import kms_of
    from tidegate.serve.outer.http_server import bound, server_config
    from tidegate.vault.api import Api
    from tidegate.vault.api_keys import Tokens
    from tidegate.vault.broker_settings import opened, read_settings

    log_as_json(log_stream())
    chosen, folder, clock = read_settings(settings), settings.parent, SystemClock()
    if chosen.host not in LOOPBACK and not (chosen.certificate and chosen.key):
        raise ConfigError("beyond this machine the broker speaks TLS: set certificate and key")
    try:
        tokens = Tokens.decode((folder / chosen.tokens).read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {chosen.tokens}: {error.strerror}") from error
    made = opened(chosen, folder, clock, kms_of)
    listener = bound(chosen.host, chosen.port)
    Console(stderr=True).print(f"the broker listens on {chosen.host}:{chosen.port}")
    config = server_config(
        Api(made, tokens, clock).app, host=chosen.host, port=chosen.port, log_stream=sys.stderr
    )
    config.ssl_certfile = chosen.certificate and str(folder / chosen.certificate)
    config.ssl_keyfile = chosen.key and str(folder / chosen.key)
    config.limit_concurrency = MOST_CONNECTIONS
    uvicorn.Server(config).run(sockets=[listener])


def token(
    principal: Annotated[
        str, typer.Argument(help="Whose it will be; what he may, the policy says.")
    ],
    tokens: Annotated[Path, typer.Option(help="The broker's file of tokens.")] = Path(
        "tokens.json"
    ),
) -> None:
    """Make a token for somebody, add its digest to the broker's file, and print it once."""
    from tidegate.vault.api_keys import Tokens, mint

    known = Tokens.decode(tokens.read_bytes()) if tokens.exists() else Tokens()
    fresh = mint()
    replace_whole(tokens, known.with_token(principal, fresh).encode())
    typer.echo(fresh)


def key(
    name: Annotated[str, typer.Argument(help="Whose key it is, as the policy will call him.")],
    rp_id: Annotated[str, typer.Option(help="The policy's rp_id, such as vault.example.")],
    software_key: SoftwareKeyFile = None,
) -> None:
    """Enrol a hardware key: prints the lines that the policy needs of it.

    Whoever runs the policy has to be sure whose key it is: have it enrolled in front of him.
    """
    if software_key is None:
        from tidegate.cli.vault_touch import Touch
        from tidegate.vault.webauthn_device import enrol

        credential = enrol(name, rp_id, f"https://{rp_id}", Touch(Console(stderr=True)))
    else:
        from tidegate.vault.webauthn_software import SoftwareKey

        made = SoftwareKey.new()
        with os.fdopen(
            os.open(software_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
        ) as file:
            file.write(made.encode())
        credential = made.credential
    encoded = (base64.b64encode(part).decode() for part in (credential.id, credential.key))
    typer.echo('[[people]]\nname = "{}"\n[[people.credentials]]\nid = "{}"\nkey = "{}"'.format(
        name, *encoded))  # fmt: skip


@refusable
def current(
    model: Annotated[str, typer.Argument(help="The model's id.")],
    manifest: Annotated[str, typer.Argument(help="Its manifest's digest, 64 hex digits.")],
    shards: Annotated[int, typer.Option(min=1, help="How many it has.")],
    broker: Url = DEFAULT_URL,
    token_file: TokenFile = DEFAULT_TOKEN,
) -> None:
    """Say which sealing of a model is the current one. Only its keys are released from then on."""
    client_of(broker, token_file).set_current(model, manifest, shards)
    typer.echo(f"{model}: {manifest}")


def check(
    log: Annotated[Path, typer.Argument(help="A copy of the broker's transparency log, SQLite.")],
) -> None:
    """Decide the whole journal again, from the log alone: signatures, quorums, one release each.

    For people who do not run the broker and need not trust it. Exits 0 where an honest broker would
    have done all of it, 1 where not. Evidence is not in the log, its hash is.
    """
    from tidegate.transparency.entry import Kind
    from tidegate.transparency.log import Log
    from tidegate.transparency.store_sqlite import SqliteStore
    from tidegate.vault.grant_entries import read_body
    from tidegate.vault.grant_recheck import recheck

    if not log.is_file():
        raise ConfigError(f"there is no log {log}")
    found = [
        read_body(logged.entry.body)
        for logged in Log(SqliteStore(log), SystemClock()).entries()
        if logged.entry.kind in (Kind.GRANT, Kind.RELEASE)
    ]
    wrong = list(recheck(found))
    for one in wrong:
        typer.echo(f"entry {one.n}: {one.rule}: {one.reason}")
    if wrong:
        raise typer.Exit(1)
    typer.echo(f"{len(found)} entries, as an honest broker would have written them")
