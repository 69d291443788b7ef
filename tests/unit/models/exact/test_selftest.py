"""A machine that computes one bit wrong does not serve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from exact_models import shape_of, tensors

from tidegate.errors import ConfigError, ModelError
from tidegate.models.exact import backends, selftest
from tidegate.models.exact.backends import Engine, build, default_threads, names
from tidegate.models.exact.ops import Linear, Ops, Quantised
from tidegate.models.exact.parameters import parameters_of
from tidegate.models.exact.selftest import Finding, choose, examine, require_arithmetic

SHAPE = shape_of(layers=1)
WEIGHTS = tensors(SHAPE)
PARAMETERS = parameters_of(SHAPE, WEIGHTS)

NATIVE = names()[0]


@pytest.mark.parametrize("backend", names())
def test_every_back_end_gives_the_known_answers(backend: str):
    assert examine(backend).differs == ""


def test_threads_change_nothing():
    assert examine(NATIVE, threads=2, rounds=3).differs == ""


class Saturating:
    """Products as processors without the right instruction give them: pairs clipped to int16."""

    def __init__(self, linear: Linear, weights: dict[str, Any]) -> None:
        self._weights = weights
        self._linear = linear

    def begin(self, rows: Any) -> None:
        self._linear.begin(rows)

    def multiply(self, layer: int, op: str, q_NK: Any) -> Any:
        acc_NO = np.array(self._linear.multiply(layer, op, q_NK))
        return np.where(acc_NO > 2**31 - 2**26, acc_NO - 1, acc_NO)


class Wrong:
    """Operations with one bit of one result changed."""

    def __init__(self, ops: Ops, operation: str) -> None:
        self._ops = ops
        self._operation = operation

    def __getattr__(self, name: str) -> Any:
        right = getattr(self._ops, name)
        if name != self._operation:
            return right

        def wrong(*arguments: Any) -> Any:
            result = right(*arguments)
            first = result[0] if isinstance(result, tuple) else result
            first = np.array(first)
            first.view(np.uint8).flat[first.nbytes // 2 & ~3] ^= 1
            return result._replace(q=first) if isinstance(result, tuple) else first

        return wrong


def _sabotage(monkeypatch: pytest.MonkeyPatch, change: Callable[[Engine, Any], Engine]) -> None:
    def wrong(name: str, parameters: Any, weights: Any, **more: Any) -> Engine:
        return change(build(name, parameters, weights, **more), weights)

    monkeypatch.setattr(selftest, "build", wrong)


@pytest.mark.parametrize("operation", ["normalise", "append", "attend", "add", "gate", "logits"])
def test_one_wrong_bit_in_an_operation_is_found_and_named(
    monkeypatch: pytest.MonkeyPatch, operation: str
):
    _sabotage(monkeypatch, lambda engine, _: engine._replace(ops=Wrong(engine.ops, operation)))
    assert operation in examine(NATIVE).differs


def test_a_product_that_saturates_is_found(monkeypatch: pytest.MonkeyPatch):
    _sabotage(
        monkeypatch,
        lambda engine, weights: engine._replace(linear=Saturating(engine.linear, weights)),
    )
    assert "largest products" in examine(NATIVE).differs


def test_products_that_differ_between_batches_are_found(monkeypatch: pytest.MonkeyPatch):
    class Batchy(Saturating):
        def multiply(self, layer: int, op: str, q_NK: Any) -> Any:
            acc_NO = np.array(self._linear.multiply(layer, op, q_NK))
            return acc_NO + (len(acc_NO) == 80)

    _sabotage(
        monkeypatch, lambda engine, weights: engine._replace(linear=Batchy(engine.linear, weights))
    )
    assert "one pass" in examine(NATIVE).differs


def test_nothing_is_served_where_every_back_end_differs(monkeypatch: pytest.MonkeyPatch):
    _sabotage(monkeypatch, lambda engine, _: engine._replace(ops=Wrong(engine.ops, "gate")))
    monkeypatch.setattr(selftest, "names", lambda device="cpu": ["native-portable", "numpy"])
    with pytest.raises(ModelError, match=r"nothing is served.*native-portable.*numpy"):
        choose(PARAMETERS, WEIGHTS, threads=1)


def test_a_back_end_that_differs_gives_way_to_one_that_does_not(monkeypatch: pytest.MonkeyPatch):
    _sabotage(
        monkeypatch,
        lambda engine, _: (
            engine._replace(ops=Wrong(engine.ops, "gate")) if engine.name == "numpy" else engine
        ),
    )
    monkeypatch.setattr(selftest, "names", lambda device="cpu": ["numpy", "native-portable"])
    assert choose(PARAMETERS, WEIGHTS, threads=1).name == "native-portable"
    with pytest.raises(ModelError, match="numpy differs"):
        choose(PARAMETERS, WEIGHTS, threads=1, backend="numpy")


def test_the_fastest_equal_back_end_is_taken(monkeypatch: pytest.MonkeyPatch):
    speed = {"native-portable": 1.0, NATIVE: 2.0}
    monkeypatch.setattr(selftest, "_likely", lambda device: list(speed)[::-1])
    monkeypatch.setattr(selftest, "_seconds", lambda name, shape, threads: speed[name])
    assert choose(PARAMETERS, WEIGHTS, threads=1).name == "native-portable"


def test_torch_is_tried_at_a_start_only_where_it_can_be_faster(monkeypatch: pytest.MonkeyPatch):
    tried: list[str] = []

    def examine(name: str, **_: object) -> Finding:
        tried.append(name)
        return Finding(name, "", 0.0)

    monkeypatch.setattr(selftest, "examine", examine)
    for has_unit, expected in ((False, [NATIVE]), (True, [NATIVE, "native-int_mm"])):
        tried.clear()
        monkeypatch.setattr(selftest, "_has_matrix_unit", lambda has_unit=has_unit: has_unit)
        choose(PARAMETERS, WEIGHTS, threads=1)
        assert tried == [name for name in expected if name in names()]


def test_flushed_denormals_are_noticed():
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    try:
        with pytest.raises(ModelError, match="denormals"):
            require_arithmetic()
    finally:
        torch.set_flush_denormal(False)
    require_arithmetic()


def test_the_kernels_keep_denormals_whatever_the_thread_is_set_to():
    torch = pytest.importorskip("torch")
    ops: Ops = build(NATIVE, PARAMETERS, WEIGHTS).ops
    tiny_ND = np.full((1, SHAPE.width), 2.0**-140, np.float32)
    channels = PARAMETERS.layers[0].o._replace(scale=np.zeros(SHAPE.width, np.float32))
    arguments = (np.zeros((1, SHAPE.width), np.int32), np.zeros(1, np.float32), channels)
    torch.set_flush_denormal(True)
    try:
        kept = ops.add(tiny_ND.copy(), *arguments).tobytes()
    finally:
        torch.set_flush_denormal(False)
    assert kept == tiny_ND.tobytes()


def test_torch_settings_are_set_and_checked():
    torch = pytest.importorskip("torch")
    from tidegate.models.exact.ops_torch import settle

    threads = torch.get_num_threads()
    torch.set_float32_matmul_precision("medium")
    torch.set_flush_denormal(True)
    settle(threads)
    assert torch.get_float32_matmul_precision() == "highest"
    require_arithmetic()
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(ModelError, match="autocast"),
    ):
        settle(threads)


def test_wrong_names_are_told_what_there_is():
    with pytest.raises(ConfigError, match="numpy"):
        build("abacus", PARAMETERS, WEIGHTS)
    with pytest.raises(ConfigError, match="cuda"):
        names("tpu")


def test_a_missing_gpu_is_an_error_and_not_a_pass():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ModelError, match="no GPU"):
        choose(PARAMETERS, WEIGHTS, threads=1, device="cuda")


def test_threads_follow_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3,1")
    assert default_threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(backends.os, "sched_getaffinity", lambda _: {0, 1, 5, 7})
    assert default_threads() == 4


def test_quantised_rows_are_the_same_object_when_asked_again():
    ops: Ops = build(NATIVE, PARAMETERS, WEIGHTS).ops
    h_ND = np.ones((3, SHAPE.width), np.float32)
    first: Quantised = ops.normalise(h_ND, PARAMETERS.norm)
    assert ops.normalise(2 * h_ND, PARAMETERS.norm).q is first.q
