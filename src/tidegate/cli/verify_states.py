"""`tidegate verify states`: do two engines compute the same, by their hidden states?"""

from __future__ import annotations

import dataclasses
import json
import secrets
import sys
from itertools import islice
from typing import Annotated

import typer
from rich.console import Console

from tidegate.cli.progress import bars
from tidegate.cli.verify import Dtype, Key, Log, Sealed, Tokens, spec_of
from tidegate.cli.verify_asked import opener_of, record_key
from tidegate.errors import ConfigError
from tidegate.models.port import F32Array
from tidegate.models.replay_port import States
from tidegate.verify.record_reader import Expected, Reader
from tidegate.verify.record_store_files import FileSource
from tidegate.verify.replay_answer import Task
from tidegate.verify.replay_model import open_states, open_tokenizer
from tidegate.verify.replay_profile import recorded_tasks
from tidegate.verify.scores_fingerprint import Projection, compare

_SEED_BYTES = 32


def states(
    log: Log,
    key: Key,
    model: Annotated[str, typer.Option(help="Your own: transformers:NAME or vllm:NAME@URL.")],
    served: Annotated[str, typer.Option(help="The engine in question: vllm:NAME@URL.")],
    size: Annotated[int, typer.Option(min=1, help="Numbers in a fingerprint.")] = 32,
    most: Annotated[
        float, typer.Option(help="Relative distance of the 99th percentile that passes.")
    ] = 0.05,
    answers: Annotated[int, typer.Option(min=1, help="Recorded answers to compare over.")] = 16,
    verifier_key: Sealed = None,
    expect: Annotated[
        list[str] | None, typer.Option(help="Fingerprint of the model that the record names.")
    ] = None,
    dtype: Dtype = "bfloat16",
    tokenizer: Tokens = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Compare two engines' hidden states over recorded answers, by random projections.

    Other weights, quantisation or a missing adapter show within a few tokens. Nothing crosses the
    link: both engines are reached from here. Exits 0: alike, 1: apart, 2: could not run.
    """
    own_spec = spec_of(model, dtype, tokenizer, None, None)
    with bars() as progress:
        words = open_tokenizer(own_spec, progress)
        own = open_states(own_spec, progress)
        other = open_states(spec_of(served, dtype, tokenizer, None, None), progress)
        expected = Expected(
            models=frozenset(expect or ()) or None,
            tokenizers=frozenset({words.fingerprint}),
            templates=frozenset({words.template_hash}),
        )
        reader = Reader(FileSource(log), record_key(key), expected=expected)
        tasks = recorded_tasks(reader, own.vocab_size, opener_of(verifier_key))
        pairs = [_pair(task, own, other) for task, _ in islice(tasks, answers)]
    if not pairs:
        raise ConfigError(f"{log} holds no answer to compare over")
    # Fresh, so that nobody could have trained a model to look alike along it.
    projection = Projection.of(secrets.token_bytes(_SEED_BYTES), pairs[0][0].shape[1], size)
    apart = compare(projection, pairs)
    alike = apart.p99 <= most
    if as_json:
        typer.echo(json.dumps({"alike": alike, "most_allowed": most, **dataclasses.asdict(apart)}))
    else:
        verdict = "[green]alike[/]" if alike else "[red]apart[/]"
        Console(file=sys.stdout).print(
            f"{verdict}: over {apart.tokens} tokens of {apart.answers} answers the states lie "
            f"{apart.median:.2g} apart (median), {apart.p99:.2g} (99th percentile), "
            f"{apart.most:.2g} (most)",
            soft_wrap=True,
            highlight=False,
        )
    raise typer.Exit(0 if alike else 1)


def _pair(task: Task, own: States, other: States) -> tuple[F32Array, F32Array]:
    """The other engine's states and one's own, of the rows that an answer was drawn from."""
    tokens = (*task.prompt, *task.tokens[:-1])
    start = len(task.prompt) - 1
    return other.hidden_states(tokens)[start:], own.hidden_states(tokens)[start:]
