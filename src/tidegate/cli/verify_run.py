"""What `tidegate verify` does once its options are read: opens, runs, follows, reports."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tidegate import __version__
from tidegate.cli.progress import bars
from tidegate.cli.verify_asked import (
    Asked,
    kept_of,
    opener_of,
    policy_of,
    record_key,
    seeds_of,
    terms_of,
)
from tidegate.cli.verify_gate import listening
from tidegate.disk import replace_whole
from tidegate.errors import ConfigError
from tidegate.verify.record_reader import Reader
from tidegate.verify.record_store_files import FileSource
from tidegate.verify.replay_findings import Found
from tidegate.verify.replay_model import folder_of, open_tokenizer
from tidegate.verify.replay_pool import Pool
from tidegate.verify.replay_results import Results
from tidegate.verify.replay_run import Run
from tidegate.verify.replay_tally import Tally
from tidegate.verify.report import Report, Verified, report_of
from tidegate.verify.report_scopes import Stakes
from tidegate.verify.sequential import Null
from tidegate.verify.sequential_monitor import Monitor

_BITS_A_PARAMETER = 16
"""As weights are stored; what compression makes of them is `bounds.COMPRESSION`."""
_LIVE_EVERY = 1.0
"""Seconds between reports for the console."""
_GATE_EVERY = 0.05
"""Seconds between looks at the record while users wait for verdicts."""


def verify(asked: Asked, tell: Callable[[Found], None] = lambda _: None) -> Report:
    """Verify a record. `tell` hears of each finding at once while a running one is followed.

    Raises:
        TidegateError: it could not be done at all; that is never a pass.
    """
    policy = policy_of(asked.sample, asked.by)
    if asked.gate is not None and policy.rate != 1:
        raise ConfigError("--gate verifies every answer; leave --sample out")
    key = record_key(asked.key)
    kept, opener, seeds = (
        kept_of(asked.kept, key),
        opener_of(asked.verifier_key),
        seeds_of(asked.seed_key),
    )
    with ExitStack() as stack:
        progress = stack.enter_context(bars())
        folder_of(asked.spec, progress)  # fetched here once, not by every worker
        open_tokenizer(asked.spec)
        progress("opening the model", 0, 1)
        pool = stack.enter_context(Pool(asked.spec, workers=asked.workers))
        progress("opening the model", 1, 1)
        model = pool.model
        terms = terms_of(asked, key, model)
        pool.begin(terms.rule)
        results = None
        if asked.results is not None:
            results = Results(asked.results, terms.subject)
            stack.callback(results.close)
        null = None if terms.watched is None else Null.of(terms.watched)
        tally = Tally(null, None if null is None else Monitor(false_alarms=asked.false_alarms))
        reader = Reader(
            asked.source or FileSource(asked.log), key, kept=kept, expected=terms.expected
        )
        gate = None if asked.gate is None else stack.enter_context(listening(asked.gate))
        run = Run(
            reader,
            pool,
            tally,
            terms.choice,
            vocab_size=model.vocab_size,
            opener=opener,
            seeds=seeds,
            results=results,
            step=lambda done, drawn: progress("re-executing answers", done, drawn),
            told=(lambda _name, _word: None) if gate is None else gate.tell,
        )

        def report() -> Report:
            return report_of(
                tally,
                reader.summary(),
                Verified(
                    record=key.name,
                    model=model.name,
                    fingerprint=model.model,
                    numerics=model.numerics,
                    exact=model.exact,
                    rate=terms.subject.rate,
                    by=terms.subject.by,
                    keys=terms.choice.revealed(
                        reader.summary(),
                        spent=asked.selection_key is None and asked.results is None,
                    ),
                    profile=""
                    if terms.profile is None or model.exact
                    else terms.profile.provenance.command,
                ),
                policy,
                version=__version__,
                vocab_size=model.vocab_size,
                point=terms.point,
                fraction=asked.fraction,
                kept=bool(kept),
                stakes=Stakes(
                    weight_bits=_BITS_A_PARAMETER * model.parameters,
                    sampled=float(policy.rate),
                    cap_bits_a_day=asked.cap_bits_a_day,
                ),
            )

        live = _Live(asked.live, report)
        if asked.follow or gate is not None:
            _follow(run, asked, tell, live)
        else:
            run.round()
        run.finish()
        live.write(last=True)
    return report()


class _Live:
    """Keeps a file with the report so far, for whoever shows it."""

    def __init__(self, path: Path | None, report: Callable[[], Report]) -> None:
        self._path, self._report = path, report
        self._written = -_LIVE_EVERY

    def write(self, *, last: bool = False) -> None:
        """Now and then, and the last time. Raises ConfigError where the file cannot be written."""
        if self._path is None or not (last or time.monotonic() >= self._written + _LIVE_EVERY):
            return
        self._written = time.monotonic()
        try:
            replace_whole(self._path, self._report().json())
        except OSError as error:
            raise ConfigError(f"cannot write {self._path}: {error.strerror}") from error


def _follow(run: Run, asked: Asked, tell: Callable[[Found], None], live: _Live) -> None:
    told, quiet, seen = 0, 0.0, -1
    every = asked.every if asked.gate is None else _GATE_EVERY
    with _interrupted() as stop:
        while not stop.is_set():
            run.round()
            for finding in run.tally.findings[told:]:
                tell(finding)
            told = len(run.tally.findings)
            live.write()
            quiet = 0.0 if run.tally.responses != seen else quiet + every
            seen = run.tally.responses
            if asked.idle is not None and quiet >= asked.idle:
                return
            stop.wait(every)


@contextmanager
def _interrupted() -> Iterator[threading.Event]:
    """Set by Ctrl-C or SIGTERM, which then end following instead of the process."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
