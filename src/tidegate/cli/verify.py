"""`tidegate verify`: re-execute what was served, and say how much could have leaked."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer
from rich.console import Console

from tidegate.cli.default_command import default_to
from tidegate.errors import ConfigError
from tidegate.verify.replay_findings import Found
from tidegate.verify.replay_model import Spec, parse
from tidegate.verify.selection import By

if TYPE_CHECKING:
    from tidegate.verify.report import Report

DEFAULT = "log"
"""`tidegate verify LOG` is `tidegate verify log LOG`."""

app = typer.Typer(
    cls=default_to(DEFAULT),
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Re-execute what a running or stopped `tidegate serve` recorded, on the verifier's own "
    "machine and model: `tidegate verify LOG --key RECORD_KEY.pub --model exact:smollm2`. Exits 0: "
    "pass, 1: fail, 2: cannot verify. What each figure means, and what is not covered, is in "
    "docs/howto/verify.md.",
)

Log = Annotated[
    Path, typer.Argument(exists=True, file_okay=False, help="The folder that settings call record.")
]
Key = Annotated[
    Path,
    typer.Option(
        "--key",
        exists=True,
        help="The record's public key: RECORD_KEY.pub, got by another way than the record.",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        help="Your own copy of the model: exact:NAME demands equality; transformers:NAME, "
        "llama.cpp:NAME and vllm:NAME@URL need a noise profile."
    ),
]
Dtype = Annotated[Literal["bfloat16", "float32"], typer.Option(help="For transformers and vllm.")]
Tokens = Annotated[
    str | None, typer.Option("--tokenizer", help="The model whose tokenizer served, if another's.")
]
Sealed = Annotated[
    Path | None,
    typer.Option(help="Opens sealed prompts and seeds; `tidegate verify key` makes one."),
]
Seed = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        help="The outer half's seed_key_file: also checks that nobody chose a seed.",
    ),
]
Expect = Annotated[
    list[str] | None,
    typer.Option(help="A fingerprint of a serving model that is right too, besides --model's."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads a worker; default: its share.")]
Context = Annotated[int | None, typer.Option(min=1, help="Longest sequence, to bound memory.")]


@app.command(DEFAULT)
def log(
    log: Log,
    key: Key,
    model: Model,
    profile: Annotated[
        Path | None,
        typer.Option(exists=True, help="Noise profile of the two stacks; float models need one."),
    ] = None,
    sample: Annotated[
        str, typer.Option(help="Share to verify, such as 0.1 or 1/20; drawn by a secret key.")
    ] = "1",
    by: Annotated[
        By, typer.Option(help="What the share is of: token makes cutting answers up useless.")
    ] = "token",
    selection_key: Annotated[
        Path | None,
        typer.Option(help="32 secret bytes the draw derives from, made if need be; else fresh."),
    ] = None,
    kept: Annotated[
        list[Path] | None,
        typer.Option(exists=True, help="A checkpoint kept elsewhere: shows rollbacks and forks."),
    ] = None,
    verifier_key: Sealed = None,
    seed_key: Seed = None,
    expect: Expect = None,
    dtype: Dtype = "bfloat16",
    tokenizer: Tokens = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; each holds the model once.")] = 1,
    threads: Threads = None,
    max_context: Context = None,
    resume_file: Annotated[
        Path | None,
        typer.Option(help="Results so far; run again with it and only the rest is re-executed."),
    ] = None,
    false_alarms: Annotated[
        float, typer.Option(help="Chance that an honest fleet ever raises an alarm.")
    ] = 1e-6,
    flagged: Annotated[
        float, typer.Option(help="Honest tokens that may be beyond the margin; picks the margin.")
    ] = 0.05,
    dangerous: Annotated[
        float, typer.Option(help="Honest tokens that may be dangerous; picks margin and rank.")
    ] = 0.01,
    fraction: Annotated[
        float, typer.Option(help="A pass speaks of cheats on at least this share of tokens.")
    ] = 0.1,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on while the record grows, until Ctrl-C.")
    ] = False,
    live: Annotated[
        Path | None, typer.Option(help="Keep the report so far in this file, for the console.")
    ] = None,
    idle: Annotated[
        float | None, typer.Option(min=0, help="With --follow: end after so long without answers.")
    ] = None,
    cap: Annotated[
        float | None,
        typer.Option("--cap-bits-a-day", min=0, help="What the ledger lets leave; bounds days."),
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option(help="Follow, and tell the outer half on this socket what may leave."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a report with plots here.")] = None,
    sarif: Annotated[Path | None, typer.Option(help="Write findings as SARIF 2.1.0 here.")] = None,
    ocsf: Annotated[
        Path | None, typer.Option(help="Write OCSF Detection Findings (class 2004) here.")
    ] = None,
) -> None:
    """Verify a record: re-execute its answers, judge every token and every end.

    Nothing that is missing, damaged or not understood can become a pass.
    """
    from tidegate.cli import verify_shown
    from tidegate.cli.verify_asked import Asked
    from tidegate.cli.verify_run import verify

    if html is not None:
        verify_shown.require_plots()
    report = verify(
        Asked(
            log=log,
            key=key,
            spec=spec_of(model, dtype, tokenizer, threads or _share(workers), max_context),
            profile=profile,
            kept=tuple(kept or ()),
            verifier_key=verifier_key,
            seed_key=seed_key,
            sample=sample,
            by=by,
            selection_key=selection_key,
            results=resume_file,
            workers=workers,
            false_alarms=false_alarms,
            flagged=flagged,
            dangerous=dangerous,
            fraction=fraction,
            expect=tuple(expect or ()),
            follow=follow,
            idle=idle,
            live=live,
            gate=gate,
            cap_bits_a_day=cap,
        ),
        _tell,
    )
    deliver(report, log.name, as_json=as_json, html=html, sarif=sarif, ocsf=ocsf)


@app.command()
def profile(
    log: Log,
    out: Annotated[Path, typer.Argument(help="The profile to write.")],
    key: Key,
    model: Model,
    batch: Annotated[str, typer.Option(help="How many streams were decoded together.")] = "any",
    hardware: Annotated[str, typer.Option(help="What served, for people.")] = "not said",
    prompts: Annotated[str, typer.Option(help="What the prompts were, for people.")] = "not said",
    verifier_key: Sealed = None,
    expect: Expect = None,
    dtype: Dtype = "bfloat16",
    tokenizer: Tokens = None,
    threads: Threads = None,
    max_context: Context = None,
) -> None:
    """Measure the noise between two honest stacks from a record that an honest one served.

    Whoever supplies the record chooses what counts as noise: serve it yourself.
    """
    from tidegate.cli.verify_profile import measure

    spec = spec_of(model, dtype, tokenizer, threads, max_context)
    made = measure(
        log,
        key,
        spec,
        verifier_key=verifier_key,
        expect=tuple(expect or ()),
        batch=batch,
        hardware=hardware,
        prompts=prompts,
    )
    out.write_bytes(made.encode() + b"\n")
    Console().print(
        f"{out}: {made.mismatch.share:.3%} of {made.tokens:,} held-out tokens differ, "
        f"{len(made.points)} points",
        highlight=False,
    )


@app.command("key")
def make_key(
    path: Annotated[Path, typer.Argument(help="The private key; made if it does not exist.")],
) -> None:
    """Make the key that prompts and seeds are sealed to; print its public part.

    That part goes into the outer half's settings, as `verifier` of the section `record`.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from tidegate.cli.ground import secret_bytes

    private = X25519PrivateKey.from_private_bytes(secret_bytes(path))
    typer.echo(private.public_key().public_bytes_raw().hex())


@app.command()
def plan(
    sample: Annotated[str, typer.Option(help="Share to verify, such as 0.1 or 1/20.")] = "1/20",
    by: Annotated[By, typer.Option(help="What the share is of.")] = "token",
    lengths: Annotated[
        str, typer.Option(help="Tokens of typical answers, each as likely as the others.")
    ] = "10,50,200,1000",
    cost: Annotated[
        float,
        typer.Option(min=0, help="Replaying over generating; `bench verify` measures it."),
    ] = 0.25,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what verifying a share finds, and what it costs.

    By token, each token tosses a coin of its own and one hit draws the whole answer, so that long
    answers are nearly always drawn; by message, an answer counts once however long it is.
    """
    from tidegate.cli.verify_drawn import show_plan

    show_plan(Console(), sample, by, lengths, cost, as_json=as_json)


@app.command()
def commit(
    secret: Annotated[Path, typer.Argument(help="The --selection-key; made if need be.")],
    origin: Annotated[str, typer.Option(help="The record's name, as in its public key.")],
    first: Annotated[int, typer.Option(min=0, help="The first epoch.")] = 0,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many epochs.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print commitments to the keys that answers will be drawn with, to publish beforehand.

    The report of `tidegate verify --selection-key` reveals a key once its epoch is over; anybody
    can then check it against the commitment, and draw again.
    """
    from tidegate.cli.verify_drawn import show_commitments

    show_commitments(Console(), secret, origin, range(first, first + count), as_json=as_json)


def deliver(
    report: Report,
    name: str,
    *,
    as_json: bool,
    html: Path | None,
    sarif: Path | None,
    ocsf: Path | None,
) -> NoReturn:
    """Write the files, print the report, and exit with what it says; `name` is the record's."""
    from tidegate.cli import verify_shown
    from tidegate.clock import SystemClock
    from tidegate.verify import report_ocsf, report_sarif
    from tidegate.verify.report import exit_status

    if html is not None:
        verify_shown.write_html(html, report)
    if sarif is not None:
        sarif.write_bytes(report_sarif.sarif(report, name))
    if ocsf is not None:
        ocsf.write_bytes(report_ocsf.ocsf(report, SystemClock().now()))
    if as_json:
        sys.stdout.buffer.write(report.json() + b"\n")
    else:
        verify_shown.show(Console(), report)
    raise typer.Exit(exit_status(report))


def spec_of(
    model: str, dtype: str, tokenizer: str | None, threads: int | None, max_context: int | None
) -> Spec:
    """The verifier's model, as the options name it. Raises ConfigError."""
    engine, name = parse(model)
    if dtype not in ("bfloat16", "float32"):
        raise ConfigError("--dtype is bfloat16 or float32")
    chosen: Literal["bfloat16", "float32"] = "float32" if dtype == "float32" else "bfloat16"
    return Spec(engine, name, chosen, tokenizer, threads, max_context)


def _share(workers: int) -> int:
    return max(1, len(os.sched_getaffinity(0)) // workers)


def _tell(finding: Found) -> None:
    Console(stderr=True).print(
        f"{finding.kind}: {finding.reason} {finding.where()}".rstrip(), markup=False
    )
