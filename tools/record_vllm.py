"""Record what vLLM does with the plug-in: answers, refusals, and the interfaces it calls us by.

    $TIDEGATE_VLLM_PYTHON tools/record_vllm.py MODEL_FOLDER first > …/vllm_0_32_0.json
    $TIDEGATE_VLLM_PYTHON tools/record_vllm.py MODEL_FOLDER second > …/vllm_0_32_0_second.json

Run in vLLM's environment, on SmolLM2 in float32; the recordings lie in `tests/contract/models/`.
`first` and `second` are vLLM's model runners. The second needs Triton, which has no backend for
CPUs here, so its kernels run in Triton's own interpreter: slow, and the same results.

The engine is made small on purpose: prompts are read in pieces, more requests come than there are
places, and memory runs out under long answers, so that rows come, go, move and are put back.
"""

# ruff: noqa: E402 - vLLM reads the environment when it is imported.

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import sys
from types import SimpleNamespace
from typing import Any

RUNNER = sys.argv[2]
os.environ |= {
    "VLLM_USE_V2_MODEL_RUNNER": "1" if RUNNER == "second" else "0",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}

if RUNNER == "second":
    os.environ["TRITON_INTERPRET"] = "1"
    from triton.backends import backends

    backends["cpu"] = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True))

from vllm import LLM, SamplingParams, __version__
from vllm.engine.arg_utils import EngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import RepetitionDetectionParams, StructuredOutputsParams
from vllm.v1.sample.logits_processor import interface as first
from vllm.v1.worker.gpu.sample.logits_processor import interface as second

from tidegate.models.vllm_contract import Draw, RefusedError, extra_args
from tidegate.models.vllm_sampler import Sampler
from tidegate.sampling import params as ours

LONG = "Harbour lights and tide tables. " * 24
PROMPTS = (
    "The tide comes in when",
    "def gate(",
    LONG + "In short,",
    "1, 2, 3,",
    "Once",
    LONG + "So",
)
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "plain": {},
    "top-p": {"temperature": 0.7, "top_p": 0.9},
    "top-k": {"temperature": 0.7, "top_k": 40},
    "all filters": {"temperature": 1.3, "top_k": 200, "top_p": 0.95, "min_p": 0.02},
    "penalties": {
        "temperature": 0.8,
        "presence_penalty": 0.6,
        "frequency_penalty": 0.4,
        "repetition_penalty": 1.1,
    },
    "penalties without temperature": {"temperature": 0.0, "repetition_penalty": 1.3},
    "bias": {"temperature": 0.9, "logit_bias": ((28, 3.5), (198, -8.0))},
}
SEEDED = {"tidegate_version": 1, "tidegate_seed": "11" * 32}
REFUSED: dict[str, dict[str, Any]] = {
    "no seed": {"temperature": 0.7},
    "another contract": {"temperature": 0, "extra_args": SEEDED | {"tidegate_version": 2}},
    "half a seed": {"temperature": 0, "extra_args": SEEDED | {"tidegate_seed": "11" * 16}},
    "an argument that there is not": {
        "temperature": 0,
        "extra_args": SEEDED | {"tidegate_speed": 3},
    },
    "a parameter out of range": {"temperature": 0, "extra_args": SEEDED | {"tidegate_top_p": 2.0}},
    "vLLM asked to sample": {"temperature": 0.7, "extra_args": SEEDED},
    "vLLM's penalties": {"temperature": 0, "presence_penalty": 0.5, "extra_args": SEEDED},
    "vLLM's biases": {"temperature": 0, "logit_bias": {5: 1.0}, "extra_args": SEEDED},
    "min_tokens": {"temperature": 0, "min_tokens": 2, "extra_args": SEEDED},
    "bad_words": {"temperature": 0, "bad_words": ["tide"], "extra_args": SEEDED},
    "allowed tokens": {"temperature": 0, "allowed_token_ids": [5], "extra_args": SEEDED},
    "a grammar": {
        "temperature": 0,
        "structured_outputs": StructuredOutputsParams(regex="a+"),
        "extra_args": SEEDED,
    },
    "repetition detection": {
        "temperature": 0,
        "repetition_detection": RepetitionDetectionParams(3, 1, 2),
        "extra_args": SEEDED,
    },
}
STARTS: dict[str, dict[str, Any]] = {
    "speculative decoding": {
        "speculative_config": {
            "method": "ngram",
            "num_speculative_tokens": 2,
            "prompt_lookup_max": 3,
        }
    },
    "LoRA": {"enable_lora": True},
    "prompts of embeddings": {"enable_prompt_embeds": True},
    "another processor": {"logits_processors": ["somebody.elses:Processor"]},
    "ours named twice": {"logits_processors": ["tidegate.models.vllm_sampler:Sampler"]},
}


def answers(folder: str) -> tuple[list[dict[str, Any]], int]:
    """Every prompt at every setting, all at once, in an engine that is too small for them.

    With how often a request had to give up its memory and was put back.
    """
    llm = LLM(
        folder,
        dtype="float32",
        enforce_eager=True,
        max_model_len=288,
        max_num_seqs=6,
        max_num_batched_tokens=48,
        block_size=32,
        num_gpu_blocks_override=12,
        disable_log_stats=False,
    )
    words = llm.get_tokenizer()
    made = []
    for note, fields in SETTINGS.items():
        for prompt in PROMPTS:
            seed = hashlib.sha256(f"{note}/{prompt}".encode()).digest()
            draw = Draw(params=ours.SamplingParams(**fields), seed=seed)
            made.append({"note": note, "prompt": words.encode(prompt), "args": extra_args(draw)})
    lengths = [6 + 5 * (number % 4) for number in range(len(made))]
    outputs = llm.generate(
        [{"prompt_token_ids": one["prompt"]} for one in made],
        [
            SamplingParams(
                temperature=0, max_tokens=length, ignore_eos=True, extra_args=one["args"]
            )
            for one, length in zip(made, lengths, strict=True)
        ],
        use_tqdm=False,
    )
    for one, output in zip(made, outputs, strict=True):
        one["tokens"] = list(output.outputs[0].token_ids)
    if llm.llm_engine.vllm_config.use_v2_model_runner is not (RUNNER == "second"):
        sys.exit("vLLM chose another runner")
    counts = {metric.name: getattr(metric, "value", 0) for metric in llm.get_metrics()}
    return made, int(counts["vllm:num_preemptions"])


def refusals() -> dict[str, str]:
    """What the plug-in says of each request that it does not serve."""
    said = {}
    for note, fields in REFUSED.items():
        try:
            Sampler.validate_params(SamplingParams(**fields))
        except ValueError as error:
            said[note] = str(error)
    return said


def starts(folder: str) -> dict[str, str]:
    """What is said of each way to start vLLM; empty where it may start."""
    said = {}
    for note, options in STARTS.items():
        try:
            EngineArgs(folder, dtype="float32", max_model_len=288, **options).create_engine_config()
            said[note] = ""
        except (RefusedError, VLLMValidationError, ValueError) as error:
            said[note] = str(error).splitlines()[0]
    return said


def interfaces() -> dict[str, list[str]]:
    """Names that the plug-in is called by, and names it reads, in vLLM's order."""
    classes = (
        ("first", first.LogitsProcessor),
        ("second", second.LogitsProcessor),
    )
    found = {
        f"{name}.{method}": list(inspect.signature(function).parameters)
        for name, kind in classes
        for method, function in inspect.getmembers(kind, callable)
        if not method.startswith("__") or method == "__init__"
    }
    values = (first.BatchUpdate, second.LogitsContext, second.LogitsProcRequestState)
    for value in values:
        found[value.__name__] = [field.name for field in dataclasses.fields(value)]
    found["MoveDirectionality"] = [one.name for one in first.MoveDirectionality]
    found["SamplingParams"] = list(SamplingParams.__struct_fields__)
    return found


def main() -> None:
    """Print the recording."""
    folder = sys.argv[1]
    # vLLM prints where it likes.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    given, preemptions = answers(folder)
    recording = {
        "vllm": __version__,
        "runner": RUNNER,
        "interfaces": interfaces(),
        "refusals": refusals(),
        "starts": starts(folder),
        "preemptions": preemptions,
        "answers": given,
    }
    json.dump(recording, out, indent=None, separators=(",", ":"))
    out.write("\n")
    out.close()


if __name__ == "__main__":
    main()
