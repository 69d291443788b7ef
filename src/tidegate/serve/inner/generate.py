"""What the strong model says: one symbol a stream a step.

A plain stream has one track and says its token at once. A stream that reasons, or of which several
candidates are drawn, waits while its tracks run in the same batch as everybody else, and then says
the winner's tokens one a step. Everything a track generates is drawn with noise that only the
stream's seed, the candidate's number and the position determine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import structlog

from tidegate.coding.upload import ABORT
from tidegate.errors import ModelError
from tidegate.models.port import F32Array, Model
from tidegate.sampling.filters import PenaltyState, mask_scores, needs_penalties, shift_logits
from tidegate.sampling.finish import Progress, decide
from tidegate.sampling.gumbel import Noise
from tidegate.sampling.seed import sub_seed
from tidegate.serve.inner.reasoning import ReasoningStore, Thinking
from tidegate.serve.lockstep import MODEL_FAILURES, WAIT, Ready, Symbol, Voice, VoiceKey

_log = structlog.get_logger(__name__)

TRACKS: Final = 64
"""Sequence ids of the strong model set aside for each slot."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A finished candidate, as the scorer sees it. `mean_logprob` is natural, per token."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    mean_logprob: float


Scorer = Callable[[Draft], float]
"""The candidate with the highest score leaves; of equal ones the first."""


def by_likelihood(draft: Draft) -> float:
    """The default scorer: mean log-probability under the strong model, before filters."""
    return draft.mean_logprob


class _Track:
    """One sequence of the strong model."""

    def __init__(self, voice: Voice, index: int, pending: tuple[int, ...], thinking: bool) -> None:
        self.voice = voice
        self.sequence = voice.key.slot * TRACKS + index
        self.pending = pending
        self.fed: list[int] = []
        self.begun = False
        self.thinking = thinking
        self.thoughts: list[int] = []
        self.tokens: list[int] = []
        self.progress = Progress()
        self.logprobs = 0.0
        self.done = False
        self.failed = False
        self.seed = sub_seed(voice.join.seed, "candidate", index)
        self._thought_seed = sub_seed(self.seed, "reasoning")
        self.penalties = PenaltyState.of(pending) if needs_penalties(voice.params) else None
        self._noise: Noise | None = None

    def draw(self, logits_V: F32Array) -> int:
        """The next token. Raises EngineError for logits without a finite maximum."""
        scores_V = mask_scores(
            shift_logits(logits_V, self.voice.params, self.penalties), self.voice.params
        )
        if not self.voice.waiting:
            return self.voice.noise().sample(scores_V)
        if self._noise is None:
            self._noise = Noise(logits_V.shape[0])
        if self.voice.params.temperature > 0.0:
            seed = self._thought_seed if self.thinking else self.seed
            self._noise.move(seed, len(self.thoughts if self.thinking else self.tokens))
        return self._noise.sample(scores_V)


class _Source:
    """What one stream draws from."""

    def __init__(self, voice: Voice, tracks: tuple[_Track, ...]) -> None:
        self.voice = voice
        self.tracks = tracks
        self.queue: list[int] | None = None
        """The winner's tokens still to be said, last first, once several tracks have run."""

    def adopt(self, voice: Voice) -> None:
        self.voice = voice
        for track in self.tracks:
            track.voice = voice

    def running(self) -> list[_Track]:
        if self.queue is not None:
            return []
        return [track for track in self.tracks if not (track.done or track.failed)]


class Generator:
    """The strong side of all streams. Not thread-safe."""

    def __init__(
        self,
        strong: Model,
        store: ReasoningStore,
        *,
        thinking: Thinking | None = None,
        scorer: Scorer = by_likelihood,
        tracks: int = 128,
    ) -> None:
        """`tracks` bounds the strong model's sequences; a stream that would exceed it fails."""
        self._tracks = tracks
        self._strong = strong
        self._store = store
        self._thinking = thinking
        self._scorer = scorer
        self._sources: dict[VoiceKey, _Source] = {}
        self._alive: set[int] = set()

    def step(self, voices: Sequence[Voice]) -> tuple[Symbol, ...]:
        """One decode step of `voices`: what each says, in their order. New voices are prefilled."""
        for voice in voices:
            source = self._sources.get(voice.key)
            if source is None:
                self._sources[voice.key] = self._begin(voice)
            elif source.voice is not voice:
                # A resumed session joins the stream again, as another object.
                source.adopt(voice)
        sources = [self._sources[voice.key] for voice in voices]
        fed = [track for source in sources for track in self._to_feed(source)]
        fed.sort(key=lambda track: track.sequence)
        logits = self._forward(fed) if fed else {}
        for source in sources:
            self._push(source, logits)
        return tuple(self._say(source) for source in sources)

    def keep(self, voices: Sequence[Voice]) -> None:
        """Forget every stream that is not among `voices`."""
        kept = {voice.key for voice in voices}
        for key in [key for key in self._sources if key not in kept]:
            for track in self._sources.pop(key).tracks:
                self._drop(track)

    def _begin(self, voice: Voice) -> _Source:
        prompt = voice.join.prompt
        thinking = self._thinking
        asked = voice.join.reasoning is not None or voice.join.recall is not None
        usable = thinking is not None or not asked
        if voice.join.recall is not None and thinking is not None:
            recalled = self._store.get(voice.join.recall, voice.join.owner)
            usable = recalled is not None
            prompt += thinking.start + (recalled or ()) + thinking.end
        thinks = voice.join.reasoning is not None and thinking is not None
        if thinking is not None and thinks and prompt[-len(thinking.start) :] != thinking.start:
            prompt += thinking.start
        usable = usable and len(prompt) + voice.join.max_tokens <= self._strong.context_length
        drafted = sum(len(other.tracks) for other in self._sources.values() if not other.queue)
        usable = usable and drafted + voice.join.candidates <= self._tracks
        tracks = tuple(
            _Track(voice, index, prompt, thinks) for index in range(voice.join.candidates)
        )
        for track in tracks:
            track.failed = not usable
        return _Source(voice, tracks)

    def _to_feed(self, source: _Source) -> list[_Track]:
        """The tracks to run; before the first step only one, as all read the same prompt."""
        running = source.running()
        return running if not running or running[0].begun else running[:1]

    def _forward(self, tracks: Sequence[_Track]) -> Mapping[int, F32Array]:
        """Logits by sequence id. If the batch fails, each runs alone and only the bad one fails."""
        try:
            logits_NV = self._strong.forward([(t.sequence, t.pending) for t in tracks])
            found = {t.sequence: row_V for t, row_V in zip(tracks, logits_NV, strict=True)}
        except MODEL_FAILURES as error:
            _log.warning("strong_batch_failed", error=type(error).__name__, streams=len(tracks))
            # Only a ModelError promises that no sequence has changed.
            intact = isinstance(error, ModelError)
            found = {}
            for track in tracks:
                try:
                    found[track.sequence] = self._forward_alone(track, intact)
                except MODEL_FAILURES as failure:
                    _log.warning("stream_failed", error=type(failure).__name__, key=track.voice.key)
                    track.failed = True
        for track in tracks:
            if track.sequence in found:
                self._alive.add(track.sequence)
                track.fed += track.pending
        return found

    def _forward_alone(self, track: _Track, intact: bool) -> F32Array:
        pending: Sequence[int] = track.pending
        if not intact:
            self._drop(track)
            pending = (*track.fed, *track.pending)
        logits_V: F32Array = self._strong.forward([(track.sequence, pending)])[0]
        return logits_V

    def _push(self, source: _Source, logits: Mapping[int, F32Array]) -> None:
        lead = source.tracks[0]
        fresh = not lead.begun
        for track in source.running():
            try:
                if fresh and track is not lead:
                    self._strong.fork(lead.sequence, track.sequence)
                    self._alive.add(track.sequence)
                    track.fed += lead.fed
                logits_V = logits[lead.sequence if fresh else track.sequence]
                self._take(track, track.draw(logits_V), logits_V)
            except MODEL_FAILURES:
                track.failed = True
            track.begun = True
        if lead.failed and fresh:
            for track in source.tracks:
                track.failed = True

    def _take(self, track: _Track, token: int, logits_V: F32Array) -> None:
        if track.penalties is not None:
            track.penalties = track.penalties.advance(token)
        if track.thinking and self._thinking is not None:
            self._think(track, token, self._thinking)
            return
        track.pending = (token,)
        track.tokens.append(token)
        if track.voice.join.candidates > 1:
            track.logprobs += _logprob(logits_V, token)
            decision = decide(track.progress, token, track.voice.rules)
            track.progress = decision.progress
            track.done = decision.reason is not None

    def _think(self, track: _Track, token: int, thinking: Thinking) -> None:
        track.pending = (token,)
        track.thoughts.append(token)
        size = len(thinking.end)
        if tuple(track.thoughts[-size:]) == thinking.end:
            del track.thoughts[-size:]
            track.thinking = False
        elif token in track.voice.rules.eos_ids or len(track.thoughts) >= thinking.max_tokens:
            # The model did not close its reasoning, so it is closed for it.
            if token in track.voice.rules.eos_ids:
                track.thoughts.pop()
                track.pending = ()
            track.pending += thinking.end
            track.thinking = False

    def _say(self, source: _Source) -> Symbol:
        voice = source.voice
        if voice.waiting:
            return self._say_waiting(source)
        if source.queue is not None:
            return source.queue.pop()
        track = source.tracks[0]
        return ABORT if track.failed else track.tokens[-1]

    def _say_waiting(self, source: _Source) -> Symbol:
        tracks = source.tracks
        if len(tracks) == 1:
            if tracks[0].thinking and not tracks[0].failed:
                return WAIT
            choice = 0
        else:
            if source.running():
                return WAIT
            choice = self._choose(source)
            if not tracks[choice].failed:
                source.queue = tracks[choice].tokens[::-1]
            for track in tracks:
                self._drop(track)
        if source.voice.join.reasoning is not None and not tracks[choice].failed:
            self._store.put(
                source.voice.join.reasoning, source.voice.join.owner, tuple(tracks[choice].thoughts)
            )
        return Ready(choice)

    def _choose(self, source: _Source) -> int:
        return int(np.argmax([self._score(track) for track in source.tracks]))

    def _score(self, track: _Track) -> float:
        if track.failed:
            return -math.inf
        mean = track.logprobs / len(track.tokens)
        try:
            score = self._scorer(Draft(track.voice.join.prompt, tuple(track.tokens), mean))
        except MODEL_FAILURES as failure:
            _log.warning("scorer_failed", error=type(failure).__name__, key=track.voice.key)
            return -math.inf
        return -math.inf if math.isnan(score) else score

    def _drop(self, track: _Track) -> None:
        if track.sequence in self._alive:
            self._alive.discard(track.sequence)
            self._strong.drop(track.sequence)


def _logprob(logits_V: F32Array, token: int) -> float:
    best = logits_V.max()
    total = float(np.exp(logits_V - best, dtype=np.float32).sum(dtype=np.float64))
    return float(logits_V[token] - best) - float(np.log(total))
