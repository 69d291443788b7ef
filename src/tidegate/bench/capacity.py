"""Processor time a token takes at each stage, for planning: `tidegate plan capacity` reads it.

Processor time, not time on the wall, so that a machine that is busy with other work says nearly the
same. `kernels` runs sampling and both ends of coding on logits of real models after real prompts.
`halves` asks a real outer half over HTTP and reads what its process has used from the system; two
lengths of answers tell what an answer costs from what a token costs.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tidegate.bench.coding import scaled
from tidegate.bench.figures import Figure, report
from tidegate.bench.prompts import Prompt
from tidegate.clock import SystemClock
from tidegate.coding.candidates import Candidates, candidates
from tidegate.coding.upload import UploadDecoder, UploadEncoder
from tidegate.errors import TidegateError
from tidegate.ledger import Budget, Budgets, Commit, Ledger, Reserve, SqliteStore, edge_between
from tidegate.models.port import F32Array, Model, Tokenizer
from tidegate.sampling.filters import mask_scores
from tidegate.sampling.gumbel import Noise
from tidegate.sampling.params import SamplingParams
from tidegate.units import Bits

PARAMS = SamplingParams(temperature=0.7, top_p=0.95)
FRAME = 64
_MICRO = 1e6
_EDGE = edge_between("inner", "outside")


@dataclass(frozen=True, slots=True)
class Rows:
    """What both models say of the same places: logits_NV each, a step of all streams after another.

    `weak_seconds`: processor time that the weak model took for them.
    """

    strong_NV: F32Array
    weak_NV: F32Array
    weak_seconds: float


@dataclass(frozen=True, slots=True)
class Used:
    """What a pass over HTTP took: answers, tokens, and the processes' growth."""

    answers: int
    tokens: int
    outer_s: float
    inner_main_s: float
    record_bytes: float
    link_bits: float


def rows_of(
    strong: Model, weak: Model, tokenizer: Tokenizer, prompts: Sequence[Prompt], steps: int
) -> Rows:
    """Logits of both after each of `steps` tokens that the strong one says to every prompt."""
    chats = [tokenizer.chat([{"role": "user", "content": prompt.prompt}]) for prompt in prompts]
    waiting = [(number, list(chat)) for number, chat in enumerate(chats)]
    said: list[F32Array] = []
    guessed: list[F32Array] = []
    spent = 0.0
    for step in range(steps):
        strong_NV = np.ascontiguousarray(strong.forward(waiting)[:, : strong.vocab_size])
        begun = time.process_time()
        weak_NV = np.ascontiguousarray(weak.forward(waiting)[:, : strong.vocab_size])
        # The first step reads the prompts.
        spent += time.process_time() - begun if step else 0.0
        said.append(strong_NV)
        guessed.append(weak_NV)
        scores_NV = scaled(strong_NV, PARAMS.temperature)
        waiting = [(n, [_pick(scores_V, n, step)]) for n, scores_V in enumerate(scores_NV)]
    return Rows(np.concatenate(said), np.concatenate(guessed), spent / (len(chats) * (steps - 1)))


def kernels(rows: Rows, vocabulary: str) -> dict[str, Figure]:
    """Microseconds of one core for a token: sampled, coded, decoded and replayed.

    Raises TidegateError where the outer end decodes anything but what was coded.
    """
    count, size = rows.strong_NV.shape
    scores_NV = scaled(rows.strong_NV, PARAMS.temperature)
    begun = time.thread_time()
    tokens = [_pick(scores_V, n, 0) for n, scores_V in enumerate(scores_NV)]
    picked = time.thread_time() - begun
    encoded, decoded = _coded(scaled(rows.weak_NV, PARAMS.temperature), tokens)
    how = f"processor time of one thread on {count} rows of real logits, V = {size:,}"
    return {
        f"{stage}_{vocabulary}_us": report(
            spent / count * _MICRO, unit="core·µs/token", n=count, how=f"{told}: {how}"
        )
        for stage, spent, told in (
            ("pick", picked, "filters, noise and choice"),
            ("encode", encoded, "candidates and coding inside"),
            ("decode", decoded, "candidates, decoding and replay outside"),
        )
    }


def _coded(scores_NV: F32Array, tokens: Sequence[int]) -> tuple[float, float]:
    """Seconds that all of coding took inside and outside, a step for each row."""
    encoder, decoder = UploadEncoder(scores_NV.shape[1]), UploadDecoder(scores_NV.shape[1])
    waiting: deque[tuple[int, Candidates]] = deque()
    spent = [0.0, 0.0]

    def ranked(n: int) -> Candidates:
        return candidates(scores_NV[n], PARAMS.temperature, _seed(n), 0)

    def take(frame: bytes, step: int) -> None:
        decoder.pull(step, FRAME)
        decoder.receive(frame)
        while waiting and (token := decoder.get_token(waiting[0][1])) is not None:
            n, _ = waiting.popleft()
            if token != tokens[n]:
                raise TidegateError("the outer end decoded another token than was coded")
            decoder.end_step(n)

    for n, token in enumerate(tokens):
        begun = time.thread_time()
        encoder.put_token(ranked(n), token)
        frames = []
        while encoder.settled_bytes() >= FRAME:
            frames.append(encoder.take_frame(FRAME))
        between = time.thread_time()
        waiting.append((n, ranked(n)))
        for frame in frames:
            take(frame, n)
        spent[0] += between - begun
        spent[1] += time.thread_time() - between
    while waiting:
        take(encoder.take_frame(FRAME), len(tokens) - 1)
    return spent[0], spent[1]


def weak_figure(rows: Rows) -> Figure:
    """What the packaged n-gram takes at each end."""
    return report(
        rows.weak_seconds * _MICRO,
        unit="core·µs/token",
        n=len(rows.weak_NV),
        how="processor time of the n-gram's forward pass, a batch of real streams",
    )


def halves(short: Used, long: Used) -> dict[str, Figure]:
    """Costs of an answer and of a token, from two passes over the same prompts."""

    def parted(of: Callable[[Used], float]) -> tuple[float, float]:
        token = (of(long) - of(short)) / (long.tokens - short.tokens)
        return (of(short) - token * short.tokens) / short.answers, token

    answer, token = parted(lambda used: used.outer_s)
    tokens, how = long.tokens, "a real outer half over HTTP, SmolLM2 and the n-gram"
    return {
        "outer_answer_us": report(
            answer * _MICRO, unit="core·µs/answer", n=long.answers, how=f"processor time: {how}"
        ),
        "outer_token_us": report(
            token * _MICRO,
            unit="core·µs/token",
            n=tokens,
            how=f"processor time, weak model, decoding and record included: {how}",
        ),
        "inner_link_us": report(
            long.inner_main_s / tokens * _MICRO,
            unit="core·µs/token",
            n=tokens,
            how="the inner half's main thread: link, frames, its ledger; not the engine's thread",
        ),
        "record_token_bytes": report(
            parted(lambda used: used.record_bytes)[1],
            unit="bytes/token",
            n=tokens,
            how="the record on disk",
        ),
        "record_answer_bytes": report(
            parted(lambda used: used.record_bytes)[0],
            unit="bytes/answer",
            n=long.answers,
            how="the record on disk, prompt of the packaged length included",
        ),
        "link_bits": report(
            long.link_bits / tokens, unit="bits/token", n=tokens, how=f"charged, padding too: {how}"
        ),
    }


def processor_seconds(pid: int, *, main_thread: bool = False) -> float:
    """What a process, or its main thread alone, has used so far."""
    path = Path(f"/proc/{pid}/task/{pid}/stat" if main_thread else f"/proc/{pid}/stat")
    fields = path.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ledger_figure(folder: Path) -> Figure:
    """What a row of a ledger takes on disk, index and all."""
    path, rounds = folder / "ledger.sqlite", 2_000
    budgets = Budgets(name="bench", total=Budget(), edges=((_EDGE, Budget()),), principal=Budget())
    with closing(SqliteStore(path)) as store:
        ledger = Ledger(store, budgets, SystemClock())
        for _ in range(0, rounds, 100):
            first = store.tip().size
            ledger.record(*(Reserve("somebody", _EDGE, Bits(1 << 16)) for _ in range(100)))
            ledger.record(*(Commit(first + n, Bits(1 << 16)) for n in range(100)))
        rows = store.tip().size
    return report(
        path.stat().st_size / rows,
        unit="bytes/row",
        n=rows,
        how="leases taken and settled on a SQLite ledger, its file over its rows",
    )


def _pick(scores_V: F32Array, stream: int, position: int) -> int:
    masked_V = mask_scores(scores_V, PARAMS)
    return Noise(len(masked_V), _seed(stream), position).sample(masked_V)


def _seed(stream: int) -> bytes:
    return stream.to_bytes(16, "big")
