"""`tidegate witness`: a process that vouches for one history of each log it knows."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli.ground import secret_bytes
from tidegate.clock import SystemClock
from tidegate.disk import replace_whole
from tidegate.errors import ConfigError
from tidegate.transparency.cosign import Algorithm, Cosigner, WitnessKey
from tidegate.transparency.errors import LogError, WitnessError
from tidegate.transparency.note import Checkpoint, Verifier, note_text
from tidegate.transparency.witness_anchor import FileAnchor, reconcile
from tidegate.transparency.witness_service import WitnessService
from tidegate.transparency.witness_store_sqlite import SqliteWitnessStore

MEMORY = "witness.sqlite"
ANCHOR = "witness.anchor"
PUBLIC = "witness.pub"

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="A **witness** keeps the last checkpoint of each log it knows, and cosigns a later one "
    "only with a proof that it extends the kept one. Run it on a machine, and by people, that do "
    "not run the log. Protocol: C2SP tlog-witness. See docs/howto/log.md.",
)

Folder = Annotated[Path, typer.Argument(help="The witness's folder: its key and its memory.")]
AnchorFile = Annotated[
    Path | None,
    typer.Option(
        help="Where the copy of the memory's last link is kept; by default in the folder. Put it "
        "where a backup of the folder does not reach, or a restored folder goes unnoticed."
    ),
]
Kind = Literal["ml-dsa-44", "ed25519", "both"]
ALGORITHMS = {"ml-dsa-44": Algorithm.ML_DSA_44, "ed25519": Algorithm.ED25519}


@app.command()
def init(
    folder: Folder,
    name: Annotated[
        str,
        typer.Option(help="Its name for ever: a URL without its scheme, by convention."),
    ],
    sign: Annotated[
        Kind, typer.Option(help="ml-dsa-44 holds against quantum computers; both, for old readers.")
    ] = "ml-dsa-44",
) -> None:
    """Make a witness: its keys, and witness.pub for the policies of those who trust it.

    Where it signs with two algorithms, a policy names one of its two keys.
    """
    if (folder / PUBLIC).exists():
        raise ConfigError(f"there is a witness in {folder} already")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = ALGORITHMS if sign == "both" else {sign: ALGORITHMS[sign]}
    keys = [_cosigner(folder, name, algorithm).public.encode() for algorithm in wanted.values()]
    replace_whole(folder / PUBLIC, "".join(key + "\n" for key in keys).encode())
    for key in keys:
        typer.echo(key)


@app.command()
def serve(
    folder: Folder,
    log: Annotated[
        list[Path],
        typer.Option(exists=True, help="A log's public key (LOG/log.pub); may be repeated."),
    ],
    anchor: AnchorFile = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8701,
    ready_file: Annotated[
        Path | None, typer.Option(help="Gets the port once connections are taken.")
    ] = None,
) -> None:
    """Run the witness, for logs whose keys it is given.

    It keeps a checkpoint, durably, before it cosigns it. It stops cosigning where its memory was
    rolled back or its clock went back, and says so.
    """
    from tidegate.cli.http_serving import serve as serve_app
    from tidegate.transparency.witness_http import witness_app

    cosigners = cosigners_of(folder)
    logs: dict[str, list[Verifier]] = {}
    for path in log:
        key = _log_key(path)
        logs.setdefault(key.name, []).append(key)
    with closing(SqliteWitnessStore(folder / MEMORY)) as store:
        service = WitnessService(
            cosigners, logs, store, FileAnchor(anchor or folder / ANCHOR), SystemClock()
        )
        serve_app(witness_app(service, _complain), host, port, ready_file)


@app.command()
def status(
    folder: Folder,
    anchor: AnchorFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """What the witness cosigned last of each log, also while it runs.

    Exits 1 where a log signed two trees of one size (both notes are printed: they convict it), or
    where memory and anchor disagree; 2 where nobody can tell.
    """
    if not (folder / MEMORY).exists():
        raise ConfigError(f"there is no witness in {folder}: `tidegate witness init` makes one")
    with closing(SqliteWitnessStore(folder / MEMORY, look=True)) as store:
        seen, mark, accusations = store.all(), store.mark(), store.accusations()
        disagree = ""
        try:
            reconcile(store, _ReadOnly(anchor or folder / ANCHOR))
        except WitnessError as error:
            disagree = error.message
    if as_json:
        body = {
            "mark": f"{mark.number} {mark.head.hex()}",
            "rolled_back": disagree or None,
            "logs": [{"origin": s.origin, "time": s.time, "note": s.note} for s in seen],
            "split_views": [{"origin": o, "kept": k, "note": n} for o, k, n in accusations],
        }
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n")
    else:
        table = Table("log", "entries", "root", "cosigned")
        for one in seen:
            point = Checkpoint.parse(note_text(one.note))
            when = datetime.fromtimestamp(one.time, UTC).isoformat()
            table.add_row(point.origin, f"{point.size:,}", point.root.hex()[:16] + "…", when)
        console = Console()
        console.print(table)
        console.print(f"anchor: {mark.number} {mark.head.hex()}", highlight=False, soft_wrap=True)
        for origin, kept, note in accusations:
            console.print(f"SPLIT VIEW of {origin}:\n{kept}\n{note}", markup=False, highlight=False)
        if disagree:
            console.print(disagree, markup=False, highlight=False)
    if accusations or disagree:
        raise typer.Exit(1)


class _ReadOnly(FileAnchor):
    """An anchor that is looked at, and never brought up."""

    def write(self, mark: object) -> None:
        return


def cosigners_of(folder: Path) -> list[Cosigner]:
    """The keys of the witness in `folder`. Raises ConfigError: there is none, or they differ."""
    if not (folder / PUBLIC).exists():
        raise ConfigError(f"there is no witness in {folder}: `tidegate witness init` makes one")
    lines = (folder / PUBLIC).read_text(encoding="utf-8").splitlines()
    keys = [WitnessKey.parse(line) for line in lines]
    cosigners = [_cosigner(folder, key.name, key.algorithm) for key in keys]
    if [one.public for one in cosigners] != keys:
        raise ConfigError(f"the keys in {folder} and its {PUBLIC} do not belong together")
    return cosigners


def _cosigner(folder: Path, name: str, algorithm: Algorithm) -> Cosigner:
    # A secret of its own for each: an Ed25519 cosignature does not name its signer.
    secret = folder / f"witness.{algorithm.name.lower()}.key"
    return Cosigner(name, secret_bytes(secret), algorithm)


def _log_key(path: Path) -> Verifier:
    try:
        return Verifier.parse(path.read_text(encoding="utf-8").strip())
    except (LogError, ValueError) as error:
        raise ConfigError(f"{path} is no log's public key: {error}") from error


def _complain(error: LogError) -> None:
    typer.echo(f"nothing was cosigned: {error.message}", err=True)
