"""What a verification rests on: its options, the keys they name, the selection and the rule."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tidegate.cli.ground import secret_bytes
from tidegate.errors import ConfigError
from tidegate.sampling.seed import SeedService
from tidegate.transparency.errors import CheckpointError
from tidegate.transparency.note import Checkpoint, Verifier
from tidegate.verify.bounds import Tolerance
from tidegate.verify.calibrate import NoiseProfile, Point, alarm_point, operating_point
from tidegate.verify.record_reader import Expected
from tidegate.verify.record_seal import Opener
from tidegate.verify.record_store import Source
from tidegate.verify.replay_answer import Rule
from tidegate.verify.replay_model import Spec
from tidegate.verify.replay_results import VERSION, Subject, stored_subject
from tidegate.verify.replay_run import Choice
from tidegate.verify.replay_worker import Ready
from tidegate.verify.report import tolerance_of
from tidegate.verify.selection import By, Policy, commitment, epoch_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of one verification; see the command's help for what each means."""

    log: Path
    source: Source | None = None
    """Where the record is read from, if not from the folder `log`."""
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


def point_of(profile: NoiseProfile | None, model: Ready, asked: Asked) -> Point | None:
    """The operating point that the profile carries. Raises ConfigError for another stack's."""
    if profile is None:
        return None
    if profile.verifier.model != model.model:
        raise ConfigError(
            "the profile was measured with another verifier's model; measure one for this stack "
            "with `tidegate verify profile`"
        )
    return operating_point(profile, flagged=asked.flagged, dangerous=asked.dangerous)


def rule_of(
    point: Point | None, watched: Point | None, profile: NoiseProfile | None, vocab_size: int
) -> Rule:
    """How tokens are judged: by equality where there is no profile."""
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


def expected_of(asked: Asked, model: Ready, profile: NoiseProfile | None) -> Expected:
    """What may have answered."""
    # A float model's fingerprint names its type too, so what serves may have another one.
    served = {model.model if profile is None or model.exact else profile.served.model}
    return Expected(
        models=frozenset(served | set(asked.expect)),
        tokenizers=frozenset({model.tokenizer}),
        templates=frozenset({model.template}),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """By what answers are drawn and judged, and what results of that are results of."""

    choice: Choice
    profile: NoiseProfile | None
    point: Point | None
    watched: Point | None
    rule: Rule
    subject: Subject
    expected: Expected


def terms_of(asked: Asked, key: Verifier, model: Ready) -> Terms:
    """The terms that the options give for this model. Raises ConfigError."""
    policy = policy_of(asked.sample, asked.by)
    profile = None if asked.profile is None else NoiseProfile.decode(asked.profile.read_bytes())
    point = None if model.exact else point_of(profile, model, asked)
    watched = None if point is None or profile is None else alarm_point(profile, point.rank)
    rule = rule_of(point, watched, profile, model.vocab_size)
    secret = secret_of(asked, policy)
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
    return Terms(
        choice=Choice(origin=key.name, policy=policy, secret=secret),
        profile=profile,
        point=point,
        watched=watched,
        rule=rule,
        subject=subject,
        expected=expected_of(asked, model, profile),
    )
