"""The peers: the same weights on torch in fp32 and bf16, run in the ways the exact engine is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from tidegate.bench.exact_identity import row_hash
from tidegate.bench.figures import Figure, report
from tidegate.models.cache import Progress
from tidegate.models.port import ModelInfo
from tidegate.models.prepared import Dtype
from tidegate.models.transformers_torch import TransformersModel

F32 = NDArray[np.float32]
Texts = Sequence[Sequence[int]]
Rows = list[tuple[int, int]]
"""After each token: a hash of the logits, and the likeliest token."""

_NOBODY = ModelInfo(name="peer", parameters=0, licence="", provenance="", numerics="")


class FloatModel:
    """A model folder on transformers and torch."""

    def __init__(self, folder: Path, dtype: Dtype) -> None:
        transformers.utils.logging.disable_progress_bar()
        self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            attn_implementation="sdpa",
            local_files_only=True,
            use_safetensors=True,
        ).eval()

    def port(self, max_context: int) -> TransformersModel:
        """The same model as the product runs it."""
        return TransformersModel(
            self._model,
            info=_NOBODY,
            fingerprint="",
            eos_ids=frozenset(),
            max_context=max_context,
        )

    def prefill(self, texts: Texts) -> Iterator[F32]:
        """logits_TV of each text, all its tokens at once."""
        with torch.inference_mode():
            for text in texts:
                logits_TV: F32 = self._model(torch.tensor([list(text)])).logits[0].float().numpy()
                yield logits_TV

    def decode(self, texts: Texts, batch: int) -> Iterator[tuple[int, int, F32]]:
        """(text, place, logits_V) after every token, `batch` texts side by side."""
        port = self.port(max(map(len, texts)))
        for start in range(0, len(texts), batch):
            group = range(start, min(start + batch, len(texts)))
            for place in range(max(len(texts[n]) for n in group)):
                running = [n for n in group if place < len(texts[n])]
                logits_NV = port.forward([(n, [texts[n][place]]) for n in running])
                for number, logits_V in zip(running, logits_NV, strict=True):
                    yield number, place, logits_V
                    if place + 1 == len(texts[number]):
                        port.drop(number)


def measure(folder: Path, texts: Texts, progress: Progress) -> dict[str, Figure]:
    """How often float logits stay the same: bits, and the token that is likeliest."""
    figures: dict[str, Figure] = {}
    stages = 4 * len(texts)
    dtypes: tuple[tuple[str, Dtype], ...] = (("fp32", "float32"), ("bf16", "bfloat16"))
    for name, dtype in dtypes:
        model = FloatModel(folder, dtype)
        torch.set_num_threads(1)
        want = [_row(logits_V) for logits_TV in model.prefill(texts) for logits_V in logits_TV]
        progress(f"bits: torch {name}", len(texts), stages)
        torch.set_num_threads(2)
        again = [_row(logits_V) for logits_TV in model.prefill(texts) for logits_V in logits_TV]
        progress(f"bits: torch {name}", 2 * len(texts), stages)
        found = {"prefill1.2t": again}
        for done, batch in enumerate((8, 32)):
            found[f"decode{batch}.2t"] = _decoded(model, texts, batch)
            progress(f"bits: torch {name}", (3 + done) * len(texts), stages)
        for way, rows in found.items():
            pairs = list(zip(rows, want, strict=True))
            how = f"torch {name}, against prefill1.1t"
            figures[f"float.{name}.{way}.bits"] = report(
                sum(one[0] == other[0] for one, other in pairs) / len(pairs),
                unit="of tokens",
                n=len(pairs),
                how=f"every logit; {how}",
            )
            figures[f"float.{name}.{way}.tokens"] = report(
                sum(one[1] == other[1] for one, other in pairs) / len(pairs),
                unit="of tokens",
                n=len(pairs),
                how=f"the likeliest token; {how}",
            )
    return figures


def _decoded(model: FloatModel, texts: Texts, batch: int) -> Rows:
    found = {
        (number, place): _row(logits_V) for number, place, logits_V in model.decode(texts, batch)
    }
    return [found[n, place] for n, text in enumerate(texts) for place in range(len(text))]


def _row(logits_V: F32) -> tuple[int, int]:
    return row_hash(logits_V), int(logits_V.argmax())
