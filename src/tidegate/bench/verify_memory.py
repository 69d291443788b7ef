"""Memory of `tidegate verify` against the length of the record, and going on after being killed.

A model small enough to serve a million tokens in a minute answers into a real record, which the
command then verifies in a process of its own: every answer is re-executed, and every one equal.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tokenizers import Tokenizer as Backend
from tokenizers import models as backends

from tidegate.bench import peak_memory
from tidegate.bench.figures import Figure, at_most, report
from tidegate.bench.verify_answers import Job, generate
from tidegate.bench.verify_work import Answer
from tidegate.clock import ManualClock
from tidegate.errors import RecordError
from tidegate.models import tokenizer
from tidegate.models.cache import Progress
from tidegate.models.exact import format as folders
from tidegate.models.exact.load import load
from tidegate.models.exact.model import ExactModel
from tidegate.models.exact.parameters import expected
from tidegate.models.exact.seeded import tensors_of
from tidegate.models.exact.shape import Shape
from tidegate.models.tokenizer import FileTokenizer
from tidegate.record.entries import Does, End, Prefill, Reason, Stack, Tokens
from tidegate.record.private import Clear
from tidegate.sampling.finish import Limits
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService, sub_seed
from tidegate.serve import jobs
from tidegate.serve.outer.recorder import beginning
from tidegate.transparency.note import Signer
from tidegate.verify.record_lines import NoteLine, parse_line, pieces
from tidegate.verify.record_store_files import FileSource, FileStore
from tidegate.verify.record_writer import Writer

LENGTHS: Final = (100_000, 1_000_000)
"""Tokens in the short record and in the long one."""

GROWTH: Final = 1.05
"""Of the peak, from one to the other; ten times the record is allowed a twentieth more."""

SMALL: Final = Shape(
    family="qwen2",
    vocab_size=96,
    width=32,
    layers=1,
    heads=4,
    kv_heads=2,
    head_size=8,
    ffn_size=32,
    context_length=512,
    eps=1e-5,
    rope_theta=10_000.0,
    qkv_bias=True,
    tied=False,
)
ANSWER: Final = 250
CHUNK: Final = 10
STREAMS: Final = 64
PARAMS: Final = SamplingParams(temperature=1.0)
SEEDS: Final = SeedService(b"tidegate bench verify: in public")
SIGNER: Final = Signer("bench.example/record", Ed25519PrivateKey.from_private_bytes(bytes(32)))


class Told(msgspec.Struct, frozen=True):
    """What is read of the command's report."""

    responses: int
    scored_tokens: int
    mismatches: int
    selected_responses: int
    replayed: int


class Verified(NamedTuple):
    """The command's report, its peak resident bytes without its workers, and its exit status."""

    told: Told
    peak: int
    status: int


def measure(progress: Progress, lengths: tuple[int, int] = LENGTHS) -> dict[str, Figure]:
    """Figures of a short and a long record. Raises RecordError where the command fails."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_model(folder / "model")
        found = []
        for done, tokens in enumerate(lengths):
            log = folder / f"record-{tokens}"
            write_record(log, folder / "model", tokens, progress)
            progress("verify a record", done, len(lengths) + 2)
            found.append(verify(folder, log))
        differing = _resumed(folder, log, folder / "results")
        progress("verify a record", len(lengths) + 2, len(lengths) + 2)
    short, long = found
    if any(one.status or one.told.mismatches for one in found):
        raise RecordError("an honest record did not verify", status=long.status)
    grown = (long.peak - short.peak) / (lengths[1] - lengths[0])
    return {
        "record_memory_short": report(
            short.peak,
            unit="bytes",
            n=short.told.scored_tokens,
            how="peak resident memory of `tidegate verify`, interpreter included, its workers not",
        ),
        "record_memory_long": report(
            long.peak,
            unit="bytes",
            n=long.told.scored_tokens,
            how=f"the same for {long.told.responses} answers, all re-executed",
        ),
        "record_memory_growth": at_most(
            long.peak / short.peak,
            GROWTH,
            unit="ratio",
            n=2,
            how=f"the long record's over the short one's, {lengths[1] / lengths[0]:.0f} times as "
            f"many tokens; {grown:.2f} bytes a token more",
        ),
        "resumed_answers_differ": at_most(
            differing,
            0,
            unit="answers",
            n=long.told.responses,
            how="a tenth sampled, results cut in the middle of a line, run again: answers not "
            "re-executed exactly once, beside those of a run at one go",
        ),
    }


def write_model(folder: Path) -> None:
    """A converted model with a tokenizer of its own."""
    words = {f"w{n}": n for n in range(SMALL.vocab_size)}
    backend = Backend(backends.WordLevel(words, unk_token="w0"))  # noqa: S106
    drawn = tensors_of(SMALL, "verify bench", wide_embedding=True)
    folders.write(
        folder,
        SMALL,
        [(name, drawn[name]) for name in expected(SMALL)],
        name="small",
        licence="none",
        provenance="seeded",
        source_sha256="",
        made_with="",
        settings={},
        files={"tokenizer.json": backend.to_str().encode()},
    )


def write_record(log: Path, folder: Path, tokens: int, progress: Progress) -> None:
    """A record of `tokens` tokens, or a few more, that the model in `folder` really said."""
    model, words = load(folder, threads=1), tokenizer.load(folder)
    writer = Writer(FileStore(log), SIGNER, ManualClock(), _stack(model, words))
    made = number = 0
    while made < tokens:
        progress("write a record", made, tokens)
        originals = [jobs.seed_of(_asked(number + n), SEEDS) for n in range(STREAMS)]
        todo = [
            Job(
                prompt=str(number + n),
                prompt_ids=_prompt(number + n),
                temperature=PARAMS.temperature,
                seed=sub_seed(seed, "candidate"),
            )
            for n, seed in enumerate(originals)
        ]
        answers = generate(model, todo, batch=STREAMS, tokens=ANSWER * STREAMS, max_tokens=ANSWER)
        _record(writer, {int(one.prompt): one for one in answers}, originals, number)
        made += sum(len(one.output_ids) for one in answers)
        number += STREAMS
    progress("write a record", tokens, tokens)


def verify(folder: Path, log: Path, *options: str) -> Verified:
    """`tidegate verify` on a record, from outside. Raises RecordError where it cannot run."""
    key, kept = folder / "record.pub", folder / "kept"
    key.write_text(SIGNER.verifier.encode())
    kept.write_text(_last_note(log))
    words = ["--key", str(key), "--model", f"exact:{folder / 'model'}", "--kept", str(kept)]
    done = peak_memory.run("verify", "log", str(log), *words, "--threads", "1", "--json", *options)
    try:
        told = msgspec.json.decode(done.output, type=Told)
    except msgspec.DecodeError as error:
        raise RecordError(f"`tidegate verify` failed: {done.errors}") from error
    if done.peak is None:
        raise RecordError(f"`tidegate verify` was killed: {done.errors}")
    return Verified(told, done.peak, done.status)


def _resumed(folder: Path, log: Path, results: Path) -> int:
    """Answers by which a run in two parts differs from one at one go."""
    secret = folder / "selection.key"
    options = ("--sample", "0.1", "--selection-key", str(secret))
    whole = verify(folder, log, *options)
    verify(folder, log, *options, "--resume-file", str(results))
    lines = results.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    results.write_bytes(b"".join(lines[:middle]) + lines[middle][:20])
    again = verify(folder, log, *options, "--resume-file", str(results))
    complete = results.read_bytes().splitlines(keepends=True)
    return abs(again.told.replayed - whole.told.replayed) + sum(
        one != other for one, other in zip(complete, lines, strict=False)
    )


def _record(writer: Writer, answers: dict[int, Answer], seeds: Sequence[bytes], first: int) -> None:
    """All of one round: beginnings, tokens and ends, each kind written together."""
    begun = writer.append(
        beginning(_asked(number, len(answer.output_ids)), seeds[number - first], Clear())
        for number, answer in answers.items()
    )
    does: list[Does] = []
    for response, answer in zip(begun, answers.values(), strict=True):
        if isinstance(response, RecordError):
            raise response
        does += _said(response, answer)
    for done in writer.append(does):
        if isinstance(done, RecordError):
            raise done


def _said(response: int, answer: Answer) -> Iterator[Does]:
    ids = answer.output_ids
    yield Prefill(response, "0" * 32, 0, 0, 0, 0, ())
    for start in range(0, len(ids), CHUNK):
        yield Tokens(response, start, start, ids[start : start + CHUNK])
    yield End(response, Reason.LENGTH, "", len(ids), 0)


def _stack(model: ExactModel, words: FileTokenizer) -> Stack:
    return Stack(
        model=model.fingerprint,
        tokenizer=words.fingerprint,
        template=words.template_hash,
        weak="",
        vocabulary=model.vocab_size,
        engine="exact",
        numerics="exact",
    )


def _prompt(number: int) -> tuple[int, ...]:
    return tuple(1 + (7 * number + 3 * place) % (SMALL.vocab_size - 1) for place in range(8))


def _asked(number: int, max_tokens: int = ANSWER) -> jobs.Job:
    return jobs.Job(
        request_id=f"r{number}",
        choice=0,
        principal="bench",
        prompt_ids=_prompt(number),
        params=PARAMS,
        limits=Limits(max_tokens=max_tokens),
    )


def _last_note(log: Path) -> str:
    """The last checkpoint, as somebody who keeps one has it."""
    source = FileSource(log)
    notes = [
        line.note
        for piece in pieces(source, source.segments()[-1], 0)
        if isinstance(line := parse_line(piece.data), NoteLine)
    ]
    return notes[-1]
