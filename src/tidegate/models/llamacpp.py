"""`port.Model` over llama.cpp's C interface (llama-cpp-python 0.3.36), straight from a GGUF file.

All sequences share one cache of `cells` positions. New sequences are prefilled one by one; those
that grow by one token share one decode. As with torch, floats depend on the build, the machine and
the thread count.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from tidegate.errors import EngineError, ModelError
from tidegate.models.batch import Batch, check_batch
from tidegate.models.cache import sha256_of
from tidegate.models.packages import pins
from tidegate.models.port import F32Array, ModelInfo

_CHUNK_TOKENS = 512
_LONGEST_SEQUENCE_LIST = 256  # LLAMA_MAX_SEQ in the library
_FORCED = -1  # the sequence whose answer is known; callers number theirs from 0


class LlamaCppModel:
    """Sequences in one llama.cpp context; `close` frees it."""

    exact = False

    def __init__(
        self,
        model: Any,
        *,
        info: ModelInfo,
        fingerprint: str,
        cells: int,
        sequences: int,
        threads: int,
    ) -> None:
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = cells
        settings.n_batch = settings.n_ubatch = max(_CHUNK_TOKENS, sequences)
        settings.n_seq_max = sequences
        settings.n_threads = settings.n_threads_batch = threads
        settings.kv_unified = True
        self._model = model
        self._context = llama_cpp.llama_init_from_model(model, settings)
        if not self._context:
            llama_cpp.llama_model_free(model)
            raise ModelError(f"llama.cpp has no room for {cells} positions", cells=cells)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(settings.n_batch, 0, 1)
        self._cells = cells
        self._free = list(range(sequences - 1, -1, -1))
        self._slots: dict[int, int] = {}
        self._lengths: dict[int, int] = {}
        self._info = info
        self.fingerprint = fingerprint
        vocabulary = llama_cpp.llama_model_get_vocab(model)
        self.vocab_size = int(llama_cpp.llama_vocab_n_tokens(vocabulary))
        self.eos_ids = frozenset(
            token
            for token in range(self.vocab_size)
            if llama_cpp.llama_vocab_is_eog(vocabulary, token)
        )
        self.context_length = min(int(llama_cpp.llama_model_n_ctx_train(model)), cells)

    def describe(self) -> ModelInfo:
        return self._info

    def forward(self, batch: Batch) -> F32Array:
        """See `port.Model.forward`. Raises EngineError if llama.cpp fails in the middle."""
        check_batch(
            batch,
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            length_of=lambda number: self._lengths.get(number, 0),
        )
        fresh = sum(sequence_id not in self._slots for sequence_id, _ in batch)
        if fresh > len(self._free):
            raise ModelError(f"{len(self._slots) + fresh} sequences are more than were asked for")
        if sum(self._lengths.values()) + sum(len(tokens) for _, tokens in batch) > self._cells:
            raise ModelError(f"the cache of {self._cells} positions is full", cells=self._cells)
        logits_NV = np.empty((len(batch), self.vocab_size), dtype=np.float32)
        steps = []
        for index, (sequence_id, tokens) in enumerate(batch):
            if sequence_id in self._slots and len(tokens) == 1:
                steps.append((index, sequence_id, int(tokens[0])))
            else:
                self._append(sequence_id, tokens, logits_NV[index])
        if steps:
            self._decode([(sequence_id, token, True) for _, sequence_id, token in steps])
            for place, (index, _, _) in enumerate(steps):
                self._read(place, logits_NV[index])
        return logits_NV

    def fork(self, sequence_id: int, new_id: int) -> None:
        """Start `new_id` as a copy of a sequence. Raises ModelError for an unknown or taken id."""
        slot = self._slot(sequence_id)
        if new_id in self._slots or not self._free:
            raise ModelError("the sequence id is taken, or no slot is free", sequence_id=new_id)
        self._slots[new_id] = self._free.pop()
        self._lengths[new_id] = self._lengths[sequence_id]
        llama_cpp.llama_memory_seq_cp(self._memory, slot, self._slots[new_id], -1, -1)

    def drop(self, sequence_id: int) -> None:
        """Forget a sequence. Raises ModelError for an unknown id."""
        slot = self._slot(sequence_id)
        llama_cpp.llama_memory_seq_rm(self._memory, slot, -1, -1)
        del self._slots[sequence_id], self._lengths[sequence_id]
        self._free.append(slot)

    def forced(self, tokens: Sequence[int], first: int) -> Iterator[F32Array]:
        """logits_LV after each of `tokens[first:]`, some hundreds at a time.

        A sequence of its own, forgotten at the end. Raises as `forward`.
        """
        if sum(self._lengths.values()) + len(tokens) > self._cells or not self._free:
            raise ModelError(f"the cache of {self._cells} positions is full", cells=self._cells)
        self._slots[_FORCED], self._lengths[_FORCED] = self._free.pop(), 0
        try:
            for start in range(0, len(tokens), _CHUNK_TOKENS):
                chunk = range(start, min(start + _CHUNK_TOKENS, len(tokens)))
                self._decode([(_FORCED, int(tokens[place]), place >= first) for place in chunk])
                wanted = chunk[max(0, first - start) :]
                logits_LV = np.empty((len(wanted), self.vocab_size), dtype=np.float32)
                for place, logits_V in zip(wanted, logits_LV, strict=True):
                    self._read(place - start, logits_V)
                if len(wanted):
                    yield logits_LV
        finally:
            self.drop(_FORCED)

    def close(self) -> None:
        """Free the context and the model; the object is unusable afterwards."""
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def _slot(self, sequence_id: int) -> int:
        if sequence_id not in self._slots:
            raise ModelError("no such sequence", sequence_id=sequence_id)
        return self._slots[sequence_id]

    def _append(self, sequence_id: int, tokens: Sequence[int], logits_V: F32Array) -> None:
        if sequence_id not in self._slots:
            self._slots[sequence_id] = self._free.pop()
            self._lengths[sequence_id] = 0
        last = len(tokens) - 1
        for first in range(0, len(tokens), _CHUNK_TOKENS):
            chunk = range(first, min(first + _CHUNK_TOKENS, len(tokens)))
            self._decode([(sequence_id, int(tokens[place]), place == last) for place in chunk])
        self._read(last % _CHUNK_TOKENS, logits_V)

    def _decode(self, entries: list[tuple[int, int, bool]]) -> None:
        """Append (sequence id, token, whether its logits are wanted) in one call."""
        batch = self._batch
        batch.n_tokens = len(entries)
        for place, (sequence_id, token, wanted) in enumerate(entries):
            batch.token[place] = token
            batch.pos[place] = self._lengths[sequence_id]
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = self._slots[sequence_id]
            batch.logits[place] = wanted
            self._lengths[sequence_id] += 1
        status = llama_cpp.llama_decode(self._context, batch)
        if status != 0:
            raise EngineError(f"llama.cpp stopped with status {status}", status=int(status))

    def _read(self, place: int, logits_V: F32Array) -> None:
        pointer = llama_cpp.llama_get_logits_ith(self._context, place)
        if not pointer:
            raise EngineError("llama.cpp returned no logits")
        logits_V[:] = np.ctypeslib.as_array(pointer, shape=(self.vocab_size,))


def load(
    path: Path,
    *,
    threads: int = 2,
    cells: int = 32_768,
    sequences: int = 128,
) -> LlamaCppModel:
    """Open a GGUF file. Raises ModelError.

    `cells` bounds the tokens of all sequences together, `sequences` how many run at once: by
    default as many as the inner half drafts.
    """
    if not 1 <= sequences <= _LONGEST_SEQUENCE_LIST:
        raise ModelError(f"llama.cpp runs 1 to {_LONGEST_SEQUENCE_LIST} sequences at once")
    digest = sha256_of(path)
    llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    settings = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), settings)
    if not model:
        raise ModelError(f"llama.cpp cannot read {path}", file=str(path))
    pin = next((pin for pin in pins().values() if pin.sha256 == digest), None)
    info = ModelInfo(
        name=pin.title if pin else path.stem,
        parameters=int(llama_cpp.llama_model_n_params(model)),
        licence=pin.licence if pin else "unknown",
        provenance=pin.provenance if pin else f"file {path.name}",
        numerics=f"llama-cpp-python {llama_cpp.__version__}, {threads} threads",
    )
    return LlamaCppModel(
        model, info=info, fingerprint=digest, cells=cells, sequences=sequences, threads=threads
    )


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _SILENT(_level: int, _text: bytes, _data: ctypes.c_void_p) -> None:  # noqa: N802
    """The library logs to stderr by default; its failures come back as return values."""
