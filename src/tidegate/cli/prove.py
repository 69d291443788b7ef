"""`tidegate prove`: commit to an answer, check it with or without the weights, keep the keys."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from tidegate.cli.progress import bars
from tidegate.errors import ConfigError
from tidegate.prove.tiers import Tier
from tidegate.prove.verdict import (
    CannotVerify,
    Fail,
    UnverifiableError,
    Verdict,
    exit_status,
    lines,
    report,
)

if TYPE_CHECKING:
    from tidegate.prove.statement import Statement
    from tidegate.transparency.note import Verifier

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Prove how an answer came about. The **owner** makes a key (`keygen`, `rotate`), the "
    "**prover** beside the weights commits (`commit`), the **verifier** checks without the weights "
    "(`verify`) or with them (`replay`). Exits 0: pass, 1: fail, 2: cannot verify.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Model = Annotated[
    str,
    typer.Argument(
        help="A converted folder (`tidegate exact convert`); for the project tier a packaged name "
        "or a model folder."
    ),
]
StatementFile = Annotated[
    Path,
    typer.Option(
        "--statement",
        exists=True,
        help="Request and answer as whoever asked has them. A copy that came from the prover only "
        "shows that he agrees with himself.",
    ),
]
SignerFile = Annotated[
    Path, typer.Option("--signer", exists=True, help="The prover's public key, SIGNING_KEY.pub.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="By default all processors.")]
Made = Annotated[
    Tier, typer.Option(help="receipt: T0; freivalds: T3, exact engine; project: T2, float servers.")
]


@app.command()
def keygen(
    model: Model,
    key: Annotated[Path, typer.Argument(help="The key file to make; it must not exist.")],
    tier: Made = Tier.FREIVALDS,
    dtype: Annotated[
        str, typer.Option(help="What a float server computes in: bfloat16 or float32.")
    ] = "bfloat16",
    as_json: AsJson = False,
) -> None:
    """Make the verifier's key from the weights: the owner's part, on the owner's machine.

    The prover must never see the file: with it he forges whatever he likes.
    """
    from tidegate.cli.prove_make import make_key
    from tidegate.prove import keyfile

    if key.exists():
        raise ConfigError(f"{key} exists already; `tidegate prove rotate` replaces it")
    with bars() as progress:
        raw = make_key(model, tier, dtype, progress)
    keyfile.write(key, raw)
    _print_key(key, as_json)


@app.command()
def rotate(
    key: Annotated[Path, typer.Argument(exists=True, help="The key file to replace.")],
    model: Model,
    as_json: AsJson = False,
) -> None:
    """Replace a key by one with fresh secrets; forgeries made for the old one fail from now on.

    Also the way to follow new weights. Proofs made before can still be checked.
    """
    from tidegate.cli.prove_make import rotated_key
    from tidegate.prove import keyfile

    with bars() as progress:
        raw = rotated_key(keyfile.read(key), model, progress)
    keyfile.write(key, raw)
    _print_key(key, as_json)


@app.command()
def commit(
    model: Model,
    out: Annotated[Path, typer.Argument(help="The proof's folder; it must not exist.")],
    signing_key: Annotated[
        Path, typer.Option(help="The prover's private key; made if it does not exist.")
    ] = Path("prover.key"),
    signer_name: Annotated[
        str, typer.Option(help="The name in a signing key that is made.")
    ] = "prover.example/receipts",
    request: Annotated[
        Path | None, typer.Option(exists=True, help="A request as JSON; else one is made up.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="Text of a request that is made up.")] = (
        "Why is the sky blue?"
    ),
    max_tokens: Annotated[int, typer.Option(min=1, help="Its longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="Its temperature.")] = 0.0,
    stop: Annotated[list[str] | None, typer.Option(help="Its stop strings.")] = None,
    tier: Made = Tier.FREIVALDS,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Answer a request beside the weights, and commit to how: receipt, statement and trace.

    The folder may only go to the verifying zone: 576 tokens of a trace give a 576-wide model's
    weights away.
    """
    from tidegate.cli import prove_make as make

    with bars() as progress:
        summary = make.commit(
            model,
            out,
            make.signer_of(signing_key, signer_name),
            make.Asked(request, prompt, max_tokens, temperature, tuple(stop or ())),
            tier,
            threads,
            progress,
        )
    _print(summary, as_json)


@app.command()
def verify(
    proof: Annotated[Path, typer.Argument(exists=True, help="A proof's folder.")],
    statement: StatementFile,
    signer: SignerFile,
    key: Annotated[
        Path | None, typer.Option(help="The verifier's key; only a receipt needs none.")
    ] = None,
    tier: Annotated[
        Tier, typer.Option(help="What is demanded; a proof of another tier cannot be verified.")
    ] = Tier.FREIVALDS,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Check a proof without the weights."""
    _conclude([lambda: _verify(proof, statement, signer, key, tier, threads)], as_json)


def _verify(
    proof: Path, statement: Path, signer: Path, key: Path | None, tier: Tier, threads: int | None
) -> Verdict:
    from tidegate.models.exact.backends import default_threads
    from tidegate.prove import check, files, keyfile, keys, monitor, receipt
    from tidegate.prove.passes import native_ops

    stated, trusted = _statement(statement), _trusted(signer)
    note = files.read_note(proof)
    if tier is Tier.RECEIPT:
        return receipt.check(note, stated, trusted, None)
    if tier is Tier.ZERO_KNOWLEDGE:
        return CannotVerify(tier=tier, reason="not built")
    if tier is Tier.REPLAY:
        return CannotVerify(tier=tier, reason="this needs the weights: `tidegate prove replay`")
    if key is None:
        return CannotVerify(tier=tier, reason="this tier needs the verifier's key: --key")
    raw = keyfile.read(key)
    if tier is Tier.PROJECT:
        watch = monitor.decode(raw)
        most = monitor.most_bytes(watch.shape, stated)
        packed = files.read_bytes(proof, files.FLOAT_TRACE, most)
        opened = files.read_bytes(proof, files.HEAD_ROWS, most)
        return monitor.verify(note, packed, opened, stated, watch, trusted)
    with bars() as progress, files.reading(proof) as whole:
        ops_of = native_ops(threads or default_threads())
        return check.verify(
            whole, stated, keys.decode(raw), trusted, ops_of=ops_of, progress=progress
        )


@app.command()
def replay(
    model: Model,
    proofs: Annotated[list[Path], typer.Argument(exists=True, help="Proofs' folders.")],
    statement: Annotated[
        list[Path], typer.Option(exists=True, help="As for `verify`; one a proof, in order.")
    ],
    signer: SignerFile,
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of each answer's tokens to compare.")
    ] = 1.0,
    of_proofs: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the proofs to run again.")
    ] = 1.0,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Run answers again with the weights and compare bit for bit, at places drawn here and now.

    Tokens are compared, and every product behind them where a proof has a trace's hashes.
    """
    from tidegate.cli.prove_make import Replayer
    from tidegate.prove.files import read_note
    from tidegate.prove.replay import selected

    if len(statement) != len(proofs):
        raise ConfigError(f"{len(proofs)} proofs need as many --statement, not {len(statement)}")
    secret = secrets.token_bytes(32)
    notes = "".join(read_note(proof) for proof in proofs)
    chosen = selected(secret, notes, len(proofs), of_proofs)
    with bars() as progress:
        again = Replayer(model, _trusted(signer), share, secret, threads, progress)
        pairs = [(proofs[number], _statement(statement[number])) for number in chosen]
        todo = [lambda pair=pair: again.run(*pair) for pair in pairs]
        _conclude(todo, as_json)


@app.command()
def show(
    path: Annotated[Path, typer.Argument(exists=True, help="A proof's folder or a key file.")],
    as_json: AsJson = False,
) -> None:
    """Print what a proof commits to, or what a key is for; never a secret.

    Checks nothing: use `verify`.
    """
    from tidegate.prove.files import read_note

    if not path.is_dir():
        _print_key(path, as_json)
        return
    text = read_note(path).partition("\n\n")[0]
    header, *rows = text.splitlines()
    summary: dict[str, str | int] = {"receipt": header, **dict(r.split(" ", 1) for r in rows)}
    summary["bytes"] = sum(file.stat().st_size for file in path.iterdir())
    _print(summary, as_json)


def _statement(path: Path) -> Statement:
    from tidegate.prove.statement import decode

    return decode(path.read_bytes())


def _trusted(path: Path) -> Verifier:
    from tidegate.transparency.errors import CheckpointError
    from tidegate.transparency.note import Verifier

    try:
        return Verifier.parse(path.read_text().strip())
    except (CheckpointError, ValueError) as error:
        raise ConfigError(f"{path} is no public key: {error}") from error


def _conclude(checks: Sequence[Callable[[], Verdict]], as_json: bool) -> None:
    """Run checks, print their verdicts, and exit with the worst: fail, cannot verify, pass."""
    verdicts: list[Verdict] = []
    for one in checks:
        try:
            verdicts.append(one())
        except UnverifiableError as error:
            verdicts.append(CannotVerify(tier=Tier.RECEIPT, reason=error.message))
    reports = [report(verdict) for verdict in verdicts]
    if as_json:
        body = reports[0] if len(reports) == 1 else reports
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n")
    else:
        console = Console()
        for verdict in verdicts:
            for line in lines(verdict):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
    if any(isinstance(verdict, Fail) for verdict in verdicts):
        raise typer.Exit(1)
    raise typer.Exit(max(map(exit_status, verdicts)))


def _print_key(path: Path, as_json: bool) -> None:
    from tidegate.cli.prove_make import describe_key

    _print({"key": str(path), **describe_key(path)}, as_json)


def _print(summary: dict[str, str | int], as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(summary), indent=1) + b"\n")
        return
    console = Console()
    for name, value in summary.items():
        console.print(f"{name}: {value}", markup=False, highlight=False, soft_wrap=True)
