"""From a float model to a converted folder, layer by layer, on the exact engine's own arithmetic.

Calibration text runs through each layer as soon as it is converted, so that the next one is fitted
to the inputs it will really get. No step depends on a library's rounding: the same source gives the
same root hash on every machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import ModelError
from tidegate.models.cache import Progress, cache_root, exclusive, no_progress, require_space
from tidegate.models.exact import format as folders
from tidegate.models.exact.calibrate import EIGHTHS, TOKENS, calibration_texts, smoothing
from tidegate.models.exact.ops import PAGE, Channels, Quantised, Rows
from tidegate.models.exact.ops_numpy import NumpyOps, product, quantise
from tidegate.models.exact.parameters import Parameters, TableEmbedding
from tidegate.models.exact.rotation import tables
from tidegate.models.exact.shape import HEAD, Shape
from tidegate.models.exact.source import Source, open_source
from tidegate.models.exact.tensorfile import Array
from tidegate.models.exact.weights import integer_rows
from tidegate.models.prepared import MANIFEST, Manifest, content_hash, manifest_of, prepare

MAX_CONTEXT = 8_192

RECIPE = 1
"""Raised with every change that gives other bytes for the same source."""

F32 = NDArray[np.float32]
Named = Iterator[tuple[str, Array]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a conversion may choose. `eighths` are candidates for alpha, in eighths."""

    max_context: int = MAX_CONTEXT
    eighths: tuple[int, ...] = EIGHTHS
    tokens: int = TOKENS


def convert(
    source: Path, out: Path, recipe: Recipe = Recipe(), progress: Progress = no_progress
) -> Manifest:
    """Convert a model folder in Hugging Face's layout into `out`, which must not exist.

    Raises ModelError or IntegrityError naming file and tensor; `out` then does not exist.
    """
    if out.exists():
        raise ModelError(f"{out} exists already; choose another place", file=str(out))
    model = open_source(source, recipe.max_context)
    require_space(out.absolute().parent, 2 * model.shape.parameters)
    return folders.write(
        out,
        model.shape,
        _Conversion(model, recipe, progress).tensors(),
        name=model.manifest.name,
        licence=model.manifest.licence,
        provenance=model.manifest.provenance,
        source_sha256=content_hash(model.manifest),
        made_with=f"tidegate exact convert, recipe {RECIPE}",
        settings={
            "eos_token_id": sorted(model.tokenizer.eos_ids),
            "conversion": {
                "recipe": RECIPE,
                "alpha_eighths": recipe.eighths,
                "calibration_tokens": recipe.tokens,
            },
        },
        files=model.tokenizer_files(),
    )


def prepare_exact(
    spec: str,
    *,
    max_context: int = MAX_CONTEXT,
    cache_dir: Path | None = None,
    progress: Progress = no_progress,
) -> Path:
    """A converted folder: `spec` itself if it is one, else made from it in the cache on first use.

    `spec` is what `prepared.prepare` takes, with or without `exact:` before it. Raises ModelError
    or IntegrityError.
    """
    name = spec.removeprefix("exact:")
    source = prepare(name, cache_dir=cache_dir, progress=progress)
    if folders.is_converted(source):
        return source
    # Weights are hashed when they are converted; here what the manifest says of them will do.
    manifest = manifest_of(source, frozenset() if (source / MANIFEST).exists() else None)
    digest = content_hash(manifest, str(RECIPE), str(max_context))
    folder = (cache_dir or cache_root()) / "models" / f"{manifest.name}-exact-{digest[:12]}"
    with exclusive(folder.with_name(folder.name + ".lock")):
        if not (folder / MANIFEST).exists():
            convert(source, folder, Recipe(max_context), progress)
    return folder


class _Conversion:
    """The state of one conversion: how far calibration text has come through the layers."""

    def __init__(self, model: Source, recipe: Recipe, progress: Progress) -> None:
        self._model = model
        self._recipe = recipe
        self._progress = progress
        self._shape = model.shape
        self._stage = f"converting {model.manifest.name}"

    def tensors(self) -> Named:
        """Every tensor of the converted folder."""
        shape, model = self._shape, self._model
        self._progress(self._stage, 0, shape.layers + 1)
        cos_TR, sin_TR = tables(shape.context_length, shape.head_size, shape.rope_theta)
        yield from (("rope.cos", cos_TR), ("rope.sin", sin_TR))
        embedding = TableEmbedding(
            *integer_rows(model.embedding(), steps=127 if shape.tied else 32_767)
        )
        yield from (("embed.weight", embedding.q_VD), ("embed.scale", embedding.scale_V))
        rows = _rows(calibration_texts(model.tokenizer, self._recipe.tokens), shape)
        # One layer at a time needs keys and values of one layer only.
        alone = dataclasses.replace(shape, layers=1)
        empty = Channels(np.empty(0, np.float32))
        ops = NumpyOps(
            Parameters(
                shape=alone,
                embedding=embedding,
                layers=(),
                norm=np.empty(0, np.float32),
                head=empty,
                cos_TR=cos_TR,
                sin_TR=sin_TR,
            )
        )
        h_ND = ops.embed(*embedding.rows(rows.token_N))
        for layer in range(shape.layers):
            found: dict[str, Array] = {}
            h_ND = self._attention(layer, h_ND, rows, ops, found)
            h_ND = self._mlp(layer, h_ND, ops, found)
            yield from ((f"layers.{layer}.{name}", array) for name, array in found.items())
            self._progress(self._stage, layer + 1, shape.layers + 1)
        gain_D = model.last_norm()
        if not shape.tied:
            w_OK = model.weight(shape.layers, HEAD)
            smooth_K = self._smooth(ops.rms_norm(h_ND, gain_D), w_OK)
            gain_D = gain_D / smooth_K
            weight, scale = integer_rows(w_OK * smooth_K)
            yield from ((f"{HEAD}.weight", weight), (f"{HEAD}.scale", scale))
        yield "norm", gain_D
        self._progress(self._stage, shape.layers + 1, shape.layers + 1)

    def _smooth(self, x_NK: F32, w_OK: F32, group_K: NDArray[np.int64] | None = None) -> F32:
        return smoothing(x_NK, w_OK, self._recipe.eighths, group_K)

    def _attention(
        self, layer: int, h_ND: F32, rows: Rows, ops: NumpyOps, found: dict[str, Array]
    ) -> F32:
        """Convert norm, qkv and o of a layer into `found`; the stream after them."""
        model, shape = self._model, self._shape
        qkv, o = model.weight(layer, "qkv"), model.weight(layer, "o")
        bias = model.bias(layer) if shape.qkv_bias else None
        x, found["attn_norm"], found["qkv.weight"], scale = self._normed(
            ops, h_ND, model.norm(layer, "attn_norm"), qkv
        )
        pool = ops.pool(int(rows.tables_SP.max()) + 1)
        acc = product(x.q, found["qkv.weight"])
        queries = ops.append(acc, x.scale, Channels(scale, bias), rows, pool, 0)
        out_NK = ops.attention(queries, rows, pool, 0)
        group_K = _groups(shape)
        smooth_K = self._smooth(out_NK, o, group_K)
        # What o's inputs are divided by, the values are divided by already.
        values_O = np.ones(len(qkv), np.float32)
        values_O[-shape.kv_heads * shape.head_size :] = smooth_K[np.unique(group_K)]
        found["qkv.scale"] = scale / values_O
        if bias is not None:
            found["qkv.bias"] = bias / values_O
        found["o.weight"], found["o.scale"] = integer_rows(o * smooth_K)
        x = quantise(out_NK / smooth_K)
        acc = product(x.q, found["o.weight"])
        return ops.add(h_ND, acc, x.scale, Channels(found["o.scale"]))

    def _mlp(self, layer: int, h_ND: F32, ops: NumpyOps, found: dict[str, Array]) -> F32:
        """Convert norm, gate_up and down of a layer into `found`; the stream after them."""
        model, shape = self._model, self._shape
        gate_up, down = model.weight(layer, "gate_up"), model.weight(layer, "down")
        x, found["mlp_norm"], found["gate_up.weight"], scale = self._normed(
            ops, h_ND, model.norm(layer, "mlp_norm"), gate_up
        )
        acc = product(x.q, found["gate_up.weight"])
        m_NK = ops.swiglu(acc, x.scale, Channels(scale))
        smooth_K = self._smooth(m_NK, down)
        # Down's inputs grow with up, so up is divided by what they are to be divided by.
        found["gate_up.scale"] = np.concatenate(
            [scale[: shape.ffn_size], scale[shape.ffn_size :] / smooth_K]
        )
        found["down.weight"], found["down.scale"] = integer_rows(down * smooth_K)
        x = quantise(m_NK / smooth_K)
        acc = product(x.q, found["down.weight"])
        return ops.add(h_ND, acc, x.scale, Channels(found["down.scale"]))

    def _normed(
        self, ops: NumpyOps, h_ND: F32, gain_D: F32, w_OK: F32
    ) -> tuple[Quantised, F32, Array, F32]:
        """A product behind a norm: its input, the norm's new gain, integer weight and scale."""
        smooth_K = self._smooth(ops.rms_norm(h_ND, gain_D), w_OK)
        gain_D = gain_D / smooth_K
        weight, scale = integer_rows(w_OK * smooth_K)
        return ops.normalise(h_ND, gain_D), gain_D, weight, scale


def _groups(shape: Shape) -> NDArray[np.int64]:
    """For each input channel of o, the first of those that carry the same value channel."""
    heads = shape.heads // shape.kv_heads * np.arange(shape.kv_heads)
    first = np.repeat(heads, shape.heads // shape.kv_heads) * shape.head_size
    return (first[:, None] + np.arange(shape.head_size)).reshape(-1)


def _rows(texts: Sequence[Sequence[int]], shape: Shape) -> Rows:
    """All texts as sequences of one pass, each in pages of its own."""
    texts = [text[: shape.context_length] for text in texts]
    lengths = [len(text) for text in texts]
    pages = [-(-length // PAGE) for length in lengths]
    tables_SP = np.zeros((len(texts), max(pages)), np.int32)
    for sequence, (first, count) in enumerate(zip(np.cumsum([0, *pages]), pages, strict=False)):
        tables_SP[sequence, :count] = np.arange(first, first + count)
    return Rows(
        token_N=np.concatenate([np.asarray(text, np.int32) for text in texts]),
        sequence_N=np.repeat(np.arange(len(texts), dtype=np.int32), lengths),
        position_N=np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        tables_SP=tables_SP,
        last_L=np.empty(0, np.int32),
        ids=tuple(range(len(texts))),
    )
