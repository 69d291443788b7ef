"""A part of a model: some of its layers, and the tensors that they need.

Several hosts (*ranks*) run one model together where it does not fit into one: the first looks the
tokens up and runs the first layers, the last one makes the logits. Every rank runs the same calls
on its own pages, so what passes between them is `h_ND` alone, and the logits are bit for bit those
of a single host: each operation is the very same one (`forward`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ModelError
from tidegate.models.exact import forward
from tidegate.models.exact.backends import default_threads
from tidegate.models.exact.cache import Cache
from tidegate.models.exact.ops import Linear, Ops
from tidegate.models.exact.parameters import Parameters, TableEmbedding, Tensors, parameters_of
from tidegate.models.exact.selftest import choose
from tidegate.models.exact.shape import Shape

Part = tuple[int, Sequence[int]]
"""A sequence's id, and tokens to append to it."""

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Span:
    """The layers from `start` to before `end` of rank `rank` of `ranks`."""

    rank: int
    ranks: int
    start: int
    end: int

    @property
    def first(self) -> bool:
        """Whether tokens are looked up here."""
        return self.rank == 0

    @property
    def last(self) -> bool:
        """Whether logits are made here."""
        return self.rank == self.ranks - 1


def span_of(layers: int, rank: int, ranks: int) -> Span:
    """As even as can be. Raises ModelError where a rank would have no layer."""
    if not (0 <= rank < ranks <= layers):
        raise ModelError(
            f"rank {rank} of {ranks} has no part in a model of {layers} layers",
            ranks=ranks,
            layers=layers,
        )
    return Span(rank, ranks, layers * rank // ranks, layers * (rank + 1) // ranks)


def layers_among(names: Collection[str]) -> int:
    """How many layers a model with these tensors has."""
    return 1 + max((_layer_of(name) for name in names), default=-1)


def names_of(names: Collection[str], span: Span) -> frozenset[str]:
    """Of a converted model's tensors, those that a rank needs: its layers', and the embedding's or
    the head's at the ends. A model without a head of its own uses the embedding for it."""
    tied = "head.weight" not in names

    def needed(name: str) -> bool:
        match name.split(".")[0]:
            case "layers":
                return span.start <= _layer_of(name) < span.end
            case "embed":
                return span.first or (span.last and tied)
            case "head" | "norm":
                return span.last
        return name in _ROTATION

    return frozenset(filter(needed, names))


_ROTATION = ("rope.cos", "rope.sin")


def _layer_of(name: str) -> int:
    first, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    return int(number) if first == "layers" and number.isdecimal() else -1


class Stage:
    """One rank's part of a pass, and its pages. Not thread-safe."""

    def __init__(self, shape: Shape, span: Span, linear: Linear, ops: Ops, own: Parameters) -> None:
        """`own` are this part's parameters, with layers numbered from 0 (see `stage_of`)."""
        self.span = span
        self.width = shape.width
        self._own = own
        self._linear = linear
        self._ops = ops
        self._cache = Cache(own.shape, ops)

    def length(self, sequence_id: int) -> int:
        """Tokens that a sequence holds; 0 if there is none of this id."""
        return self._cache.length(sequence_id)

    def start(self, parts: Sequence[Part]) -> tuple[int, ...]:
        """Begin sequences; how many tokens of each need not be run, since their pages are known."""
        return tuple(self._cache.start(number, tokens) for number, tokens in parts)

    def run(self, parts: Sequence[Part], last: Sequence[int], h_ND: F32 | None) -> F32:
        """Append `parts` (see `Cache.rows`): h_ND for the next rank, or logits_LV from the last.

        `h_ND` comes from the rank before; None for the first. The caller's own.

        Raises:
            ModelError: an activation left the range; `cut` back then.
        """
        rows = self._cache.rows(parts, last)
        self._linear.begin(rows)
        if self.span.first:
            h = forward.embed(self._own, self._ops, rows)
        elif h_ND is None or h_ND.shape != (len(rows.token_N), self.width):
            raise ModelError("what came from the rank before does not fit these tokens")
        else:
            h = self._ops.place(h_ND)
        h = forward.layers(self._own, self._linear, self._ops, self._cache.pool, rows, h)
        if self.span.last:
            made = forward.head(self._own, self._linear, self._ops, rows, h)
        else:
            made = np.array(self._ops.fetch(h), np.float32)
        self._cache.commit(parts)
        return made

    def cut(self, lengths: Sequence[tuple[int, int]]) -> None:
        """Shorten sequences, each to a length; to 0: forget it."""
        for number, length in lengths:
            self._cache.cut(number, length)

    def fork(self, sequence_id: int, new_id: int) -> None:
        """Start `new_id` as a copy. Raises ModelError for an unknown or taken id."""
        self._cache.fork(sequence_id, new_id)

    def drop(self, sequence_id: int) -> None:
        """Forget a sequence. Raises ModelError for an unknown id."""
        self._cache.drop(sequence_id)

    def forget(self) -> None:
        """Drop everything, known pages too, as if just begun."""
        self._cache = Cache(self._own.shape, self._ops)


def stage_of(
    shape: Shape,
    span: Span,
    tensors: Tensors,
    *,
    threads: int | None = None,
    device: str = "cpu",
    backend: str | None = None,
) -> Stage:
    """A rank's part over the tensors of `names_of`, which the caller has checked.

    Raises ModelError where this machine does not compute the specified bits.
    """
    parameters, own = layout_of(shape, span, tensors)
    count = threads or default_threads()
    engine = choose(parameters, own, threads=count, device=device, backend=backend)
    return Stage(shape, span, engine.linear, engine.ops, parameters)


def layout_of(shape: Shape, span: Span, tensors: Tensors) -> tuple[Parameters, Tensors]:
    """A part as its back end sees it: a model of fewer layers, numbered from 0, with a vocabulary
    only where it has a head."""
    own_shape = replace(
        shape,
        layers=span.end - span.start,
        tied=False,
        vocab_size=shape.vocab_size if span.last else 1,
    )
    own = {name: tensors[name] for name in _ROTATION}
    own |= _renumbered(tensors, span)
    own |= _ends(shape, span, tensors)
    embedding = None
    if span.first:
        embedding = TableEmbedding(tensors["embed.weight"], tensors["embed.scale"])
    return parameters_of(own_shape, own, embedding), own


def _renumbered(tensors: Tensors, span: Span) -> Mapping[str, NDArray[Any]]:
    return {
        f"layers.{layer - span.start}.{name.split('.', 2)[2]}": tensor
        for layer in range(span.start, span.end)
        for name, tensor in tensors.items()
        if name.startswith(f"layers.{layer}.")
    }


def _ends(shape: Shape, span: Span, tensors: Tensors) -> Mapping[str, NDArray[Any]]:
    """Embedding, norm and head as `parameters_of` wants them; stand-ins where they do no work."""
    nothing: dict[str, NDArray[Any]] = {
        "embed.weight": np.zeros((1, shape.width), np.int8),
        "embed.scale": np.zeros(1, np.float32),
    }
    if not span.last:
        return nothing | {
            "norm": np.zeros(shape.width, np.float32),
            "head.weight": np.zeros((1, shape.width), np.int8),
            "head.scale": np.zeros(1, np.float32),
        }
    head = "embed" if shape.tied else "head"
    return nothing | {
        "norm": tensors["norm"],
        "head.weight": tensors[f"{head}.weight"],
        "head.scale": tensors[f"{head}.scale"],
    }
