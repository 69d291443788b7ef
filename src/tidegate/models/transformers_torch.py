"""`port.Model` over a transformers model on torch: batched decoding with in-place caches.

New sequences are prefilled one by one, so that no prompt is padded; sequences that grow by one
token share one step. Logits depend on the calls, the machine, the library and the thread count, and
on nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Read once, when torch loads its thread pool; spinning threads make prefill ten times slower where
# cores are shared. A process that imports torch earlier has to set it itself.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
import transformers

from tidegate.errors import ModelError
from tidegate.models.batch import Batch, check_batch
from tidegate.models.kv_rows import KvRows
from tidegate.models.port import F32Array, ModelInfo
from tidegate.models.prepared import Dtype, content_hash, manifest_of
from tidegate.models.tokenizer import eos_ids_of

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class TransformersModel:
    """A decoder-only model with full attention in every layer.

    `max_context` caps what the configuration allows, to bound memory.
    """

    exact = False

    def __init__(
        self,
        model: Any,
        *,
        info: ModelInfo,
        fingerprint: str,
        eos_ids: frozenset[int],
        max_context: int | None = None,
    ) -> None:
        config = model.config
        if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
            raise ModelError(f"{info.name} has layers without full attention; none are supported")
        self._model = model.eval()
        self._info = info
        self.fingerprint = fingerprint
        self.eos_ids = eos_ids
        self.vocab_size = int(config.vocab_size)
        longest = int(config.max_position_embeddings)
        self.context_length = min(longest, max_context or longest)
        self._cache = KvRows()
        self._ids: list[int] = []  # sequence id in each row
        self._lengths: list[int] = []  # tokens in each row

    @property
    def module(self) -> torch.nn.Module:
        """The model itself, for those who watch its layers."""
        module: torch.nn.Module = self._model
        return module

    def describe(self) -> ModelInfo:
        return self._info

    def forward(self, batch: Batch) -> F32Array:
        """See `port.Model.forward`."""
        check_batch(
            batch,
            vocab_size=self.vocab_size,
            context_length=self.context_length,
            length_of=lambda number: (
                self._lengths[self._ids.index(number)] if number in self._ids else 0
            ),
        )
        logits_NV = np.empty((len(batch), self.vocab_size), dtype=np.float32)
        steps = []
        with torch.inference_mode():
            for index, (sequence_id, tokens) in enumerate(batch):
                if sequence_id in self._ids and len(tokens) == 1:
                    steps.append((sequence_id, index, tokens[0]))
                else:
                    logits_NV[index] = self._append(sequence_id, tokens)
            if steps:
                self._step(steps, logits_NV)
        return logits_NV

    def fork(self, sequence_id: int, new_id: int) -> None:
        """Start `new_id` as a copy of a sequence. Raises ModelError for an unknown or taken id."""
        row = self._row(sequence_id)
        if new_id in self._ids:
            raise ModelError("the sequence id is taken", sequence_id=new_id)
        with torch.inference_mode():
            self._cache.copy_row(row, len(self._ids), self._lengths[row])
        self._ids.append(new_id)
        self._lengths.append(self._lengths[row])

    def drop(self, sequence_id: int) -> None:
        """Forget a sequence. Raises ModelError for an unknown id."""
        row = self._row(sequence_id)
        last = len(self._ids) - 1
        if row != last:
            with torch.inference_mode():
                self._cache.copy_row(last, row, self._lengths[last])
            self._ids[row], self._lengths[row] = self._ids[last], self._lengths[last]
        self._ids.pop()
        self._lengths.pop()

    def _row(self, sequence_id: int) -> int:
        if sequence_id not in self._ids:
            raise ModelError("no such sequence", sequence_id=sequence_id)
        return self._ids.index(sequence_id)

    def _append(self, sequence_id: int, tokens: Sequence[int]) -> F32Array:
        """Run several tokens of one sequence; logits_V after the last."""
        if sequence_id not in self._ids:
            self._ids.append(sequence_id)
            self._lengths.append(0)
        row = self._row(sequence_id)
        start, count = self._lengths[row], len(tokens)
        self._cache.aim_at_one(row, start, count)
        mask = None
        if start:
            ends = torch.arange(start, start + count)
            mask = (torch.arange(start + count) <= ends[:, None])[None, None]
        logits_1V = self._run([list(tokens)], [range(start, start + count)], mask)
        self._lengths[row] += count
        last_V: F32Array = logits_1V[0]
        return last_V

    def _step(self, steps: list[tuple[int, int, int]], logits_NV: F32Array) -> None:
        """Run one token of each of some sequences together; fills their rows of the result."""
        self._gather([sequence_id for sequence_id, _, _ in steps])
        by_id = {sequence_id: (index, token) for sequence_id, index, token in steps}
        order = self._ids[: len(steps)]
        lengths = self._lengths[: len(steps)]
        self._cache.aim_at_all(lengths)
        tokens = [[by_id[sequence_id][1]] for sequence_id in order]
        fresh_NV = self._run(tokens, [[length] for length in lengths], self._cache.mask())
        logits_NV[[by_id[sequence_id][0] for sequence_id in order]] = fresh_NV
        for row in range(len(steps)):
            self._lengths[row] += 1

    def _gather(self, wanted: list[int]) -> None:
        """Move the wanted sequences to the first rows; costs nothing while the set stays."""
        members = set(wanted)
        strays = [row for row in range(len(wanted)) if self._ids[row] not in members]
        homes = [row for row in range(len(wanted), len(self._ids)) if self._ids[row] in members]
        for one, other in zip(strays, homes, strict=True):
            self._cache.swap_rows(one, other, max(self._lengths[one], self._lengths[other]))
            for column in (self._ids, self._lengths):
                column[one], column[other] = column[other], column[one]

    def _run(
        self,
        tokens_BT: list[list[int]],
        positions_BT: Sequence[Sequence[int]],
        mask_B1TP: torch.Tensor | None,
    ) -> F32Array:
        output = self._model(
            input_ids=torch.tensor(tokens_BT),
            position_ids=torch.tensor([list(row) for row in positions_BT]),
            attention_mask=mask_B1TP,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits_BV: F32Array = output.logits[:, -1].float().numpy()
        return logits_BV


def load(
    folder: Path,
    *,
    dtype: Dtype | None = None,
    threads: int | None = None,
    max_context: int | None = None,
    skip_layers: int = 0,
) -> TransformersModel:
    """Open a folder from `prepared.prepare`, every file hashed first.

    `dtype` defaults to the one the folder was made in. `threads` sets torch's thread count for the
    whole process. `skip_layers` leaves out that many layers before the last: a worse model, for
    measurements. Raises ModelError, or IntegrityError naming the file.
    """
    manifest = manifest_of(folder)
    transformers.utils.logging.disable_progress_bar()
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = dtype or manifest.dtype or "bfloat16"
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=_DTYPES[chosen],
            attn_implementation="sdpa",
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"cannot load a model from {folder}: {error}", file=str(folder)) from error
    if skip_layers:
        _skip(model, skip_layers)
    info = ModelInfo(
        name=f"{manifest.name} without {skip_layers} layers" if skip_layers else manifest.name,
        parameters=manifest.parameters or sum(weight.numel() for weight in model.parameters()),
        licence=manifest.licence,
        provenance=manifest.provenance,
        numerics=(
            f"{chosen}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, "
            f"{torch.get_num_threads()} threads"
        ),
    )
    return TransformersModel(
        model,
        info=info,
        fingerprint=content_hash(manifest, chosen, *([str(skip_layers)] if skip_layers else [])),
        eos_ids=eos_ids_of(folder),
        max_context=max_context,
    )


def _skip(model: Any, count: int) -> None:
    layers = model.model.layers
    kept = [*layers[: len(layers) - 1 - count], layers[-1]]
    for index, layer in enumerate(kept):
        layer.self_attn.layer_idx = index
    model.model.layers = torch.nn.ModuleList(kept)
    model.config.num_hidden_layers = len(kept)
