"""What `tidegate verify` does once its options are read: opens, runs, follows, reports."""

from __future__ import annotations

import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tidegate import __version__
from tidegate.cli.ground import secret_bytes
from tidegate.cli.progress import bars
from tidegate.cli.verify_gate import listening
from tidegate.disk import replace_whole
from tidegate.errors import ConfigError
from tidegate.sampling.seed import SeedService
from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import Checkpoint, Verifier
from tidegate.verify.bounds import Tolerance
from tidegate.verify.calibrate import NoiseProfile, Point, alarm_point, operating_point
from tidegate.verify.record_reader import Expected, Reader
from tidegate.verify.record_seal import Opener
from tidegate.verify.record_store_files import FileSource
from tidegate.verify.replay_answer import Rule
from tidegate.verify.replay_findings import Found
from tidegate.verify.replay_model import Spec, folder_of, open_tokenizer
from tidegate.verify.replay_pool import Pool
from tidegate.verify.replay_results import VERSION, Results, Subject, stored_subject
from tidegate.verify.replay_run import Choice, Run
from tidegate.verify.replay_tally import Tally
from tidegate.verify.replay_worker import Ready
from tidegate.verify.report import Report, Verified, report_of, tolerance_of
from tidegate.verify.report_scopes import Stakes
from tidegate.verify.selection import By, Policy, commitment, epoch_key
from tidegate.verify.sequential import Null
from tidegate.verify.sequential_monitor import Monitor

_BITS_A_PARAMETER = 16
"""As weights are stored; what compression makes of them is `bounds.COMPRESSION`."""
_LIVE_EVERY = 1.0
"""Seconds between reports for the console."""
_GATE_EVERY = 0.05
"""Seconds between looks at the record while users wait for verdicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of one verification; see the command's help for what each means."""

    log: Path
    key: Path
    spec: Spec
    profile: Path | None = None
    kept: tuple[Path, ...] = ()
    verifier_key: Path | None = None
    seed_key: Path | None = None
    sample: str = "1"
    by: By = "token"
    selection_key: Path | None = None
    results: Path | None = None
    workers: int = 1
    false_alarms: float = 1e-6
    flagged: float = 0.05
    dangerous: float = 0.01
    fraction: float = 0.1
    expect: tuple[str, ...] = ()
    follow: bool = False
    idle: float | None = None
    every: float = 1.0
    live: Path | None = None
    gate: Path | None = None
    cap_bits_a_day: float | None = None


def record_key(path: Path) -> Verifier:
    """The record's public key from the file that `serve` writes beside its key."""
    try:
        return Verifier.parse(path.read_text(encoding="utf-8").strip())
    except (CheckpointError, ValueError) as error:
        raise ConfigError(
            f"{path} is no record's public key; it is RECORD_KEY.pub beside [record] key_file"
        ) from error


def opener_of(path: Path | None) -> Opener | None:
    """What opens sealed prompts, from a file that `tidegate verify key` made."""
    if path is None:
        return None
    if not path.exists():
        raise ConfigError(f"there is no verifier's key {path}; `tidegate verify key` makes one")
    return Opener(X25519PrivateKey.from_private_bytes(secret_bytes(path)))


def seeds_of(path: Path | None) -> SeedService | None:
    """The outer half's seed key, if the verifier may hold it."""
    if path is None:
        return None
    if not path.exists():
        raise ConfigError(f"there is no seed key {path}; it is the outer half's seed_key_file")
    return SeedService(secret_bytes(path))


def kept_of(paths: tuple[Path, ...], key: Verifier) -> list[Checkpoint]:
    """Checkpoints kept elsewhere. Raises ConfigError for one that is not of this record's key."""
    try:
        return [key.open(path.read_text(encoding="utf-8")) for path in paths]
    except (CheckpointError, UnicodeDecodeError) as error:
        raise ConfigError(f"a kept checkpoint is not of this record: {error}") from error


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
    profile = None if asked.profile is None else NoiseProfile.decode(asked.profile.read_bytes())
    with ExitStack() as stack:
        progress = stack.enter_context(bars())
        folder_of(asked.spec, progress)  # fetched here once, not by every worker
        open_tokenizer(asked.spec)
        progress("opening the model", 0, 1)
        pool = stack.enter_context(Pool(asked.spec, workers=asked.workers))
        progress("opening the model", 1, 1)
        model = pool.model
        point = None if model.exact else _point(profile, model, asked)
        watched = None if point is None or profile is None else alarm_point(profile, point.rank)
        rule = _rule(point, watched, profile, model.vocab_size)
        pool.begin(rule)
        secret = secret_of(asked, policy)
        choice = Choice(origin=key.name, policy=policy, secret=secret)
        results = None
        if asked.results is not None:
            subject = Subject(
                version=VERSION,
                record=key.encode(),
                model=model.model,
                tokenizer=model.tokenizer,
                rule=rule,
                rate=str(policy.rate),
                by=policy.by,
                commitment=commitment(epoch_key(secret, 0), key.name, 0).hex(),
                secret="" if asked.selection_key is not None else secret.hex(),
            )
            results = Results(asked.results, subject)
            stack.callback(results.close)
        null = None if watched is None else Null.of(watched)
        tally = Tally(null, None if null is None else Monitor(false_alarms=asked.false_alarms))
        reader = Reader(
            FileSource(asked.log), key, kept=kept, expected=_expected(asked, model, profile)
        )
        gate = None if asked.gate is None else stack.enter_context(listening(asked.gate))
        run = Run(
            reader,
            pool,
            tally,
            choice,
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
                    rate=str(policy.rate),
                    by=policy.by,
                    keys=choice.revealed(
                        reader.summary(),
                        spent=asked.selection_key is None and asked.results is None,
                    ),
                    profile="" if profile is None or model.exact else profile.provenance.command,
                ),
                policy,
                version=__version__,
                vocab_size=model.vocab_size,
                point=point,
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


def policy_of(sample: str, by: By) -> Policy:
    """A rate such as 0.1 or 1/20. Raises ConfigError."""
    try:
        return Policy(Fraction(sample), by)
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"--sample {sample!r} is no share; write 0.1 or 1/20") from error


def secret_of(asked: Asked, policy: Policy) -> bytes:
    """What epochs' keys derive from: the key file, the results file, or fresh.

    Raises ConfigError where the results were drawn with a key file that is not given again.
    """
    if asked.selection_key is not None:
        return secret_bytes(asked.selection_key)
    stored = None if asked.results is None else stored_subject(asked.results)
    if stored is not None and not stored.secret:
        raise ConfigError(
            f"{asked.results} was drawn with a selection key: give the same --selection-key again"
        )
    if stored is not None:
        return bytes.fromhex(stored.secret)
    return bytes(32) if policy.rate == 1 else secrets.token_bytes(32)


def _point(profile: NoiseProfile | None, model: Ready, asked: Asked) -> Point | None:
    if profile is None:
        return None
    if profile.verifier.model != model.model:
        raise ConfigError(
            "the profile was measured with another verifier's model; measure one for this stack "
            "with `tidegate verify profile`"
        )
    return operating_point(profile, flagged=asked.flagged, dangerous=asked.dangerous)


def _rule(
    point: Point | None, watched: Point | None, profile: NoiseProfile | None, vocab_size: int
) -> Rule:
    if point is None or watched is None or profile is None:
        return Rule()
    tolerance: Tolerance = tolerance_of(point, vocab_size)
    return Rule(
        margin=point.margin,
        rank=point.rank,
        alarm_margin=watched.margin,
        suspicious=tolerance.suspicious,
        dangerous=tolerance.dangerous,
        sigma=profile.sigma or Rule().sigma,
    )


def _expected(asked: Asked, model: Ready, profile: NoiseProfile | None) -> Expected:
    # A float model's fingerprint names its type too, so what serves may have another one.
    served = {model.model if profile is None or model.exact else profile.served.model}
    return Expected(
        models=frozenset(served | set(asked.expect)),
        tokenizers=frozenset({model.tokenizer}),
        templates=frozenset({model.template}),
    )


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
