"""Models small enough to start two real halves in seconds, and a meter for what crosses between.

The tokenizer has one token a printable letter and two that end a turn. The strong model is a random
Llama, the weak one an n-gram or another Llama. All are written as files, so that the halves load
them as they load anybody's.
"""

from __future__ import annotations

import hashlib
import json
import socket
import string
import threading
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import safetensors.numpy
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tidegate.config import Budget, Inner, Link, Models, Outer, Settings
from tidegate.models import tokenizer
from tidegate.models.ngram_tables import NgramManifest, Smoothing, count

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}: {{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
)
LETTERS = string.printable[:95]
CONTEXT = 1200
ENDS = (96, 97)
VOCABULARY = 98
HIDDEN, HEADS, LAYERS = 32, 4, 2


def write_tokenizer(folder: Path) -> None:
    """One token a letter, in the order of `LETTERS`; whatever else a text holds is left out."""
    names = ("Ġ" if letter == " " else letter for letter in LETTERS)
    backend = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    backend.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": list(ENDS)}))


def write_llama(folder: Path, seed: int, blur: float = 0.0) -> Path:
    """A random Llama with its tokenizer; `blur` moves the weights of the same seed a little."""
    folder.mkdir(parents=True)
    write_tokenizer(folder)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "eos_token_id": list(ENDS),
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"model.embed_tokens": (VOCABULARY, HIDDEN), "lm_head": (VOCABULARY, HIDDEN)}
    norms = ["model.norm"]
    for layer in range(LAYERS):
        block = f"model.layers.{layer}."
        norms += [block + "input_layernorm", block + "post_attention_layernorm"]
        shapes |= {f"{block}self_attn.{p}_proj": (HIDDEN, HIDDEN) for p in "qkvo"}
        shapes |= {f"{block}mlp.{p}_proj": (HIDDEN, HIDDEN) for p in ("gate", "up", "down")}
    noise, more = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    tensors = {
        f"{name}.weight": (
            0.35 * (noise.standard_normal(shape) + blur * more.standard_normal(shape))
        ).astype(np.float32)
        for name, shape in shapes.items()
    }
    tensors |= {f"{name}.weight": np.ones(HIDDEN, np.float32) for name in norms}
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_ngram(folder: Path, strong: Path) -> Path:
    """An n-gram for the tokenizer of `strong`; returns its manifest's path."""
    folder.mkdir(parents=True)
    words = tokenizer.load(strong)
    text = words.encode("the tide turns at the gate, and the gate turns with the tide. " * 4)
    tables = count([(text[:5], text[5:])], order=3, vocab_size=VOCABULARY)
    data = safetensors.numpy.save(tables)
    (folder / "tables.safetensors").write_bytes(data)
    manifest = NgramManifest(
        name="tiny n-gram",
        licence="Apache-2.0",
        provenance="made up",
        parameters=sum(table.size for table in tables.values()),
        training_tokens=len(text),
        vocab_size=VOCABULARY,
        eos_ids=ENDS,
        vocabulary_hash=words.vocabulary_hash,
        tables_file="tables.safetensors",
        tables_sha256=hashlib.sha256(data).hexdigest(),
        smoothing=Smoothing(
            discounts=(0.7, 0.8),
            cache_weights=(2.0, 4.0, 8.0),
            cache_backoffs=(5.0, 3.0, 2.0),
            prior_weight=9.0,
            prior_offset=20.0,
        ),
    )
    path = folder / "ngram.json"
    path.write_bytes(msgspec.json.encode(manifest))
    return path


def settings(folder: Path, strong: Path, weak: Path, **changes: dict[str, object]) -> Settings:
    """Settings of both halves with everything under `folder`; `changes` by section."""
    sections: dict[str, dict[str, object]] = {
        "models": {
            "strong": str(strong),
            "weak": str(weak),
            "dtype": "float32",
            "parameters": 9_000_000_000,
            "threads": 1,
        },
        "link": {"address": str(folder / "link.sock"), "secret_file": folder / "link.secret"},
        "outer": {
            "port": 0,
            "demo_key": True,
            "key_file": folder / "keys.json",
            "seed_key_file": folder / "seed.key",
            "ledger": folder / "outer.sqlite",
        },
        "inner": {
            "ledger": folder / "inner.sqlite",
            "review_address": str(folder / "review.sock"),
        },
        "budget": {"profile": "testing-only"},
    }
    for section, values in changes.items():
        sections[section] |= values
    return Settings(
        models=Models.model_validate(sections["models"]),
        link=Link.model_validate(sections["link"]),
        outer=Outer.model_validate(sections["outer"]),
        inner=Inner.model_validate(sections["inner"]),
        budget=Budget.model_validate(sections["budget"]),
    )


class Meter:
    """Stands between the halves and counts the bytes that leave the inner one.

    Listens on `outside`; every connection is passed on to `inside`. `upward` is what an observer of
    the wire would have counted.
    """

    def __init__(self, outside: Path, inside: Path) -> None:
        self.upward = 0
        self._inside = inside
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(outside))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                outer, _ = self._listener.accept()
                inner = socket.socket(socket.AF_UNIX)
                try:
                    inner.connect(str(self._inside))
                except OSError:
                    outer.close()
                    continue
                for source, target, counted in ((outer, inner, False), (inner, outer, True)):
                    threading.Thread(
                        target=self._pass, args=(source, target, counted), daemon=True
                    ).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if counted:
                    with self._lock:
                        self.upward += len(data)
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
