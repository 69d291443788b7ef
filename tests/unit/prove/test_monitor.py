"""T2 watches a float server: gross lies are located, fine ones are not, and it says so."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from proof_world import SIGNER, ask
from tiny_pair import write_llama

from tidegate.models import transformers_torch
from tidegate.models.exact.shape import HEAD
from tidegate.models.exact.source import Source, open_source
from tidegate.prove import merkle, monitor, receipt
from tidegate.prove.answer import Answer
from tidegate.prove.keys import row_tree
from tidegate.prove.project import (
    ALARM,
    COLUMNS,
    MonitorKey,
    Projection,
    draw,
    exact_logit,
    miss_log2,
)
from tidegate.prove.project_torch import record
from tidegate.prove.statement import Request, Statement
from tidegate.prove.tiers import Tier
from tidegate.prove.verdict import CannotVerify, Fail, Pass, Place, UnverifiableError, Verdict

REQUEST = ask(prompt=9, tokens=8, temperature=0.7, top_k=20)
Trace = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Server:
    source: Source
    model: transformers_torch.TransformersModel
    key: MonitorKey

    def answer(self, request: Request = REQUEST) -> tuple[Statement, Trace]:
        words = self.source.tokenizer.decode
        return record(self.model, self.source.shape, request, words)

    def verdict(self, statement: Statement, trace: Trace, key: MonitorKey | None = None) -> Verdict:
        """Of the trace, signed and opened as the server would."""
        source = self.source
        rows = monitor.head_rows(source, "float32")
        fresh = Answer(
            statement.request,
            source.shape.vocab_size,
            source.tokenizer.eos_ids,
            source.tokenizer.decode,
        )
        wanted = monitor.wanted_rows(trace, source.shape, statement, fresh)
        packed = monitor.pack(trace)
        note = receipt.make(
            statement,
            monitor.subject_of(source, "float32"),
            tier=Tier.PROJECT,
            trace=hashlib.sha256(packed).digest(),
        )
        opened = merkle.opened(rows, row_tree(rows), wanted)
        signed = receipt.sign(note, SIGNER)
        return monitor.verify(signed, packed, opened, statement, key or self.key, SIGNER.verifier)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    return _server(tmp_path_factory.mktemp("server") / "model", seed=3)


def _server(folder: Path, seed: int) -> Server:
    write_llama(folder, seed)
    source = open_source(folder, 256)
    model = transformers_torch.load(folder, dtype="float32", threads=1)
    key = monitor.decode(monitor.generate(source, "float32", secret=bytes(32)))
    return Server(source, model, key)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_an_honest_server_passes_as_monitoring(server: Server, temperature: float) -> None:
    statement, trace = server.answer(ask(prompt=9, tokens=8, temperature=temperature))
    verdict = server.verdict(statement, trace)
    assert isinstance(verdict, Pass)
    assert verdict.error_log2 is not None
    assert -24 < verdict.error_log2 < -14
    assert any("below" in limit for limit in verdict.limits)


def _row(name: str, row: int, by: float) -> Callable[[Trace], None]:
    def alter(trace: Trace) -> None:
        y_O = trace[name][row]
        direction_O = np.zeros_like(y_O)
        direction_O[3] = np.linalg.norm(y_O)
        trace[name] = trace[name].copy()
        trace[name][row] += by * direction_O

    return alter


@pytest.mark.parametrize(
    ("layer", "op", "row", "token"), [(0, "qkv", 4, 4), (1, "down", 12, 12), (2, HEAD, 2, 10)]
)
def test_a_row_changed_by_more_than_the_alarm_is_located(
    server: Server, layer: int, op: str, row: int, token: int
) -> None:
    statement, trace = server.answer()
    _row(f"{layer}.{op}.y", row, 2 * ALARM * server.key.tolerance)(trace)
    verdict = server.verdict(statement, trace)
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="product", token=token, layer=layer, op=op)


def test_a_row_changed_by_less_than_the_tolerance_goes_unnoticed(server: Server) -> None:
    statement, trace = server.answer()
    _row("1.down.y", 12, server.key.tolerance / 8)(trace)
    assert isinstance(server.verdict(statement, trace), Pass)


def test_other_weights_under_the_same_name_are_located(server: Server, tmp_path: Path) -> None:
    other = _server(tmp_path / "model", seed=4)
    statement, trace = other.answer()
    verdict = server.verdict(statement, trace)
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="product", token=0, layer=0, op="qkv")


def test_a_token_that_exact_logits_do_not_give_is_located(server: Server) -> None:
    statement, trace = server.answer()
    others = [t for t in range(90) if t != statement.tokens[-1]]
    lied = replace(statement, tokens=(*statement.tokens[:-1], others[0]))
    verdict = server.verdict(lied, trace)
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="choice", token=16)


@pytest.mark.parametrize("name", ["0.qkv.y", "1.gate_up.x"])
@pytest.mark.parametrize("rows", [slice(0), slice(-1)])
def test_a_truncated_trace_is_located(server: Server, name: str, rows: slice) -> None:
    statement, trace = server.answer()
    verdict = server.verdict(statement, trace | {name: trace[name][rows]})
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="trace", token=0, layer=int(name[0]), op=name[2:-2])


def test_a_trace_without_a_product_is_located(server: Server) -> None:
    statement, trace = server.answer()
    del trace["1.o.y"]
    verdict = server.verdict(statement, trace)
    assert isinstance(verdict, Fail)
    assert verdict.place == Place(part="trace", token=0, layer=1, op="o")


def test_bytes_other_than_the_signed_ones_fail(server: Server) -> None:
    statement, trace = server.answer()
    note = receipt.make(
        statement,
        monitor.subject_of(server.source, "float32"),
        tier=Tier.PROJECT,
        trace=hashlib.sha256(b"").digest(),
    )
    signed = receipt.sign(note, SIGNER)
    for packed in (monitor.pack(trace), b""):
        verdict = monitor.verify(signed, packed, b"", statement, server.key, SIGNER.verifier)
        assert isinstance(verdict, Fail)
        assert verdict.place.part == "trace"


def test_a_key_of_other_weights_cannot_verify(server: Server, tmp_path: Path) -> None:
    other = _server(tmp_path / "model", seed=4)
    statement, trace = server.answer()
    assert isinstance(server.verdict(statement, trace, other.key), CannotVerify)


def test_rotation_makes_another_key_for_the_same_model(server: Server) -> None:
    raw = monitor.generate(server.source, "float32", secret=bytes(32))
    fresh = monitor.decode(monitor.rotate(raw, server.source))
    assert fresh.subject == server.key.subject
    name = "0.qkv"
    assert not np.allclose(fresh.projections[name].v_KR, server.key.projections[name].v_KR)
    statement, trace = server.answer()
    assert isinstance(server.verdict(statement, trace, fresh), Pass)


def test_a_damaged_key_is_refused(server: Server) -> None:
    raw = bytearray(monitor.generate(server.source, "float32", secret=bytes(32)))
    raw[900] ^= 1
    with pytest.raises(UnverifiableError):
        monitor.decode(bytes(raw))


def test_the_bound_is_that_of_gaussian_columns() -> None:
    # Many Gaussian rows of a unit change: how often their size comes out below 1 / ALARM.
    r_OR = draw(b"s" * 32, "x", 200_000)
    assert abs(float(r_OR.mean())) < 0.002
    assert float(r_OR.std()) == pytest.approx(1.0, abs=0.002)
    half = COLUMNS / ALARM**2 / 2
    rows = np.sqrt((r_OR[:, :2] ** 2).sum(axis=1) / 2)
    # With two columns, where it is not rare, the same formula must hold.
    below = float((rows < 1.0 / ALARM).mean())
    assert below == pytest.approx(1 - math.exp(-2 / ALARM**2 / 2), rel=0.05)
    assert half == 0.5
    assert -25 < miss_log2() < -23


def test_residuals_do_not_depend_on_scale() -> None:
    chance = np.random.default_rng(0)
    weight_OK = chance.standard_normal((40, 30)).astype(np.float32)
    r_OR = draw(b"s" * 32, "x", 40)
    projection = Projection(r_OR, weight_OK.T.astype(np.float64) @ r_OR, np.zeros(40, np.float32))
    x_NK = chance.standard_normal((5, 30)).astype(np.float32)
    y_NO = x_NK @ weight_OK.T
    y_NO[2] *= 1.01
    small, large = (
        projection.residuals(x_NK * np.float32(s), y_NO * np.float32(s))
        for s in (2.0**-20, 2.0**20)
    )
    assert np.allclose(small, large)
    assert small[2] > 1000 * small[1]


def test_an_exact_logit_is_rounded_once() -> None:
    x_K = np.array([1.0, 2.0**-30, -1.0], np.float32)
    assert exact_logit(x_K, np.ones(3, np.float32)) == np.float32(2.0**-30)
