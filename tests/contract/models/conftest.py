from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy

from tidegate.models import ngram
from tidegate.models.exact.backends import build, names
from tidegate.models.exact.model import ExactModel
from tidegate.models.exact.ops_numpy import NumpyLinear, NumpyOps
from tidegate.models.exact.parameters import parameters_of
from tidegate.models.exact.seeded import tensors_of
from tidegate.models.exact.shape import Shape
from tidegate.models.mixture import EXTRA_ROWS, MixtureManifest, MixtureModel
from tidegate.models.ngram_tables import NgramManifest, Smoothing, count
from tidegate.models.port import Model, ModelInfo
from tidegate.models.prepared import Dtype
from tidegate.models.replay_exact import ExactReplay
from tidegate.models.replay_port import Replay

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

TINY = {
    "vocab_size": 211,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 600,
    "eos_token_id": 2,
}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random-weight Llama as `save_pretrained` writes it."""
    pytest.importorskip("transformers", reason="needs tidegate[torch]")
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-llama")
    torch.manual_seed(7)
    model = LlamaForCausalLM(LlamaConfig(**TINY))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)  # spreads the logits, so that a wrong mask is seen
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random-weight Llama of about the same shape as GGUF, without a vocabulary."""
    gguf = pytest.importorskip("gguf", reason="needs tidegate[torch] to write GGUF")
    path = tmp_path_factory.mktemp("tiny-gguf") / "tiny.gguf"
    size, wide, heads, kv_heads = 96, 128, 6, 2  # llama.cpp wants rows in multiples of 32
    head = size // heads
    noise = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(TINY["num_hidden_layers"])
    writer.add_context_length(TINY["max_position_embeddings"])
    writer.add_embedding_length(size)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(TINY["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    shapes = {"token_embd": (TINY["vocab_size"], size), "output": (TINY["vocab_size"], size)}
    norms = ["output_norm"]
    for layer in range(TINY["num_hidden_layers"]):
        block = f"blk.{layer}."
        norms += [block + "attn_norm", block + "ffn_norm"]
        shapes |= {
            block + "attn_q": (size, size),
            block + "attn_k": (kv_heads * head, size),
            block + "attn_v": (kv_heads * head, size),
            block + "attn_output": (size, size),
            block + "ffn_gate": (wide, size),
            block + "ffn_up": (wide, size),
            block + "ffn_down": (size, wide),
        }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", noise.normal(0, 0.1, shape).astype(np.float32))
    for name in norms:
        writer.add_tensor(f"{name}.weight", np.ones(size, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@dataclass(frozen=True)
class Adapter:
    """Opens fresh instances. `tolerance`: nats a logit may move when a sequence is batched."""

    open: Callable[[], Model]
    tolerance: float

    def __call__(self) -> Model:
        return self.open()


@pytest.fixture(scope="session")
def tiny_ngram(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An n-gram over the same vocabulary, counted from a made-up text."""
    text = [(7 * place + place * place // 3) % 190 + 3 for place in range(900)]
    folder = tmp_path_factory.mktemp("tiny-ngram")
    tables = count([(text[:9], text[9:])], order=4, vocab_size=TINY["vocab_size"])
    data = safetensors.numpy.save(tables)
    (folder / "tables.safetensors").write_bytes(data)
    manifest = NgramManifest(
        name="tiny n-gram",
        licence="Apache-2.0",
        provenance="made up",
        parameters=sum(table.size for table in tables.values()),
        training_tokens=891,
        vocab_size=TINY["vocab_size"],
        eos_ids=(2,),
        vocabulary_hash="",
        tables_file="tables.safetensors",
        tables_sha256=hashlib.sha256(data).hexdigest(),
        smoothing=Smoothing(
            discounts=(0.7, 0.8, 0.9),
            cache_weights=(2.0, 4.0, 8.0, 1.0),
            cache_backoffs=(5.0, 3.0, 2.0, 1.0),
            prior_weight=9.0,
            prior_offset=20.0,
        ),
    )
    path = folder / "ngram.json"
    path.write_bytes(msgspec.json.encode(manifest))
    return path


def tiny_mixture(ngram_manifest: Path) -> MixtureModel:
    """A student drawn from a seed, in numpy, beside the small n-gram."""
    tokens = tuple(range(3, TINY["vocab_size"], 2))
    longest = TINY["max_position_embeddings"]
    shape = Shape(
        family="llama",
        vocab_size=len(tokens) + EXTRA_ROWS,
        width=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_size=8,
        ffn_size=48,
        context_length=longest,
        eps=1e-5,
        rope_theta=10_000.0,
        qkv_bias=False,
        tied=True,
    )
    tensors = tensors_of(shape, "contract")
    parameters = parameters_of(shape, tensors)
    counts = ngram.load(ngram_manifest, context_length=longest)
    info = counts.describe()
    student = ExactModel(
        parameters,
        NumpyLinear(shape, tensors),
        NumpyOps(parameters),
        info=info,
        fingerprint="seed",
        eos_ids=frozenset(),
    )
    manifest = MixtureManifest(
        name=info.name,
        licence=info.licence,
        provenance=info.provenance,
        parameters=shape.parameters,
        training_tokens=0,
        vocab_size=counts.vocab_size,
        eos_ids=(2,),
        vocabulary_hash="",
        student="",
        student_root="",
        ngram=counts.fingerprint,
        tokens=tokens,
    )
    return MixtureModel(manifest, student, counts)


def tiny_exact(backend: str) -> ExactModel:
    """A random-weight model of the same size on the exact engine."""
    shape = Shape(
        family="llama",
        vocab_size=TINY["vocab_size"],
        width=TINY["hidden_size"],
        layers=TINY["num_hidden_layers"],
        heads=TINY["num_attention_heads"],
        kv_heads=TINY["num_key_value_heads"],
        head_size=16,
        ffn_size=TINY["intermediate_size"],
        context_length=TINY["max_position_embeddings"],
        eps=1e-5,
        rope_theta=10_000.0,
        qkv_bias=True,
        tied=True,
    )
    tensors = tensors_of(shape, "contract")
    parameters = parameters_of(shape, tensors)
    engine = build(backend, parameters, tensors)
    return ExactModel(
        parameters,
        engine.linear,
        engine.ops,
        info=ModelInfo(
            name="tiny",
            parameters=shape.parameters,
            licence="Apache-2.0",
            provenance="derived from a seed",
            numerics=engine.name,
        ),
        fingerprint="contract",
        eos_ids=frozenset({2}),
        pass_rows=64,
    )


@pytest.fixture(
    params=[
        "transformers-float32",
        "transformers-bfloat16",
        "ngram",
        "mixture",
        "exact-native-avx2",
        "exact-torch-int_mm",
        "llama.cpp",
    ]
)
def open_model(request: pytest.FixtureRequest) -> Adapter:
    """Opens a fresh instance of one adapter; the suite runs once for each."""
    kind: str = request.param
    if kind == "ngram":
        manifest = request.getfixturevalue("tiny_ngram")
        return Adapter(
            lambda: ngram.load(manifest, context_length=TINY["max_position_embeddings"]), 0.0
        )
    if kind == "mixture":
        counts = request.getfixturevalue("tiny_ngram")
        return Adapter(lambda: tiny_mixture(counts), 0.0)
    if kind.startswith("exact-"):
        backend = kind.removeprefix("exact-")
        if backend not in names():
            pytest.skip(f"this machine has no {backend}")
        return Adapter(lambda: tiny_exact(backend), 0.0)
    if kind == "llama.cpp":
        pytest.importorskip("llama_cpp", reason="needs tidegate[llama]")
        from tidegate.models import llamacpp

        gguf = request.getfixturevalue("tiny_gguf")
        return Adapter(lambda: llamacpp.load(gguf, threads=1, cells=2048, sequences=16), 0.05)
    folder = request.getfixturevalue("tiny_folder")
    from tidegate.models import transformers_torch

    dtype: Dtype = "bfloat16" if kind.endswith("bfloat16") else "float32"
    # bfloat16 keeps 8 bits: a logit of 4 to 8 comes in steps of 1/32.
    return Adapter(
        lambda: transformers_torch.load(folder, dtype=dtype, threads=1),
        0.1 if dtype == "bfloat16" else 1e-3,
    )


@dataclass(frozen=True)
class Twins:
    """Opens a model to decode with and one to replay on; `tolerance` as `Adapter`."""

    open: Callable[[], tuple[Model, Replay]]
    tolerance: float


@pytest.fixture(scope="session")
def vllm_replay(tiny_folder: Path) -> Iterator[Replay]:
    """The small Llama behind the server that `replay_vllm` speaks to."""
    from pooling_server import PoolingServer
    from vllm_server import running

    from tidegate.models import transformers_torch
    from tidegate.models.replay_vllm import VllmReplay, open_head

    model = transformers_torch.load(tiny_folder, dtype="float32", threads=1)
    with running(PoolingServer(model)) as server:
        replay = VllmReplay(server.url, open_head(tiny_folder, "float32"), accepted="")
        yield replay
        replay.close()


@pytest.fixture(params=["transformers", "vllm", "exact-native-avx2", "exact-numpy", "llama.cpp"])
def twins(request: pytest.FixtureRequest) -> Twins:
    """Two instances of one model, behind both ports."""
    kind: str = request.param
    if kind.startswith("exact-"):
        backend = kind.removeprefix("exact-")
        if backend not in names():
            pytest.skip(f"this machine has no {backend}")
        return Twins(lambda: (tiny_exact(backend), ExactReplay(tiny_exact(backend))), 0.0)
    if kind == "llama.cpp":
        pytest.importorskip("llama_cpp", reason="needs tidegate[llama]")
        from tidegate.models import llamacpp
        from tidegate.models.replay_llama_cpp import LlamaCppReplay

        gguf = request.getfixturevalue("tiny_gguf")

        def both() -> tuple[Model, Replay]:
            one, other = (llamacpp.load(gguf, threads=1, cells=2048, sequences=4) for _ in "12")
            return one, LlamaCppReplay(other)

        return Twins(both, 0.05)
    folder = request.getfixturevalue("tiny_folder")
    from tidegate.models import transformers_torch
    from tidegate.models.replay_transformers import TransformersReplay

    if kind == "vllm":
        replay = request.getfixturevalue("vllm_replay")
        return Twins(
            lambda: (transformers_torch.load(folder, dtype="float32", threads=1), replay), 1e-3
        )

    def pair() -> tuple[Model, Replay]:
        one, other = (transformers_torch.load(folder, dtype="float32", threads=1) for _ in range(2))
        return one, TransformersReplay(other)

    return Twins(pair, 1e-3)
