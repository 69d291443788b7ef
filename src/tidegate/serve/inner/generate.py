"""What the strong model says: one symbol a stream a step.

A plain stream has one track and says its token at once. A stream that reasons, or of which several
candidates are drawn, waits while its tracks run in the same batch as everybody else, and then says
the winner's tokens one a step. Everything a track generates is drawn with noise that only the
stream's seed, the candidate's number and the position determine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from tidegate.coding.upload import ABORT
from tidegate.models.engine_port import Drawn
from tidegate.models.port import MODEL_FAILURES, Model
from tidegate.sampling.finish import decide
from tidegate.serve.inner.draw import Drawer, Track
from tidegate.serve.inner.draw_model import ModelDrawer
from tidegate.serve.inner.reasoning import ReasoningStore, Thinking
from tidegate.serve.lockstep import WAIT, Ready, Symbol, Voice, VoiceKey

_log = structlog.get_logger(__name__)


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


class _Source:
    """What one stream draws from."""

    def __init__(self, voice: Voice, tracks: tuple[Track, ...]) -> None:
        self.voice = voice
        self.tracks = tracks
        self.queue: list[int] | None = None
        """The winner's tokens still to be said, last first, once several tracks have run."""

    def adopt(self, voice: Voice) -> None:
        self.voice = voice
        for track in self.tracks:
            track.voice = voice

    def running(self) -> list[Track]:
        if self.queue is not None:
            return []
        return [track for track in self.tracks if not (track.done or track.failed)]


class Generator:
    """The strong side of all streams. Not thread-safe."""

    def __init__(
        self,
        strong: Model | Drawer,
        store: ReasoningStore,
        *,
        thinking: Thinking | None = None,
        scorer: Scorer = by_likelihood,
        tracks: int = 128,
    ) -> None:
        """`strong` draws, or is what is drawn from. `tracks` bounds its sequences; a stream that
        would exceed it fails."""
        self._tracks = tracks
        self._drawer = strong if isinstance(strong, Drawer) else ModelDrawer(strong)
        self._store = store
        self._thinking = thinking
        self._scorer = scorer
        self._sources: dict[VoiceKey, _Source] = {}
        self.leaving = False
        """New voices say at once that they will not answer: somebody else may still be asked."""

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
        running = [track for source in sources for track in source.running()]
        running.sort(key=lambda track: track.sequence)
        drawn = self._drawer.draw(running) if running else {}
        for track in running:
            try:
                self._take(track, drawn.get(track.sequence))
            except MODEL_FAILURES:
                track.failed = True
        return tuple(self._say(source) for source in sources)

    def keep(self, voices: Sequence[Voice]) -> None:
        """Forget every stream that is not among `voices`."""
        kept = {voice.key for voice in voices}
        for key in [key for key in self._sources if key not in kept]:
            for track in self._sources.pop(key).tracks:
                self._drawer.drop(track)

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
        usable = usable and len(prompt) + voice.join.max_tokens <= self._drawer.context_length
        drafted = sum(len(other.tracks) for other in self._sources.values() if not other.queue)
        usable = usable and drafted + voice.join.candidates <= self._tracks and not self.leaving
        longest = thinking.max_tokens if thinking is not None and thinks else 0
        tracks = tuple(
            Track(voice, index, prompt, longest_thought=longest)
            for index in range(voice.join.candidates)
        )
        for track in tracks:
            track.failed = not usable
        return _Source(voice, tracks)

    def _take(self, track: Track, drawn: Drawn | None) -> None:
        track.begun = True
        if drawn is None:
            track.failed = True
        elif track.thinking and self._thinking is not None:
            self._think(track, drawn.token, self._thinking)
        else:
            self._visible(track, drawn)

    def _visible(self, track: Track, drawn: Drawn) -> None:
        track.pending = (drawn.token,)
        track.tokens.append(drawn.token)
        if track.voice.join.candidates > 1:
            track.logprobs += -math.inf if drawn.logprob is None else drawn.logprob
            decision = decide(track.progress, drawn.token, track.voice.rules)
            track.progress = decision.progress
            track.done = decision.reason is not None

    def _think(self, track: Track, token: int, thinking: Thinking) -> None:
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
                self._drawer.drop(track)
        if source.voice.join.reasoning is not None and not tracks[choice].failed:
            self._store.put(
                source.voice.join.reasoning, source.voice.join.owner, tuple(tracks[choice].thoughts)
            )
        return Ready(choice)

    def _choose(self, source: _Source) -> int:
        return int(np.argmax([self._score(track) for track in source.tracks]))

    def _score(self, track: Track) -> float:
        if track.failed:
            return -math.inf
        mean = track.logprobs / len(track.tokens)
        try:
            score = self._scorer(Draft(track.voice.join.prompt, tuple(track.tokens), mean))
        except MODEL_FAILURES as failure:
            _log.warning("scorer_failed", error=type(failure).__name__, key=track.voice.key)
            return -math.inf
        return -math.inf if math.isnan(score) else score
