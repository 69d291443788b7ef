"""`tidegate log`: one log for grants, releases, uploads and verdicts, that cannot be rewritten."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli import log_folder
from tidegate.errors import ConfigError
from tidegate.transparency.bodies import log_upload, log_verdict
from tidegate.transparency.check import check_log
from tidegate.transparency.entry import MAX_ENTRY_BYTES, Kind
from tidegate.transparency.errors import LogError
from tidegate.transparency.log import Log, Position
from tidegate.transparency.note import Verifier
from tidegate.transparency.outcome import CannotVerify, Fail, Outcome, Pass, exit_status
from tidegate.transparency.proof import Proof, check, prove
from tidegate.transparency.publish import Published, publish

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="The **transparency log**: grants, releases, uploads and verdicts in one Merkle tree, "
    "whose checkpoints witnesses cosign (`tidegate witness`). Whoever follows it sees every entry, "
    "and nobody can show two people two histories. Exits 0: good, 1: something is wrong, 2: nobody "
    "can tell. See docs/howto/log.md.",
)

Folder = Annotated[Path, typer.Argument(help="The log's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def init(
    folder: Folder,
    origin: Annotated[
        str, typer.Option(help="The log's name for ever: a URL without its scheme, by convention.")
    ],
    witness: Annotated[
        list[str] | None,
        typer.Option(help="KEYFILE=URL of a witness, such as w1/witness.pub=http://w1:8701."),
    ] = None,
    need: Annotated[
        int | None, typer.Option(min=0, help="How many must cosign; by default most of them.")
    ] = None,
) -> None:
    """Make a log: its key, its public key (log.pub), and its policy, which you may edit.

    The policy says who must cosign (format: C2SP tlog-policy). Give a copy of it to everybody who
    follows the log or checks proofs, by another way than the log.
    """
    witnesses = tuple(log_folder.witness_of(n, said) for n, said in enumerate(witness or (), 1))
    needed = len(witnesses) // 2 + 1 if need is None else need
    policy = log_folder.make(folder, origin, witnesses, needed if witnesses else 0)
    typer.echo(policy.encode(), nl=False)


@app.command()
def append(
    folder: Folder,
    kind: Annotated[Kind, typer.Argument(help="What the entry is about.")],
    file: Annotated[
        Path,
        typer.Argument(
            help="upload: the ledger's signed checkpoint. verdict: what `tidegate verify --json` "
            "printed. Else the body as JSON. - reads standard input."
        ),
    ],
    once: Annotated[
        str, typer.Option(help="A name of the event: appended again, it is not logged twice.")
    ] = "",
    ledger_key: Annotated[
        Path | None, typer.Option(exists=True, help="The ledger's public key, for upload.")
    ] = None,
    ask: Annotated[
        bool, typer.Option("--publish/--no-publish", help="Then have the witnesses cosign.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Append an entry, durably, and have the log's checkpoint cosigned.

    The entry stands even if no witness answers: run `tidegate log publish` later.
    """
    raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    with log_folder.opened(folder) as opened:
        position = _append(opened.log, kind, raw, once, ledger_key)
        summary: dict[str, object] = {"index": position.index, "leaf": position.leaf.hex()}
        published = publish(opened.log, opened.signer, opened.policy) if ask else None
    if as_json:
        _print_json(summary if published is None else {**summary, **_summary(published)})
    else:
        typer.echo(f"entry {position.index}, leaf {position.leaf.hex()}")
        if published is not None:
            _print_published(published)
    if published is not None:
        _exit(published)


@app.command("publish")
def publish_(
    folder: Folder,
    every: Annotated[
        float | None, typer.Option(min=0.1, help="Again after so many seconds, until stopped.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Sign the log's checkpoint and have the witnesses of its policy cosign it.

    Exits 1 where a witness holds another history of this log, a larger one than is here, or forgot
    what it cosigned: stop, and look. Exits 2 where too few witnesses answered; with `--every` it
    tries again instead.
    """
    with log_folder.opened(folder) as opened:
        published = publish(opened.log, opened.signer, opened.policy)
        while every is not None and not published.alarms:
            if not published.opened.quorum:
                _print_published(published)
            time.sleep(every)
            published = publish(opened.log, opened.signer, opened.policy)
    if as_json:
        _print_json(_summary(published))
    else:
        _print_published(published)
    _exit(published)


@app.command()
def show(
    folder: Folder,
    kind: Annotated[Kind | None, typer.Option(help="Only entries of this kind.")] = None,
    start: Annotated[int, typer.Option("--from", min=0, help="From this entry on.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print entries, oldest first. Checks that each is an entry, and nothing else: use `verify`."""
    table = Table("entry", "time (UTC)", "kind", "id", "body")
    with log_folder.opened(folder) as opened:
        for logged in opened.log.entries(start):
            entry = logged.entry
            if kind is not None and entry.kind is not kind:
                continue
            if as_json:
                line = {**msgspec.json.decode(logged.raw), "index": logged.index}
                sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
                continue
            when = datetime.fromtimestamp(entry.time / 1000, UTC).isoformat(timespec="seconds")
            body = msgspec.json.encode(entry.body).decode()
            short = body if len(body) <= 160 else body[:159] + "…"
            table.add_row(f"{logged.index}", when[:19], entry.kind.value, entry.id, short)
    if not as_json:
        Console().print(table)


@app.command("prove")
def prove_(
    folder: Folder,
    index: Annotated[int, typer.Argument(min=0, help="The entry's number.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to put the proof; by default ENTRY.tlog-proof.")
    ] = None,
) -> None:
    """Write a proof that an entry is in the log, and the entry itself beside it as .json.

    Both can be checked offline, with the policy: `tidegate log verify PROOF --policy POLICY`.
    Format: C2SP tlog-proof.
    """
    path = out or Path(f"{index}.tlog-proof")
    with log_folder.opened(folder) as opened:
        proof = prove(opened.log, index)
        path.write_text(proof.encode(), encoding="utf-8")
        path.with_suffix(".json").write_bytes(opened.log.entry(index).raw)
    typer.echo(f"{path} and {path.with_suffix('.json')}")


@app.command()
def verify(
    path: Annotated[
        Path, typer.Argument(exists=True, help="A log's folder, or a proof from `prove`.")
    ],
    policy: Annotated[
        Path | None,
        typer.Option(exists=True, help="Whom you trust; for a folder its own by default."),
    ] = None,
    entry: Annotated[
        Path | None, typer.Option(help="A proof's entry; by default the .json beside it.")
    ] = None,
    kept: Annotated[
        list[Path] | None,
        typer.Option(exists=True, help="A checkpoint of the log from elsewhere; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute a whole log against its checkpoint and those kept elsewhere; or check a proof."""
    if path.is_dir():
        with log_folder.opened(path) as opened:
            trusted = opened.policy if policy is None else log_folder.read_policy(policy)
            notes = [note.read_text(encoding="utf-8") for note in kept or ()]
            outcome = check_log(opened.log, trusted, notes)
    else:
        if policy is None:
            raise ConfigError("say with --policy whom you trust: a proof cannot say so itself")
        proof = Proof.parse(path.read_text(encoding="utf-8"))
        raw = (entry or path.with_suffix(".json")).read_bytes()[: MAX_ENTRY_BYTES + 1]
        outcome = check(proof, raw, log_folder.read_policy(policy))
    _conclude(outcome, as_json)


def _append(log: Log, kind: Kind, raw: bytes, once: str, ledger_key: Path | None) -> Position:
    if kind is Kind.VERDICT:
        return log_verdict(log, raw)
    if kind is Kind.UPLOAD:
        if ledger_key is None:
            raise ConfigError("say with --ledger-key whose checkpoint this must be")
        key = _parsed(lambda: Verifier.parse(ledger_key.read_text(encoding="utf-8").strip()))
        return log_upload(log, raw.decode(errors="replace"), key)
    body = _parsed(lambda: msgspec.json.decode(raw, type=dict[str, Any]))
    return log.append(kind, body, once=once)


T = TypeVar("T")


def _parsed(read: Callable[[], T]) -> T:
    try:
        return read()
    except (msgspec.MsgspecError, UnicodeDecodeError, LogError) as error:
        raise ConfigError(f"this cannot be read: {error}") from error


def _summary(published: Published) -> dict[str, object]:
    opened = published.opened
    return {
        "size": opened.checkpoint.size,
        "root": opened.checkpoint.root.hex(),
        "quorum": opened.quorum,
        "witnesses": [
            {"name": a.witness, "said": a.said, "detail": a.detail, "evidence": a.evidence}
            for a in published.answers
        ],
        "note": opened.note,
    }


def _print_published(published: Published) -> None:
    point = published.opened.checkpoint
    state = "enough" if published.opened.quorum else "NOT ENOUGH"
    typer.echo(f"checkpoint: {point.size} entries, root {point.root.hex()}")
    typer.echo(f"cosigned by {len(published.opened.cosignatures)}: {state}")
    for answer in published.answers:
        typer.echo(f"  {answer.witness}: {answer.said.value} {answer.detail}".rstrip())
        for note in answer.evidence:
            typer.echo(note)


def _exit(published: Published) -> None:
    if published.alarms:
        raise typer.Exit(1)
    if not published.opened.quorum:
        raise typer.Exit(2)


def _conclude(outcome: Outcome, as_json: bool) -> None:
    words = {Pass: "pass", Fail: "fail", CannotVerify: "cannot_verify"}
    if as_json:
        _print_json({"outcome": words[type(outcome)], **msgspec.to_builtins(outcome)})
    else:
        match outcome:
            case Pass(claim, limits, _):
                typer.echo(f"pass: {claim}")
                for limit in limits:
                    typer.echo(f"NOT covered: {limit}")
            case Fail(problem, reason, evidence):
                typer.echo(f"FAIL: {problem.value}: {reason}")
                for note in evidence:
                    typer.echo(note)
            case CannotVerify(reason):
                typer.echo(f"cannot verify: {reason}")
    raise typer.Exit(exit_status(outcome))


def _print_json(body: object) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n")
