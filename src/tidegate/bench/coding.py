"""How many bits a token costs on the link, beside what else one could do with the same weak model.

The strong model answers real prompts at several temperatures, 32 streams at a time. Its tokens are
put into the product's upload coder, framed, and decoded by the outer side's decoder, which replays
every frame. The same weak logits price the same tokens under plain arithmetic coding at its best
fixed temperature: chosen in hindsight and at the ideal length, both in that peer's favour.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tidegate.bench.prompts import Prompt
from tidegate.coding.candidates import Candidates, candidates
from tidegate.coding.upload import UploadDecoder, UploadEncoder
from tidegate.errors import LinkError
from tidegate.models.port import F32Array, Model, Tokenizer
from tidegate.sampling.gumbel import Noise
from tidegate.sampling.params import SamplingParams
from tidegate.sampling.seed import SeedService

STREAMS = 32
FRAME = 64
SHARPNESS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7)
"""Inverse temperatures the plain peer may choose from, on top of the sampling temperature."""

F64Array = NDArray[np.float64]
Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Tally:
    """Sums over the tokens of one weak model at one temperature; bits unless named otherwise."""

    tokens: int = 0
    exact: int = 0
    refused_frames: int = 0
    coupled: float = 0.0
    frames: int = 0
    kl: float = 0.0
    entropy: float = 0.0
    plain_S: F64Array = field(default_factory=lambda: np.zeros(len(SHARPNESS)))
    agreed: int = 0
    timed_tokens: int = 0
    weak_seconds: float = 0.0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0

    def plain(self) -> float:
        """Bits of the plain peer at its best fixed temperature."""
        return float(self.plain_S.min())


@dataclass(slots=True)
class _Stream:
    """One answer being written."""

    number: int
    pending: list[int]
    seed: bytes
    length: int = 0


@dataclass(slots=True)
class _Expected:
    """A symbol on its way to the outer side, and the truth it is held against."""

    step: int
    scores_V: F32Array
    stream: _Stream
    position: int
    token: int
    ranking: Candidates | None = None


class _Link:
    """Both ends of one link: one weak model, one temperature."""

    def __init__(self, model: Model, vocab_size: int, temperature: float) -> None:
        self.model = model
        self.tally = Tally()
        self._temperature = temperature
        self._encoder = UploadEncoder(vocab_size)
        self._decoder = UploadDecoder(vocab_size)
        self._expected: deque[_Expected] = deque()
        self._step = 0

    def carry(
        self, weak_NV: F32Array, active: Sequence[_Stream], tokens: Sequence[int], timed: bool
    ) -> None:
        """Send one token of each stream and decode what has become certain."""
        start = time.perf_counter()
        scores_NV = scaled(weak_NV, self._temperature)
        for scores_V, stream, token in zip(scores_NV, active, tokens, strict=True):
            ranking = candidates(scores_V, self._temperature, stream.seed, stream.length)
            self.tally.coupled += self._encoder.put_token(ranking, token) / 65536
            self.tally.agreed += len(ranking.ids) > 0 and int(ranking.ids[0]) == token
        frames = self._full_frames()
        encoded = time.perf_counter()
        scores_NV = scaled(weak_NV, self._temperature)
        self._expected.extend(
            _Expected(self._step, scores_V, stream, stream.length, token)
            for scores_V, stream, token in zip(scores_NV, active, tokens, strict=True)
        )
        self._receive(frames)
        if timed:
            self.tally.timed_tokens += len(active)
            self.tally.encode_seconds += encoded - start
            self.tally.decode_seconds += time.perf_counter() - encoded
        self.tally.tokens += len(active)
        self._step += 1

    def close(self) -> None:
        """Pull until everything sent has been decoded."""
        self._step -= 1
        while self._expected:
            before = len(self._expected)
            self._receive([self._encoder.take_frame(FRAME)])
            if len(self._expected) == before and not self._encoder.settled_bytes():
                return

    def _full_frames(self) -> list[bytes]:
        frames = []
        while self._encoder.settled_bytes() >= FRAME:
            frames.append(self._encoder.take_frame(FRAME))
        return frames

    def _receive(self, frames: Sequence[bytes]) -> None:
        self.tally.frames += len(frames)
        for frame in frames:
            self._decoder.pull(self._step, FRAME)
            try:
                self._decoder.receive(frame)
            except LinkError:
                self.tally.refused_frames += 1
        while self._expected:
            next_ = self._expected[0]
            if next_.ranking is None:
                next_.ranking = candidates(
                    next_.scores_V, self._temperature, next_.stream.seed, next_.position
                )
            token = self._decoder.get_token(next_.ranking)
            if token is None:
                return
            self.tally.exact += token == next_.token
            self._expected.popleft()
            if not self._expected or self._expected[0].step != next_.step:
                try:
                    self._decoder.end_step(next_.step)
                except LinkError:
                    self.tally.refused_frames += 1


def run(
    strong: Model,
    weak: Mapping[str, Model],
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    *,
    temperatures: Sequence[float],
    max_tokens: int,
    key: bytes,
    progress: Progress,
) -> dict[tuple[str, float], Tally]:
    """Answer all prompts at all temperatures; tallies by (weak model's name, temperature).

    Prompts are prefilled once for each group of 32 and forked to the temperatures.
    """
    links = {
        (name, temperature): _Link(model, strong.vocab_size, temperature)
        for name, model in weak.items()
        for temperature in temperatures
    }
    seeds = SeedService(key)
    models = (strong, *weak.values())
    for start in range(0, len(prompts), STREAMS):
        group = prompts[start : start + STREAMS]
        chats = [tokenizer.chat([{"role": "user", "content": p.prompt}]) for p in group]
        for number, chat in enumerate(chats):
            for model in models:
                if len(chat) > 1:
                    model.forward([(number, chat[:-1])])
        for index, temperature in enumerate(temperatures):
            first = (index + 1) * STREAMS
            streams = []
            for number, (prompt, chat) in enumerate(zip(group, chats, strict=True)):
                for model in models:
                    model.fork(number, first + number)
                seed = _seed(seeds, prompt, chat, temperature)
                streams.append(_Stream(first + number, chat[-1:], seed))
            here = [link for (_, t), link in links.items() if t == temperature]
            for steps in _answer(strong, here, streams, temperature, max_tokens):
                done = (start * len(temperatures) + index * len(group)) * max_tokens
                whole = len(prompts) * len(temperatures) * max_tokens
                progress(f"T = {temperature:g}", done + steps * len(group), whole)
        for number in range(len(group)):
            for model in models:
                model.drop(number)
    for link in links.values():
        link.close()
    return {key_: link.tally for key_, link in links.items()}


def scaled(logits_NV: F32Array, temperature: float) -> F32Array:
    """Logits over temperature; at 0 as they are."""
    if temperature in (0, 1):
        return logits_NV
    return np.divide(logits_NV, np.float32(temperature), dtype=np.float32)


def _seed(seeds: SeedService, prompt: Prompt, chat: Sequence[int], temperature: float) -> bytes:
    return seeds.derive(
        request_id=prompt.id,
        prompt_hash=np.asarray(chat, np.int32).tobytes(),
        params=SamplingParams(temperature=temperature),
        attempt=0,
        user_seed=None,
        choice=0,
    )


def _answer(
    strong: Model,
    links: Sequence[_Link],
    streams: list[_Stream],
    temperature: float,
    max_tokens: int,
) -> Iterator[int]:
    """Decode all streams to their end together; yields the number of steps done."""
    active, steps = list(streams), 0
    while active:
        batch = [(stream.number, stream.pending) for stream in active]
        scores_NV = scaled(strong.forward(batch), temperature)
        tokens = [
            _noise(stream, temperature, len(scores_V)).sample(scores_V)
            for stream, scores_V in zip(active, scores_NV, strict=True)
        ]
        pricing = _Pricing(scores_NV, tokens, temperature)
        full = len(active) == STREAMS
        for link in links:
            start = time.perf_counter()
            weak_NV = np.ascontiguousarray(link.model.forward(batch)[:, : strong.vocab_size])
            if full:
                link.tally.weak_seconds += time.perf_counter() - start
            link.carry(weak_NV, active, tokens, timed=full)
            pricing.add(link.tally, weak_NV)
        for stream, token in zip(active, tokens, strict=True):
            stream.pending = [token]
            stream.length += 1
        for stream in list(active):
            if stream.pending[0] in strong.eos_ids or stream.length == max_tokens:
                for model in (strong, *(link.model for link in links)):
                    model.drop(stream.number)
                active.remove(stream)
        steps += 1
        yield steps


def _noise(stream: _Stream, temperature: float, vocab_size: int) -> Noise:
    if temperature == 0:
        return Noise(vocab_size)
    return Noise(vocab_size, stream.seed, stream.length)


class _Pricing:
    """What the same tokens cost in theory and under the plain peer."""

    def __init__(self, scores_NV: F32Array, tokens: Sequence[int], temperature: float) -> None:
        self._log_p_NV = scores_NV - _log_sum_exp(scores_NV)[:, None]
        self._p_NV = np.exp(self._log_p_NV)
        self._tokens = np.asarray(tokens)
        self._temperature = temperature

    def add(self, tally: Tally, weak_NV: F32Array) -> None:
        """Add this step's entropy, KL and plain code lengths to a tally."""
        scores_NV = scaled(weak_NV, self._temperature)
        chosen_N = scores_NV[np.arange(len(self._tokens)), self._tokens]
        for s, sharpness in enumerate(SHARPNESS):
            log_q_N = sharpness * chosen_N - _log_sum_exp(np.float32(sharpness) * scores_NV)
            tally.plain_S[s] += float(-log_q_N.sum(dtype=np.float64) / math.log(2))
        if self._temperature == 0:
            return  # one token has no divergence that bounds anything
        log_q_NV = scores_NV - _log_sum_exp(scores_NV)[:, None]
        tally.entropy -= float(np.vdot(self._p_NV, self._log_p_NV)) / math.log(2)
        tally.kl += float(np.vdot(self._p_NV, self._log_p_NV - log_q_NV)) / math.log(2)


def _log_sum_exp(scores_NV: F32Array) -> F32Array:
    top_N = scores_NV.max(axis=1)
    total_N = np.exp(scores_NV - top_N[:, None]).sum(axis=1, dtype=np.float64)
    result: F32Array = (top_N + np.log(total_N)).astype(np.float32)
    return result
