"""`draw.Drawer` over the strong model's logits: filters, noise and choice are made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from tidegate.errors import EngineDownError, ModelError
from tidegate.models.engine_model import logprob_of
from tidegate.models.engine_port import Drawn
from tidegate.models.port import MODEL_FAILURES, F32Array, Model
from tidegate.sampling.filters import PenaltyState, mask_scores, needs_penalties, shift_logits
from tidegate.sampling.gumbel import Noise
from tidegate.serve.inner.draw import Drawer, Track

_log = structlog.get_logger(__name__)


class ModelDrawer(Drawer):
    """Runs all tracks in one forward call; candidates of one stream share its prompt."""

    def __init__(self, strong: Model) -> None:
        self._strong = strong
        self._alive: set[int] = set()
        self._penalties: dict[int, PenaltyState] = {}
        self._noises: dict[int, Noise] = {}

    @property
    def context_length(self) -> int:
        return self._strong.context_length

    def draw(self, tracks: Sequence[Track]) -> Mapping[int, Drawn]:
        """See `Drawer.draw`. A stream's tracks fail together if their prompt cannot be read."""
        leads: dict[int, Track] = {}
        first: dict[object, Track] = {}
        for track in tracks:
            lead = track if track.begun else first.setdefault(track.voice.key, track)
            leads[track.sequence] = lead
        logits = self._forward([t for t in tracks if leads[t.sequence] is t])
        drawn: dict[int, Drawn] = {}
        for track in tracks:
            lead = leads[track.sequence]
            if lead.sequence in logits:
                try:
                    drawn[track.sequence] = self._drawn(track, lead, logits[lead.sequence])
                except MODEL_FAILURES as failure:
                    _log.warning("draw_failed", error=type(failure).__name__, key=track.voice.key)
        return drawn

    def drop(self, track: Track) -> None:
        """See `Drawer.drop`."""
        self._penalties.pop(track.sequence, None)
        self._noises.pop(track.sequence, None)
        if track.sequence in self._alive:
            self._alive.discard(track.sequence)
            self._strong.drop(track.sequence)

    def _forward(self, tracks: Sequence[Track]) -> Mapping[int, F32Array]:
        """Logits by sequence id. If the batch fails, each runs alone and only the bad one fails."""
        if not tracks:
            return {}
        try:
            logits_NV = self._strong.forward([(t.sequence, t.pending) for t in tracks])
            found = {t.sequence: row_V for t, row_V in zip(tracks, logits_NV, strict=True)}
        except EngineDownError:
            # Nothing is left to try a stream alone on; to abort each would look like an answer.
            raise
        except MODEL_FAILURES as error:
            _log.warning("strong_batch_failed", error=type(error).__name__, streams=len(tracks))
            # Only a ModelError promises that no sequence has changed.
            intact = isinstance(error, ModelError)
            found = {}
            for track in tracks:
                try:
                    found[track.sequence] = self._forward_alone(track, intact)
                except EngineDownError:
                    raise
                except MODEL_FAILURES as failure:
                    _log.warning("stream_failed", error=type(failure).__name__, key=track.voice.key)
        self._alive |= set(found)
        return found

    def _forward_alone(self, track: Track, intact: bool) -> F32Array:
        pending: Sequence[int] = track.pending
        if not intact:
            if track.sequence in self._alive:
                self._alive.discard(track.sequence)
                self._strong.drop(track.sequence)
            pending = (*track.fed, *track.pending)
        logits_V: F32Array = self._strong.forward([(track.sequence, pending)])[0]
        return logits_V

    def _drawn(self, track: Track, lead: Track, logits_V: F32Array) -> Drawn:
        if track is not lead:
            self._strong.fork(lead.sequence, track.sequence)
            self._alive.add(track.sequence)
        voice, params = track.voice, track.voice.params
        if not track.begun and needs_penalties(params):
            self._penalties[track.sequence] = PenaltyState.of(track.pending)
        penalties = self._penalties.get(track.sequence)
        scores_V = mask_scores(shift_logits(logits_V, params, penalties), params)
        token = self._noise(track, logits_V.shape[0]).sample(scores_V)
        track.fed += track.pending
        if penalties is not None:
            self._penalties[track.sequence] = penalties.advance(token)
        several = voice.join.candidates > 1
        return Drawn(token, logprob_of(logits_V, token) if several else None)

    def _noise(self, track: Track, vocab_size: int) -> Noise:
        voice = track.voice
        if not voice.waiting:
            # The weak model was asked with the same noise; it is drawn once.
            return voice.noise()
        if track.sequence not in self._noises:
            self._noises[track.sequence] = Noise(vocab_size)
        noise = self._noises[track.sequence]
        if voice.params.temperature > 0.0:
            thinks = track.thinking
            seed = track.thought_seed if thinks else track.seed
            noise.move(seed, len(track.thoughts if thinks else track.tokens))
        return noise
