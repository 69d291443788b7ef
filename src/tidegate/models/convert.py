"""GGUF to safetensors, once: `python -m tidegate.models.convert FILE FOLDER DTYPE`.

Prints one line, `<parameters> <library versions>`. `save_pretrained` refuses a model that came from
GGUF, so the tensors and the configuration are written here.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import gguf
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, pre_tokenizers


def convert(source: Path, folder: Path, dtype: torch.dtype) -> int:
    """Write model.safetensors, configs and tokenizer into `folder`; returns the parameter count."""
    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=dtype)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        for copy in model._tied_weights_keys:
            tensors.pop(copy, None)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict()
    config.pop("quantization_config", None)
    config.pop("_name_or_path", None)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True))
    model.generation_config.save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
    tokenizer.save_pretrained(folder)
    _mend_digits(source, folder / "tokenizer.json")
    return sum(tensor.numel() for tensor in tensors.values())


def _mend_digits(source: Path, tokenizer_json: Path) -> None:
    """Split digits one by one where the GGUF says so; the library's conversion leaves that out."""
    field = gguf.GGUFReader(source).fields.get("tokenizer.ggml.pre")
    if field is None or field.contents() != "smollm":
        return
    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.save(str(tokenizer_json))


def main(arguments: list[str]) -> None:
    """Entry point of the conversion process."""
    source, folder, dtype = arguments
    count = convert(
        Path(source), Path(folder), {"bfloat16": torch.bfloat16}.get(dtype, torch.float32)
    )
    libraries = ("transformers", "torch", "gguf", "safetensors")
    print(count, ", ".join(f"{library} {version(library)}" for library in libraries))


if __name__ == "__main__":
    main(sys.argv[1:])
