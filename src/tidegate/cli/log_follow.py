"""`tidegate log follow|serve`: the log as others read it, and reading it as they do."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tidegate.cli import log_folder
from tidegate.errors import ConfigError
from tidegate.transparency.follow import Grown, HttpSource, Known, KnownFile, Other, Step, step
from tidegate.transparency.http_client import UnreachableError
from tidegate.transparency.outcome import CannotVerify, Fail
from tidegate.transparency.policy import Policy
from tidegate.transparency.publish import over_http


def follow(
    url: Annotated[str, typer.Argument(help="The log's address, from `tidegate log serve`.")],
    policy: Annotated[
        Path, typer.Option(exists=True, help="Whom you trust: the log's policy, your own copy.")
    ],
    state: Annotated[
        Path, typer.Option(help="The file that keeps what was seen; made if need be.")
    ],
    kept: Annotated[
        list[Path] | None,
        typer.Option(exists=True, help="A checkpoint that somebody else holds; repeatable."),
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, then stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the new entries.")] = False,
) -> None:
    """Follow a log: read every new entry, and raise the alarm if its history changed.

    The log's tree is computed from its entries and held against what was seen before, and against
    what every witness of the policy, and whoever gave a --kept, was shown. Exits 1 with both signed
    notes, also written beside the state, at a split view or rollback. With --once exits 2 where
    nobody can tell.
    """
    trusted = log_folder.read_policy(policy)
    file = KnownFile(state)
    known = file.read(trusted)
    notes = tuple(Other(path.name, path.read_text(encoding="utf-8")) for path in kept or ())
    while True:
        # First the others: a log that is smaller than what they hold is behind, not younger.
        others = (*notes, *_witnesses(trusted, known))
        seen = step(known, HttpSource(url), trusted, others)
        known = _take(seen, known, file, state, as_json=as_json)
        if once:
            raise typer.Exit(2 if isinstance(seen, CannotVerify) else 0)
        time.sleep(every)


def serve(
    folder: Annotated[Path, typer.Argument(help="The log's folder.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8700,
    ready_file: Annotated[
        Path | None, typer.Option(help="Gets the port once connections are taken.")
    ] = None,
) -> None:
    """Serve the log, read only, to whoever can reach the address: entries name people and reasons.

    Nothing is served that no signed checkpoint holds. Format: C2SP tlog-tiles.
    """
    from tidegate.cli.http_serving import serve as serve_app
    from tidegate.transparency.log_http import log_app

    with log_folder.opened(folder) as opened:
        serve_app(log_app(opened.log), host, port, ready_file)


def _take(
    seen: Step, known: Known | None, file: KnownFile, state: Path, *, as_json: bool
) -> Known | None:
    """What is known after one look. Exits 1 where something is wrong."""
    match seen:
        case Grown(later, opened, entries):
            file.write(later)
            if as_json:
                for one in entries:
                    line = {**msgspec.json.decode(one.raw), "index": one.index}
                    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
                sys.stdout.buffer.flush()
            elif entries or known is None:
                point = opened.checkpoint
                typer.echo(
                    f"{point.size} entries, {len(entries)} new, root {point.root.hex()}, "
                    f"{len(opened.cosignatures)} cosigned"
                )
            return later
        case CannotVerify(reason):
            typer.echo(f"cannot tell: {reason}", err=True)
            return known
        case Fail(problem, reason, evidence):
            typer.echo(f"ALARM: {problem.value}: {reason}", err=True)
            for number, note in enumerate(evidence):
                path = state.with_name(f"{state.name}.evidence{number}")
                try:
                    path.write_text(note, encoding="utf-8")
                except OSError as error:
                    raise ConfigError(f"cannot write {path}: {error.strerror}") from error
                typer.echo(note)
            raise typer.Exit(1)


def _witnesses(policy: Policy, known: Known | None) -> list[Other]:
    """What each witness shows of the log now; those that do not answer accuse nobody."""
    origin = known.note.partition("\n")[0] if known else policy.logs[0].key.name
    name = hashlib.sha256(origin.encode()).hexdigest()
    found: list[Other] = []
    for witness in policy.witnesses:
        asking = over_http(witness)
        if asking is None:
            continue
        try:
            reply = asking.checkpoint(name)
        except UnreachableError as error:
            typer.echo(f"{witness.name}: {error.message}", err=True)
            continue
        if reply.status == 200:
            found.append(Other(witness.name, reply.body))
    return found
