"""Where a track's tokens come from: the strong model's logits, or an engine that draws itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Final

from tidegate.models.engine_port import Drawn
from tidegate.sampling.finish import Progress
from tidegate.sampling.seed import sub_seed
from tidegate.serve.lockstep import Voice

TRACKS: Final = 64
"""Sequence ids of the strong model set aside for each slot."""


class Track:
    """One sequence of the strong model.

    `fed` has been read, `pending` is read next; `tokens` are what a user may see, `thoughts` what
    stays inside. `seed` draws the one, `thought_seed` the other, each from position 0.
    """

    def __init__(
        self, voice: Voice, index: int, pending: tuple[int, ...], *, longest_thought: int = 0
    ) -> None:
        """`longest_thought` bounds its reasoning, in tokens; 0: it does not reason."""
        self.voice = voice
        self.sequence = voice.key.slot * TRACKS + index
        self.pending = pending
        self.fed: list[int] = []
        self.begun = False
        self.longest_thought = longest_thought
        self.thinking = longest_thought > 0
        self.thoughts: list[int] = []
        self.tokens: list[int] = []
        self.progress = Progress()
        self.logprobs = 0.0
        self.done = False
        self.failed = False
        self.seed = sub_seed(voice.join.seed, "candidate", index)
        self.thought_seed = sub_seed(self.seed, "reasoning")


class Drawer(ABC):
    """Draws the next token of many tracks at once. Not thread-safe."""

    @property
    @abstractmethod
    def context_length(self) -> int:
        """Most tokens of prompt and answer together."""

    @abstractmethod
    def draw(self, tracks: Sequence[Track]) -> Mapping[int, Drawn]:
        """The next token of each track, by sequence id; one that failed is missing.

        `tracks` ascend by sequence id. What was pending has then been read. The log-probability is
        there where a stream has several candidates.
        """

    @abstractmethod
    def drop(self, track: Track) -> None:
        """Forget a track; one that never ran, too."""
