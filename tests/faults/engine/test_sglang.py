"""SGLang servers that are not as they should be, and requests that should not be served."""

from __future__ import annotations

import importlib
import json
import pickletools
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from link_world import VOCABULARY
from sglang_server import SglangServer
from vllm_server import running

from tidegate.errors import EngineError
from tidegate.models.engine_port import Ask, EngineLostError, EngineRefusedError
from tidegate.models.engine_replicas import Replicas
from tidegate.models.engine_sglang import Sglang
from tidegate.models.sglang_contract import (
    ENTRY_POINT_GROUP,
    PROCESSOR,
    UNSEEDED_VARIABLE,
    check_request,
)
from tidegate.models.sglang_plugin import check, install, processor_of
from tidegate.models.vllm_contract import Draw, extra_args
from tidegate.sampling.params import SamplingParams

ROOT = Path(__file__).resolve().parents[3]
SEED = bytes(range(32))
ASK = Ask(prompt=(3, 5), seed=SEED, params=SamplingParams(temperature=0.8), max_tokens=6)
ARGS = extra_args(Draw(params=ASK.params, seed=SEED))
GOOD = {"temperature": 0.0, "custom_params": ARGS}


def opened(server: SglangServer, accepted: str = "0.5.23") -> Replicas:
    return Replicas(Sglang(accepted=accepted), [server.url], vocab_size=VOCABULARY)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: setattr(s, "plugin", False), "plug-in is not installed"),
        (lambda s: setattr(s, "version", "0.6.0"), "never been run"),
        (lambda s: s.settings.update(disable_overlap_schedule=False), "disable-overlap-schedule"),
        (lambda s: s.settings.pop("disable_overlap_schedule"), "disable-overlap-schedule"),
        (lambda s: s.settings.update(speculative_algorithm="EAGLE"), "speculative"),
        (lambda s: s.settings.update(enable_custom_logit_processor=False), "custom-logit"),
        (lambda s: s.settings.update(incremental_streaming_output=True), "incremental"),
        (lambda s: s.settings.update(enable_lora=True), "LoRA"),
        (lambda s: setattr(s, "short_ids", True), "ended after 1 token"),
    ],
)
def test_a_server_that_is_not_as_it_should_be_is_refused(
    spoil: Callable[[SglangServer], None], said: str
):
    server = SglangServer()
    spoil(server)
    with running(server), pytest.raises(EngineRefusedError, match=said) as refused:
        opened(server)
    assert server.url in refused.value.message


def test_a_server_without_the_plug_in_is_never_sent_what_it_would_unpickle():
    server = SglangServer(plugin=False)
    with running(server), pytest.raises(EngineRefusedError):
        opened(server)
    assert server.asked
    assert not [body for body in server.asked if "custom_logit_processor" in body]


def test_no_version_is_accepted_unless_its_operator_names_it():
    server = SglangServer()
    with running(server), pytest.raises(EngineRefusedError, match="never been run"):
        Replicas(Sglang(), [server.url], vocab_size=VOCABULARY)


def test_an_aborted_answer_is_lost_and_not_shortened():
    server = SglangServer()
    with running(server):
        engine = opened(server)
        server.abort_after = 3
        drawing = engine.start(ASK)
        drawing.take()
        drawing.take()
        with pytest.raises(EngineLostError):
            drawing.take()
        engine.close()


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"temperature": 0.7}, "engine_sampling"),
        ({"min_p": 0.1}, "engine_sampling"),
        ({"top_p": 0.9}, "engine_sampling"),
        ({"sampling_seed": 3}, "engine_sampling"),
        ({"frequency_penalty": 0.5}, "penalties"),
        ({"repetition_penalty": 1.2}, "penalties"),
        ({"logit_bias": {"3": 1.0}}, "logit_bias"),
        ({"min_new_tokens": 3}, "min_tokens"),
        ({"regex": "a+"}, "structured_output"),
        ({"json_schema": "{}"}, "structured_output"),
        ({"ebnf": "root ::= x"}, "structured_output"),
        ({"structural_tag": "{}"}, "structured_output"),
        ({"n": 2}, "several_choices"),
        ({"custom_params": None}, "contract_version"),
        ({"custom_params": {**ARGS, "tidegate_version": 9}}, "contract_version"),
        ({"custom_params": {**ARGS, "tidegate_seed": "ab"}}, "seed"),
        ({"custom_params": {**ARGS, "tidegate_new": 1}}, "unknown_argument"),
    ],
)
def test_unsound_features_are_refused_by_name_when_the_request_comes(
    change: dict[str, object], refusal: str
):
    request = SimpleNamespace(custom_logit_processor=PROCESSOR, sampling_params=GOOD | change)
    with pytest.raises(ValueError, match=f"tidegate refuses {refusal}:"):
        check(None, request, [1])


def test_a_foreign_processor_is_refused_before_it_is_read():
    with pytest.raises(ValueError, match="refuses other_processors"):
        check_request('{"callable": "80049521"}', GOOD)
    with pytest.raises(ValueError, match="refuses other_processors"):
        processor_of(None, '{"callable": "80049521"}')


def test_unseeded_sampling_is_refused_unless_it_is_allowed(monkeypatch: pytest.MonkeyPatch):
    request = SimpleNamespace(custom_logit_processor=None, sampling_params={"temperature": 0.7})
    with pytest.raises(ValueError, match="refuses unseeded"):
        check(None, request)
    monkeypatch.setenv(UNSEEDED_VARIABLE, "allow")
    check(None, request)


def test_greedy_requests_and_embeddings_are_none_of_the_plug_ins_business():
    request = SimpleNamespace(custom_logit_processor=None, sampling_params={"temperature": 0})
    check(None, request)
    check(None, SimpleNamespace(sampling_params=None))


def test_rows_without_our_parameters_stop_the_batch():
    processor = processor_of(None, PROCESSOR)
    with pytest.raises(EngineError):
        processor(torch.zeros(1, 9), [None])
    with pytest.raises(EngineError):
        processor(torch.zeros(2, 9), [{**ARGS}])


def test_the_entry_point_leads_to_the_plug_in():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"][ENTRY_POINT_GROUP]["tidegate"].partition(":")
    assert getattr(importlib.import_module(module), name) is install


def test_the_plug_in_needs_nothing_that_sglang_lacks():
    """Installed with --no-deps: beside the standard library it finds what SGLang brings."""
    program = (
        "import sys\n"
        "for name in ('structlog', 'starlette', 'httpx2', 'pydantic', 'pydantic_settings',"
        " 'typer', 'rich', 'lxml', 'cryptography', 'transformers', 'dill', 'sglang'):"
        " sys.modules[name] = None\n"
        "import tidegate.models.sglang_plugin as plugin\n"
        "from tidegate.models.sglang_contract import PROCESSOR\n"
        "print(type(plugin.processor_of(None, PROCESSOR)).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "Seeded\n", done.stderr


def test_the_text_names_our_class_and_is_never_a_program():
    raw = bytes.fromhex(json.loads(PROCESSOR)["callable"])
    operations = [code.name for code, _, _ in pickletools.genops(raw)]
    assert operations == ["GLOBAL", "STOP"]
    module, name = next(pickletools.genops(raw))[1].split(" ")
    assert getattr(importlib.import_module(module), name).__name__ == "Seeded"
