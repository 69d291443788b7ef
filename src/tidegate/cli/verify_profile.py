"""`tidegate verify profile`: a noise profile from a record that an honest stack served."""

from __future__ import annotations

import hashlib
import shlex
import sys
from pathlib import Path

from tidegate import __version__
from tidegate.cli.progress import bars
from tidegate.cli.verify_asked import opener_of, record_key
from tidegate.clock import SystemClock
from tidegate.errors import ConfigError
from tidegate.verify import calibrate
from tidegate.verify.calibrate import HonestAnswer, NoiseProfile, Provenance
from tidegate.verify.record_reader import Expected, Reader
from tidegate.verify.record_store_files import FileSource
from tidegate.verify.replay_model import Spec, open_replay, open_tokenizer
from tidegate.verify.replay_profile import MARGINS, RANKS, honest_answers

_SEED = b"tidegate verify profile"
"""Splits answers into halves by a hash of what they say; nobody chooses which is which."""


def measure(
    log: Path,
    key: Path,
    spec: Spec,
    *,
    verifier_key: Path | None,
    expect: tuple[str, ...],
    batch: str,
    hardware: str,
    prompts: str,
) -> NoiseProfile:
    """The profile. Raises ConfigError where the record is not sound or of several stacks, and
    SampleTooSmallError where it is too short."""
    verifier = record_key(key)
    with bars() as progress:
        tokenizer, replay = open_tokenizer(spec, progress), open_replay(spec, progress)
        models = frozenset({*expect, replay.fingerprint})
        expected = Expected(
            models=models,
            tokenizers=frozenset({tokenizer.fingerprint}),
            templates=frozenset({tokenizer.template_hash}),
        )
        reader = Reader(FileSource(log), verifier, expected=expected)
        answers: list[HonestAnswer] = []
        stacks, sampled = set(), set()
        for answer, stack, params in honest_answers(reader, replay, opener_of(verifier_key)):
            answers.append(answer)
            stacks.add(stack)
            sampled.add(f"T={params.temperature:g} p={params.top_p:g} k={params.top_k}")
            progress("scoring honest answers", len(answers), len(answers))
    if len(stacks) != 1:
        raise ConfigError(
            f"{len(stacks)} stacks answered in this record; a profile is of one, so record one"
        )
    served, info = stacks.pop(), replay.describe()
    digest = hashlib.sha256("".join(sorted(answer.sequence for answer in answers)).encode())
    return calibrate.measure(
        answers,
        margins=MARGINS,
        ranks=RANKS,
        served=calibrate.Stack(
            model=served.model,
            engine=served.engine,
            dtype=served.numerics,
            batch=batch,
            hardware=hardware,
            numerics=served.numerics,
        ),
        verifier=calibrate.Stack(
            model=replay.fingerprint,
            engine=spec.engine,
            dtype=spec.dtype,
            batch="one answer, one pass",
            hardware="where it was measured",
            numerics=info.numerics,
        ),
        sampling=", ".join(sorted(sampled)),
        vocab_size=replay.vocab_size,
        provenance=Provenance(
            command=shlex.join(["tidegate", *sys.argv[1:]]),
            version=__version__,
            prompts=f"{prompts} (answers {digest.hexdigest()[:16]})",
            made=SystemClock().now(),
            split_seed=_SEED.hex(),
        ),
        seed=_SEED,
    )
