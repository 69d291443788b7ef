"""`draw.Drawer` over an engine that draws itself: prompts and seeds go in, tokens come out.

Every track is a sequence of the engine; a track that has finished reasoning goes on in another one,
since its visible tokens are drawn with another seed. Each step waits for one token of each track,
so that what is said, step by step, is what the strong model itself would have had said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from tidegate.errors import EngineDownError, EngineError, TidegateError
from tidegate.models.engine_port import (
    Ask,
    Drawing,
    DrawingEngine,
    Drawn,
    EngineLostError,
    EngineRefusedError,
)
from tidegate.serve.inner.draw import Drawer, Track

_log = structlog.get_logger(__name__)

_TRIES = 2


@dataclass(slots=True, eq=False)
class _Live:
    ask: Ask
    thinking: bool
    drawing: Drawing | None = None
    taken: list[int] = field(default_factory=list)


class EngineDrawer(Drawer):
    """Asks one `DrawingEngine`. A sequence that is lost is drawn again, from its beginning."""

    def __init__(self, engine: DrawingEngine, vocab_size: int) -> None:
        """`vocab_size` is the weak model's; a token beyond it fails its stream."""
        self._engine = engine
        self._vocab_size = vocab_size
        self._live: dict[int, _Live] = {}

    @property
    def context_length(self) -> int:
        return self._engine.context_length

    def draw(self, tracks: Sequence[Track]) -> Mapping[int, Drawn]:
        """See `Drawer.draw`. New tracks all begin before any token is waited for.

        Raises EngineDownError where the engine is gone as a whole.
        """
        drawn: dict[int, Drawn] = {}
        failed: dict[int, TidegateError] = {}
        for track in tracks:
            try:
                self._begun(track)
            except EngineDownError:
                raise
            except TidegateError as error:
                failed[track.sequence] = error
        for track in tracks:
            try:
                if track.sequence not in failed:
                    drawn[track.sequence] = self._taken(self._live[track.sequence])
                    track.fed += track.pending
            except EngineDownError:
                raise
            except TidegateError as error:
                failed[track.sequence] = error
        for track in tracks:
            if track.sequence in failed:
                why = failed[track.sequence].diagnostics()
                _log.warning("draw_failed", key=track.voice.key, **why)
                self.drop(track)
        return drawn

    def drop(self, track: Track) -> None:
        """See `Drawer.drop`."""
        live = self._live.pop(track.sequence, None)
        if live is not None and live.drawing is not None:
            live.drawing.close()

    def _begun(self, track: Track) -> None:
        live = self._live.get(track.sequence)
        if live is not None and live.thinking == track.thinking:
            return
        self.drop(track)
        live = _Live(self._ask(track), track.thinking)
        live.drawing = self._engine.start(live.ask)
        self._live[track.sequence] = live

    def _ask(self, track: Track) -> Ask:
        voice, params = track.voice, track.voice.params
        if voice.join.reasoning is not None and (
            params.presence_penalty or params.frequency_penalty
        ):
            raise EngineRefusedError(
                "presence and frequency penalties count reasoning as output, which an engine that "
                "is asked anew after it cannot; send them without reasoning"
            )
        prompt = (*track.fed, *track.pending)
        room = self.context_length - len(prompt)
        wanted = track.longest_thought if track.thinking else voice.join.max_tokens
        ends: tuple[int, ...] = ()
        if track.thinking or not voice.rules.limits.ignore_eos:
            ends = tuple(sorted(voice.rules.eos_ids))
        return Ask(
            prompt=prompt,
            seed=track.thought_seed if track.thinking else track.seed,
            params=params,
            max_tokens=max(1, min(wanted, room)),
            ends=ends,
            logprobs=voice.join.candidates > 1 and not track.thinking,
        )

    def _taken(self, live: _Live) -> Drawn:
        """The next token; from another replica where one is lost."""
        for _ in range(_TRIES - 1):
            try:
                return self._next(live)
            except EngineLostError as error:
                _log.warning("engine_sequence_lost", taken=len(live.taken), **error.diagnostics())
                if live.drawing is not None:
                    live.drawing.close()
                live.drawing = None
        return self._next(live)

    def _next(self, live: _Live) -> Drawn:
        if live.drawing is None:
            live.drawing = self._again(live)
        drawn = live.drawing.take()
        if not 0 <= drawn.token < self._vocab_size:
            raise EngineError("the engine drew a token outside the vocabulary")
        live.taken.append(drawn.token)
        return drawn

    def _again(self, live: _Live) -> Drawing:
        """Another sequence for the same ask, past the tokens that were taken of the first.

        Raises EngineError where it draws others, for what was said cannot be unsaid.
        """
        drawing = self._engine.start(live.ask)
        for place, token in enumerate(live.taken):
            if drawing.take().token != token:
                drawing.close()
                raise EngineError("two replicas drew different tokens", place=place)
        return drawing
