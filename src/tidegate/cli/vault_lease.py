"""`tidegate vault release|renew`: a host gets its keys, keeps them while it may, and wipes them."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tidegate.cli.vault_grant import (
    DEFAULT_TOKEN,
    DEFAULT_URL,
    GrantArgument,
    TokenFile,
    Url,
    client_of,
    refusable,
)
from tidegate.clock import SystemClock

SocketPath = Annotated[Path, typer.Option(help="Where the lease's keys are asked for.")]
DEFAULT_SOCKET = Path("run/lease.sock")
LOOK_S = 1.0
"""How often the holder looks whether it is time to renew, or over."""


@refusable
def release(
    grant: GrantArgument,
    tpm: Annotated[Path, typer.Option(help="The folder with this host's TPM keys.")],
    tcti: Annotated[str, typer.Option(help="Where the TPM is.")] = "device:/dev/tpmrm0",
    socket: SocketPath = DEFAULT_SOCKET,
    broker: Url = DEFAULT_URL,
    token_file: TokenFile = DEFAULT_TOKEN,
) -> None:
    """Attest this host, receive the grant's keys once, and hold them until the lease ends.

    Stays in the foreground: renews with fresh evidence at half of each lease, hands data keys to
    processes of the same user that ask at the socket, and wipes them when it is refused, told to
    (Ctrl-C, `renew --wipe`) or its time is over. What is lost on the way needs a new request.
    """
    from tidegate.vault.lease_holder import Lease
    from tidegate.vault.lease_socket import LeaseServer
    from tidegate.vault.open_memory import keep_off_disk
    from tidegate.vault.tpm_live import Tpm

    console = Console(stderr=True)
    client = client_of(broker, token_file)
    asked = client.grant(grant).request
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    keep_off_disk()
    lease = Lease(client, asked, Tpm(tpm, tcti).evidence, SystemClock())
    socket.parent.mkdir(parents=True, exist_ok=True)
    with LeaseServer(lease, socket):
        lease.acquire()
        console.print(f"keys of {len(asked.shards)} shards are at {socket}; {lease.left():.0f} s")
        while lease.check() and not stopped.wait(LOOK_S):
            if lease.due() and not lease.renew():
                console.print("the lease was not renewed: the keys are wiped", style="bold red")
                raise typer.Exit(1)
        if lease.check():
            lease.wipe()
    console.print("the keys are wiped")


def renew(
    socket: SocketPath = DEFAULT_SOCKET,
    wipe: Annotated[bool, typer.Option(help="Wipe the keys and end the grant instead.")] = False,
) -> None:
    """Have this host's lease renewed now, and print the seconds it has left."""
    from tidegate.vault.lease_socket import LeaseCalls

    calls = LeaseCalls(socket)
    if wipe:
        calls.wipe()
        typer.echo("wiped")
    else:
        typer.echo(f"{calls.renew():.0f}")
