"""What `tidegate fleet`'s commands do once their options are read."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import typer
from rich.console import Console

from tidegate.cli.fleet_shown import plan_table, status_table
from tidegate.cli.ground import secret_bytes
from tidegate.cli.progress import bars
from tidegate.cli.verify_asked import Asked, kept_of, opener_of, record_key, seeds_of, terms_of
from tidegate.cli.verify_run import verify
from tidegate.clock import SystemClock
from tidegate.errors import ConfigError
from tidegate.verify.fleet_book import Book, UnplannedError
from tidegate.verify.fleet_executor import Executor, Post
from tidegate.verify.fleet_head import Drained, Head
from tidegate.verify.fleet_metrics import FleetMetrics
from tidegate.verify.fleet_plan import Plan
from tidegate.verify.fleet_planner import Cutter, Noting, Placed, Terms
from tidegate.verify.fleet_pod import Alone, part_of
from tidegate.verify.fleet_scale import Crew
from tidegate.verify.fleet_status import Status, status_of
from tidegate.verify.fleet_store import StoreError, probe
from tidegate.verify.fleet_store_open import open_objects
from tidegate.verify.fleet_worker import Worker, book_of, secret_of, source_of
from tidegate.verify.record_store_files import FileSource
from tidegate.verify.record_store_objects import Shipper
from tidegate.verify.replay_answer import Checked
from tidegate.verify.replay_model import folder_of
from tidegate.verify.replay_pool import Pool
from tidegate.verify.replay_results import Results
from tidegate.verify.replay_run import Run
from tidegate.verify.replay_tally import Tally
from tidegate.verify.report import Report

_READERS = 16
"""Verdicts that are read from the store at the same time."""

_AT_ONCE = 256


def book_at(fleet: str, fleet_key: Path) -> Book:
    """The fleet's state. Raises ConfigError."""
    return Book(open_objects(fleet), secret_of(str(fleet_key)))


def post_of(
    record: str,
    fleet: str,
    fleet_key: Path,
    verifier_key: Path | None,
    seed_key: Path | None,
    threads: int,
    patience: float,
) -> Post:
    """What every worker is told; folders and files by their whole path, for workers elsewhere."""
    return Post(
        record=_absolute(record),
        fleet=_absolute(fleet),
        fleet_key=_absolute(str(fleet_key)),
        verifier_key=None if verifier_key is None else _absolute(str(verifier_key)),
        seed_key=None if seed_key is None else _absolute(str(seed_key)),
        threads=threads,
        patience=patience,
    )


def ship_record(folder: Path, url: str, every: float | None) -> None:
    """Ship once, or every so many seconds until Ctrl-C."""
    objects = open_objects(url)
    probe(objects)
    source = FileSource(folder)

    def durable(segment: int) -> None:
        handle = os.open(folder / f"{segment:020d}.log", os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    shipper = Shipper(source, objects, durable)
    console, pause = Console(stderr=every is not None), threading.Event()
    with suppress(KeyboardInterrupt):
        while True:
            try:
                done = shipper.round()
            except StoreError as error:
                if every is None or not error.again:
                    raise
                # Beside a running outer half: said, and tried again at the next look.
                console.print(error.message, markup=False, style="red")
                pause.wait(every)
                continue
            if done.pieces or done.mended or every is None:
                mended = f", {done.mended} half-written mended" if done.mended else ""
                told = f"shipped {done.size:,} bytes in {done.pieces} pieces{mended}"
                console.print(told, highlight=False)
            if every is None or pause.wait(every):
                return


def make_plan(record: str, fleet: str, fleet_key: Path, asked: Asked, shard_tokens: int) -> Plan:
    """Read the record and cut it. Raises TidegateError."""
    if asked.sample != "1" and asked.selection_key is None:
        raise ConfigError("--sample needs --selection-key, so that the report draws the same")
    key = record_key(asked.key)
    objects = open_objects(fleet)
    probe(objects)
    book = Book(objects, secret_bytes(fleet_key))
    placed = Placed(source_of(record))
    with ExitStack() as stack:
        progress = stack.enter_context(bars())
        folder_of(asked.spec, progress)
        progress("opening the model", 0, 1)
        model = stack.enter_context(Pool(asked.spec)).model
        progress("opening the model", 1, 1)
        terms = terms_of(asked, key, model)
        reader = Noting(placed, key, kept=kept_of(asked.kept, key), expected=terms.expected)
        cutter = Cutter(
            reader,
            placed,
            Terms(
                subject=terms.subject,
                spec=asked.spec,
                flagged=asked.flagged,
                dangerous=asked.dangerous,
            ),
            book.put_shard,
            shard_tokens=shard_tokens,
        )
        tally = Tally()
        reading = Run(
            reader,
            cutter,
            tally,
            terms.choice,
            vocab_size=model.vocab_size,
            opener=opener_of(asked.verifier_key),
            seeds=seeds_of(asked.seed_key),
            step=lambda _done, drawn: progress("reading the record", drawn, drawn),
        )
        reading.round()
        reading.finish()
        plan = cutter.plan(
            vocab_size=model.vocab_size, signed=reader.signed, findings=dict(tally.kinds)
        )
        book.put_plan(plan)
    return plan


def show_plan(plan: Plan, *, as_json: bool) -> None:
    """What was planned."""
    if as_json:
        short = {
            "shards": len(plan.tickets),
            "answers": plan.answers,
            "tokens": plan.tokens,
            "signed": plan.signed,
            "findings": plan.findings,
        }
        _print_json(short)
    else:
        Console().print(plan_table(plan))


def run_on(post: Post, on: str, address: str | None, crew: Crew, *, as_json: bool) -> None:
    """Drive the plan to its end here or on Ray, show what came of it, and exit with it."""
    book = book_of(post)
    plan = book.plan()
    executor: Executor
    if on == "ray":
        from tidegate.verify.fleet_ray import RayExecutor

        executor = RayExecutor(post, crew.least, address)
    else:
        from tidegate.verify.fleet_local import LocalExecutor

        executor = LocalExecutor(post, SystemClock(), crew.least)
    _drive(book, plan, executor, crew, as_json=as_json)


def work_as(post: Post, pod: int, pods: int, processes: int, *, as_json: bool) -> None:
    """Go through one pod's part of the plan, show what came of it, and exit with it."""
    book = book_of(post)
    plan = part_of(book.plan(), pod, pods)
    worker = Worker(post, SystemClock(), name=f"pod {pod}", processes=processes, book=book)
    _drive(book, plan, Alone(worker), Crew(), as_json=as_json)


def _drive(book: Book, plan: Plan, executor: Executor, crew: Crew, *, as_json: bool) -> None:
    with ExitStack() as stack:
        stack.callback(executor.close)
        progress = stack.enter_context(bars())
        head = Head(
            book,
            plan,
            executor,
            crew,
            lambda settled, planned: progress("shards with a verdict", settled, planned),
        )
        drained = head.run()
    _show_drained(drained, len(plan.tickets), as_json=as_json)
    raise typer.Exit(1 if drained.aside else 0)


def _show_drained(drained: Drained, planned: int, *, as_json: bool) -> None:
    if as_json:
        _print_json({"planned": planned, **msgspec.to_builtins(drained)})
        return
    console = Console()
    console.print(
        f"{drained.settled} of {planned} shards have a verdict, {drained.fresh} of them made now; "
        f"{drained.lost} workers were lost on the way",
        highlight=False,
    )
    for name, reason in drained.aside.items():
        console.print(f"set aside: {name[:12]}: {reason}", markup=False, style="yellow")


def show_status(fleet: str, fleet_key: Path, crew: Crew, *, as_json: bool) -> None:
    """Look once, and exit with what is wrong."""
    status = status_of(book_at(fleet, fleet_key), crew)
    _print_status(status, as_json=as_json)
    raise typer.Exit(1 if status.aside or status.poisoned or status.quarantined else 0)


def watch_status(
    fleet: str, fleet_key: Path, crew: Crew, every: float, port: int | None, *, as_json: bool
) -> None:
    """Look until Ctrl-C; a store that fails is said, and counted, and looked at again."""
    from prometheus_client import start_http_server

    book, metrics, pause = book_at(fleet, fleet_key), FleetMetrics(), threading.Event()
    if port is not None:
        start_http_server(port, registry=metrics.registry)
    with suppress(KeyboardInterrupt):
        while True:
            try:
                status = status_of(book, crew)
                metrics.seen(status)
                _print_status(status, as_json=as_json)
            except UnplannedError as error:
                metrics.unplanned()
                Console(stderr=True).print(error.message, markup=False)
            except StoreError as error:
                metrics.unseen()
                Console(stderr=True).print(error.message, markup=False, style="red")
            pause.wait(every)


def _print_status(status: Status, *, as_json: bool) -> None:
    if as_json:
        _print_json(msgspec.to_builtins(status))
    else:
        Console().print(status_table(status))


def joined(record: str, fleet: str, fleet_key: Path, asked: Callable[[Plan], Asked]) -> Report:
    """The report over all verdicts; they stand where a resumed verification finds its results.

    Raises:
        ConfigError: a shard has no verdict, or the plan is of another record.
        TidegateError: the record or the store cannot be read.
    """
    book = book_at(fleet, fleet_key)
    plan = book.plan()
    options = asked(plan)
    if record_key(options.key).encode() != plan.subject.record:
        raise ConfigError(f"the plan there is not of the record whose key is {options.key}")
    with tempfile.TemporaryDirectory(prefix="tidegate-report-") as folder:
        path = Path(folder) / "results"
        results = Results(path, plan.subject)
        with bars() as progress:
            results.add_all(_verdicts(book, plan, progress))
        results.close()
        return verify(replace(options, source=source_of(record), results=path))


def _verdicts(
    book: Book, plan: Plan, progress: Callable[[str, int, int], None]
) -> Iterator[Checked]:
    """Results of all shards, in the order of the record. Raises ConfigError where one lacks."""
    settled = book.settled()
    names = [ticket.name for ticket in plan.tickets]
    missing = sum(name not in settled for name in names)
    with ThreadPoolExecutor(_READERS) as pool:
        # A few at a time: a store answers slowly and many at once, and memory stays flat.
        for done in range(0, 0 if missing else len(names), _AT_ONCE):
            part = names[done : done + _AT_ONCE]
            for verdict in pool.map(lambda name: book.verdict(name, plan.subject), part):
                missing += verdict is None
                yield from () if verdict is None else verdict.checked
            progress("reading verdicts", done + len(part), len(names))
    if missing:
        raise ConfigError(
            f"{missing} of {len(plan.tickets)} shards have no verdict, so nobody can tell yet: run "
            "`tidegate fleet run`; `tidegate fleet status` names what was set aside"
        )


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).expanduser().absolute())


def _print_json(value: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(value) + b"\n")
    sys.stdout.buffer.flush()
