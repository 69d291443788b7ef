"""`tidegate fleet`: many machines verify one record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from tidegate.cli import verify
from tidegate.errors import ConfigError
from tidegate.verify.selection import By

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Verify a record on many machines: `ship` copies it to a store that all of them reach, "
    "`plan` cuts it into shards, `run` (this machine, Ray) or `work` (Kubernetes Jobs) re-executes "
    "them, `report` says what came of it. Each can be killed at any moment and run again; a shard "
    "gets one verdict. See docs/howto/fleet.md.",
)

Record = Annotated[
    str,
    typer.Argument(help="Where `ship` put the record, such as s3://bucket/record, or its folder."),
]
Fleet = Annotated[
    str,
    typer.Argument(help="The fleet's own place in a store: s3://bucket/fleet, or a folder."),
]
FleetKey = Annotated[
    Path,
    typer.Option(help="32 secret bytes that seal plan and verdicts; the same file everywhere."),
]
Sealed = Annotated[
    Path | None, typer.Option(help="Opens sealed prompts and seeds, where the record has them.")
]
Seed = Annotated[
    Path | None, typer.Option(help="The outer half's seed_key_file: checks seeds as well.")
]
Threads = Annotated[int, typer.Option(min=1, help="Threads a worker.")]
Patience = Annotated[
    float, typer.Option(min=1, help="Seconds after which an answer counts as one that hangs.")
]
Least = Annotated[int, typer.Option(min=1, help="Workers, and the fewest there are.")]
Most = Annotated[
    int | None, typer.Option(min=1, help="The most there may be, with --within; else as --workers.")
]
Within = Annotated[
    float | None,
    typer.Option(min=1, help="Seconds in which the backlog should be gone; sizes the crew."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def ship(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="The record's folder.")
    ],
    url: Annotated[str, typer.Argument(help="Where to, such as s3://bucket/record, or a folder.")],
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on while the record grows, until Ctrl-C.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 15.0,
) -> None:
    """Copy a record to object storage, in pieces that are written once.

    May run beside the outer half and be killed: it goes on where it stopped, and mends a piece of
    which the store kept only half. A record that is not the one shipped before is refused.
    """
    from tidegate.cli.fleet_run import ship_record

    ship_record(folder, url, every if follow else None)


@app.command()
def plan(
    record: Record,
    fleet: Fleet,
    fleet_key: FleetKey,
    key: verify.Key,
    model: verify.Model,
    profile: Annotated[
        Path | None,
        typer.Option(exists=True, help="Noise profile of the two stacks; float models need one."),
    ] = None,
    sample: Annotated[
        str, typer.Option(help="Share to verify, such as 0.1 or 1/20; needs --selection-key.")
    ] = "1",
    by: Annotated[By, typer.Option(help="What the share is of.")] = "token",
    selection_key: Annotated[
        Path | None, typer.Option(help="32 secret bytes the draw derives from, made if need be.")
    ] = None,
    kept: Annotated[
        list[Path] | None, typer.Option(exists=True, help="A checkpoint kept elsewhere.")
    ] = None,
    verifier_key: Sealed = None,
    seed_key: Seed = None,
    expect: verify.Expect = None,
    dtype: verify.Dtype = "bfloat16",
    tokenizer: verify.Tokens = None,
    max_context: verify.Context = None,
    flagged: Annotated[float, typer.Option(help="As for `tidegate verify`.")] = 0.05,
    dangerous: Annotated[float, typer.Option(help="As for `tidegate verify`.")] = 0.01,
    shard_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens a shard: what a lost worker loses at most.")
    ] = 16_384,
    as_json: AsJson = False,
) -> None:
    """Read the record, check its chain and checkpoints, and cut what is to be re-executed.

    A record that has grown is planned again, and verdicts that are there stay good.
    """
    from tidegate.cli.fleet_run import make_plan, show_plan
    from tidegate.cli.verify import spec_of
    from tidegate.cli.verify_asked import Asked

    asked = Asked(
        log=Path(record),
        key=key,
        spec=spec_of(model, dtype, tokenizer, None, max_context),
        profile=profile,
        kept=tuple(kept or ()),
        verifier_key=verifier_key,
        seed_key=seed_key,
        sample=sample,
        by=by,
        selection_key=selection_key,
        flagged=flagged,
        dangerous=dangerous,
        expect=tuple(expect or ()),
    )
    show_plan(make_plan(record, fleet, fleet_key, asked, shard_tokens), as_json=as_json)


@app.command()
def run(
    record: Record,
    fleet: Fleet,
    fleet_key: FleetKey,
    on: Annotated[
        Literal["local", "ray"], typer.Option(help="Processes of this machine, or a Ray cluster.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="The Ray cluster's address; by default one starts here.")
    ] = None,
    workers: Least = 1,
    most: Most = None,
    within: Within = None,
    verifier_key: Sealed = None,
    seed_key: Seed = None,
    threads: Threads = 1,
    patience: Patience = 900.0,
    as_json: AsJson = False,
) -> None:
    """Re-execute every shard that has no verdict. Exits 0: all have one, 1: some were set aside."""
    if address is not None and on != "ray":
        raise ConfigError("--address is a Ray cluster's; say --on ray")
    from tidegate.cli.fleet_run import post_of, run_on
    from tidegate.verify.fleet_scale import Crew

    post = post_of(record, fleet, fleet_key, verifier_key, seed_key, threads, patience)
    crew = Crew(least=workers, most=max(workers, most or workers), within=within)
    run_on(post, on, address, crew, as_json=as_json)


@app.command()
def work(
    record: Record,
    fleet: Fleet,
    fleet_key: FleetKey,
    pod: Annotated[
        int, typer.Option(envvar="JOB_COMPLETION_INDEX", min=0, help="Which pod this is, from 0.")
    ] = 0,
    pods: Annotated[
        int, typer.Option(envvar="TIDEGATE_FLEET_PODS", min=1, help="How many pods there are.")
    ] = 1,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes in this pod; each holds the model once.")
    ] = 1,
    verifier_key: Sealed = None,
    seed_key: Seed = None,
    threads: Threads = 1,
    patience: Patience = 900.0,
    as_json: AsJson = False,
) -> None:
    """Be one pod of an indexed Kubernetes Job: re-execute this pod's share of the shards.

    Exits 0: all of them have verdicts, 1: some were set aside, 2: it could not go on.
    """
    from tidegate.cli.fleet_run import post_of, work_as

    post = post_of(record, fleet, fleet_key, verifier_key, seed_key, threads, patience)
    work_as(post, pod, pods, processes, as_json=as_json)


@app.command()
def status(
    fleet: Fleet,
    fleet_key: FleetKey,
    workers: Least = 1,
    most: Most = None,
    within: Within = None,
    every: Annotated[
        float | None, typer.Option(min=0.1, help="Look again every so many seconds.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Answer /metrics here; with --every.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how far the plan is, what is wrong, and how many workers the backlog asks for.

    Exits 0, or 1 where answers are poisoned, shards set aside or verdicts in quarantine.
    """
    if metrics_port is not None and every is None:
        raise ConfigError("--metrics-port answers for as long as somebody looks; give --every")
    from tidegate.cli.fleet_run import show_status, watch_status
    from tidegate.verify.fleet_scale import Crew

    crew = Crew(least=workers, most=max(workers, most or 1_000_000), within=within)
    if every is not None:
        watch_status(fleet, fleet_key, crew, every, metrics_port, as_json=as_json)
    else:
        show_status(fleet, fleet_key, crew, as_json=as_json)


@app.command()
def reopen(fleet: Fleet, fleet_key: FleetKey) -> None:
    """Try poisoned answers again: drop the verdicts that hold one; `run` makes them anew."""
    from tidegate.cli.fleet_run import book_at

    count = book_at(fleet, fleet_key).reopen()
    Console().print(f"{count} shard{'' if count == 1 else 's'} to run again", highlight=False)


@app.command()
def report(
    record: Record,
    fleet: Fleet,
    fleet_key: FleetKey,
    key: verify.Key,
    profile: Annotated[
        Path | None, typer.Option(exists=True, help="The profile that was planned with.")
    ] = None,
    selection_key: Annotated[
        Path | None, typer.Option(exists=True, help="The key that was planned with.")
    ] = None,
    kept: Annotated[
        list[Path] | None, typer.Option(exists=True, help="A checkpoint kept elsewhere.")
    ] = None,
    verifier_key: Sealed = None,
    seed_key: Seed = None,
    expect: verify.Expect = None,
    false_alarms: Annotated[
        float, typer.Option(help="Chance that an honest fleet ever raises an alarm.")
    ] = 1e-6,
    fraction: Annotated[
        float, typer.Option(help="A pass speaks of cheats on at least this share of tokens.")
    ] = 0.1,
    cap: Annotated[
        float | None,
        typer.Option("--cap-bits-a-day", min=0, help="What the ledger lets leave; bounds days."),
    ] = None,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write a report with plots here.")] = None,
    sarif: Annotated[Path | None, typer.Option(help="Write findings as SARIF 2.1.0 here.")] = None,
    ocsf: Annotated[
        Path | None, typer.Option(help="Write OCSF Detection Findings (class 2004) here.")
    ] = None,
) -> None:
    """Join all verdicts into the report of `tidegate verify`. Exits as it does: 0, 1 or 2.

    Reads the whole record once more, so that nothing is passed which is not in it. A shard without
    a verdict: 2. What was recorded since the plan is re-executed here.
    """
    from tidegate.cli import verify_shown
    from tidegate.cli.fleet_run import joined
    from tidegate.cli.verify_asked import Asked
    from tidegate.verify.fleet_plan import Plan

    if html is not None:
        verify_shown.require_plots()

    def asked(plan: Plan) -> Asked:
        return Asked(
            log=Path(record),
            key=key,
            spec=plan.spec,
            profile=profile,
            kept=tuple(kept or ()),
            verifier_key=verifier_key,
            seed_key=seed_key,
            sample=plan.subject.rate,
            by="message" if plan.subject.by == "message" else "token",
            selection_key=selection_key,
            false_alarms=false_alarms,
            flagged=plan.flagged,
            dangerous=plan.dangerous,
            fraction=fraction,
            expect=tuple(expect or ()),
            cap_bits_a_day=cap,
        )

    made = joined(record, fleet, fleet_key, asked)
    verify.deliver(made, record, as_json=as_json, html=html, sarif=sarif, ocsf=ocsf)
