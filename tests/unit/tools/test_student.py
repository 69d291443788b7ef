"""The loss that trains the student, and what its prompts keep away from."""

from __future__ import annotations

import importlib
import json
from importlib import resources
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch", reason="needs tidegate[torch]")

TOOLS = Path(__file__).parents[3] / "tools"
ROWS, CLASSES, WIDTH = 7, 23, 5


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module("student_net")


@pytest.fixture
def case(net: ModuleType):
    """(hidden, head, base, targets) of a small batch, in float64."""
    draw = torch.Generator().manual_seed(5)

    def noise(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=draw, dtype=torch.float64)

    weights = noise(ROWS, 4).softmax(1)
    targets = net.Targets(
        target_rows=torch.arange(ROWS).repeat_interleave(4),
        target_classes=torch.randint(CLASSES - 1, (ROWS * 4,), generator=draw),
        target_weights=weights.flatten(),
        delta_rows=torch.arange(ROWS).repeat_interleave(3),
        delta_classes=torch.stack(
            [torch.randperm(CLASSES - 2, generator=draw)[:3] for _ in range(ROWS)]
        ).flatten(),
        deltas=noise(ROWS * 3),
        rest_N=noise(ROWS),
    )
    hidden, head = noise(ROWS, WIDTH), noise(CLASSES, WIDTH) * 0.3
    base = torch.cat([noise(CLASSES - 2), torch.zeros(2, dtype=torch.float64)])
    return hidden.requires_grad_(), head.requires_grad_(), base, targets


def plain(hidden, head, base, targets):
    """The same loss from its definition, for automatic differentiation."""
    scores = hidden @ head.T
    gate = scores[:, -1].clamp(-1, 1)
    delta = torch.zeros_like(scores).index_put(
        (targets.delta_rows, targets.delta_classes), targets.deltas
    )
    rest = torch.zeros_like(scores).index_put(
        (torch.arange(ROWS), torch.tensor(CLASSES - 2)), targets.rest_N
    )
    scores = (scores + base + (1 + gate[:, None]) * delta + rest)[:, :-1]
    log_q = scores.log_softmax(1)
    chosen = log_q[targets.target_rows, targets.target_classes]
    return -(chosen * targets.target_weights).sum() / ROWS


def test_the_loss_and_its_gradients_are_those_of_the_definition(net: ModuleType, case):
    hidden, head, base, targets = case
    loss = net.MixtureLoss.apply(hidden, head, base, targets)
    expected = plain(*case)
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(loss, (hidden, head))
    for one, other in zip(found, torch.autograd.grad(expected, (hidden, head)), strict=True):
        torch.testing.assert_close(one, other)


def test_a_sample_of_all_classes_changes_nothing(net: ModuleType, case):
    hidden, head, base, targets = case
    every = torch.arange(CLASSES), torch.ones(CLASSES, dtype=torch.float64)
    whole = net.MixtureLoss.apply(hidden, head, base, targets)
    sampled = net.MixtureLoss.apply(hidden, head, base, targets, *every)
    torch.testing.assert_close(sampled, whole)
    for one, other in zip(
        torch.autograd.grad(sampled, (hidden, head)),
        torch.autograd.grad(whole, (hidden, head)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_sample_keeps_the_target_and_the_normaliser_on_average(net: ModuleType, case):
    _, _, _, targets = case
    frequent = torch.zeros(CLASSES, dtype=torch.bool)
    torch.manual_seed(1)
    weights, totals = [], []
    for _ in range(4000):
        chosen, weight = targets.sample(frequent, 0.3)
        weights.append(float(targets.only(chosen, weight, CLASSES).target_weights.sum()))
        totals.append(float(weight.sum()))
    assert sum(weights) / 4000 == pytest.approx(ROWS, rel=0.02)
    assert sum(totals) / 4000 == pytest.approx(CLASSES, rel=0.05)


def test_no_prompt_is_packaged_and_none_was_counted_by_the_ngram(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.syspath_prepend(TOOLS)
    asked = importlib.import_module("student_prompts").prompts()
    counted = importlib.import_module("ngram_prompts").prompts()
    text = (resources.files("tidegate") / "data" / "prompts.jsonl").read_text("utf-8")
    packaged = {json.loads(line)["prompt"] for line in text.splitlines()}
    assert len(set(asked)) == len(asked) > 1000
    assert not set(asked) & packaged
    assert not set(asked) & set(counted)
