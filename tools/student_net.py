"""The student in torch, as it is trained: the exact engine's architecture in floats, and its loss.

A student has its own small vocabulary: the `Classes` that the strong model uses most, one class
for all other tokens, and one row that is no token but a gate. Its score for a token is added to the
n-gram's (see `tidegate.models.mixture`), so it learns only what the n-gram does not know.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tidegate.models.exact.shape import Shape


class Student(nn.Module):
    """RMSNorm, half-rotation RoPE, grouped-query attention, SwiGLU; no bias."""

    def __init__(self, shape: Shape, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.dropout = dropout
        self.embed = nn.Parameter(torch.randn(shape.vocab_size, shape.width))
        self.head = nn.Parameter(torch.zeros(shape.vocab_size, shape.width))
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        # Silent at first, too: what follows what is known to the n-gram already.
        self.norm = nn.Parameter(torch.full((shape.width,), 0.1))

    def forward(self, classes_BT: Tensor) -> Tensor:
        """Normed hidden states (B, T, width); the head is left to `mixture_loss`."""
        hidden = self.embed[classes_BT]
        if self.training and self.dropout:
            hidden = functional.dropout(hidden, self.dropout)
        cos, sin = rotation(self.shape, classes_BT.shape[1], hidden.device)
        for layer in self.layers:
            hidden = layer(hidden, cos, sin)
        return rms_norm(hidden, self.norm, self.shape.eps)


class Layer(nn.Module):
    """One block, with the products fused as the exact engine has them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.attn_norm = nn.Parameter(torch.ones(shape.width))
        self.mlp_norm = nn.Parameter(torch.ones(shape.width))
        self.qkv = nn.Parameter(_uniform(*shape.linear("qkv")))
        self.gate_up = nn.Parameter(_uniform(*shape.linear("gate_up")))
        # Blocks that start silent leave the n-gram's own scores as the starting point.
        self.o = nn.Parameter(torch.zeros(shape.linear("o")))
        self.down = nn.Parameter(torch.zeros(shape.linear("down")))

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shape = self.shape
        batch, length, _ = hidden.shape
        normed = rms_norm(hidden, self.attn_norm, shape.eps)
        heads = (shape.heads, shape.kv_heads, shape.kv_heads)
        q, k, v = (
            part.view(batch, length, -1, shape.head_size).transpose(1, 2)
            for part in (normed @ self.qkv.T).split([n * shape.head_size for n in heads], dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(
            rotated(q, cos, sin),
            rotated(k, cos, sin).repeat_interleave(shape.heads // shape.kv_heads, dim=1),
            v.repeat_interleave(shape.heads // shape.kv_heads, dim=1),
            is_causal=True,
        )
        hidden = hidden + mixed.transpose(1, 2).reshape(batch, length, -1) @ self.o.T
        gate, up = (rms_norm(hidden, self.mlp_norm, shape.eps) @ self.gate_up.T).chunk(2, dim=-1)
        return hidden + (functional.silu(gate) * up) @ self.down.T


def rms_norm(hidden: Tensor, gain: Tensor, eps: float) -> Tensor:
    return functional.rms_norm(hidden, gain.shape, gain, eps)


def rotation(shape: Shape, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of (position, pair)."""
    pairs = torch.arange(shape.head_size // 2, dtype=torch.float64)
    speeds = shape.rope_theta ** (-2 * pairs / shape.head_size)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * speeds
    return angles.cos().float().to(device), angles.sin().float().to(device)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _uniform(outputs: int, inputs: int) -> Tensor:
    return (torch.rand(outputs, inputs) * 2 - 1) * math.sqrt(3 / inputs)


@dataclass(frozen=True)
class Targets:
    """What N positions are trained on. Entries are (row, class, value) triples.

    `weights` sum to 1 a row: what the teacher's next token is likely to be. `deltas` are what the
    n-gram's scores add to its base. `rest_N` is the n-gram's log-sum over tokens without a class.
    """

    target_rows: Tensor
    target_classes: Tensor
    target_weights: Tensor
    delta_rows: Tensor
    delta_classes: Tensor
    deltas: Tensor
    rest_N: Tensor

    def only(self, chosen_S: Tensor, weight_S: Tensor, classes: int) -> Targets:
        """The same over some classes."""
        place_C = torch.full((classes,), -1, device=chosen_S.device)
        place_C[chosen_S] = torch.arange(len(chosen_S), device=chosen_S.device)
        target, delta = place_C[self.target_classes], place_C[self.delta_classes]
        has_target, has_delta = target >= 0, delta >= 0
        target = target[has_target]
        return Targets(
            target_rows=self.target_rows[has_target],
            target_classes=target,
            target_weights=self.target_weights[has_target] * weight_S[target],
            delta_rows=self.delta_rows[has_delta],
            delta_classes=delta[has_delta],
            deltas=self.deltas[has_delta],
            rest_N=self.rest_N,
        )

    def sample(self, frequent_C: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """(chosen_S ascending, weight_S): frequent and likely classes, and a share of others."""
        always = frequent_C.clone()
        always[self.target_classes[self.target_weights > LIKELY]] = True
        always[-2:] = True
        drawn = torch.rand(len(always), device=always.device) < share
        chosen_S = (always | drawn).nonzero()[:, 0]
        return chosen_S, torch.where(always[chosen_S], 1.0, 1 / share)


LIKELY = 0.03


class MixtureLoss(torch.autograd.Function):
    """Mean over rows of the cross-entropy of the mixture, in nats, with gradients made at once.

    Logits are student + base + (1 + gate)·delta. The gate is the student's own last row and the
    class before it stands for all tokens without one, where the n-gram counts unchanged. Only the
    classes in `chosen` are computed; each of them stands for `weight` classes like it, so that the
    normaliser and the target's sum are unbiased (importance sampling; Bengio and Senecal 2008).
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden_Nd: Tensor,
        head_Cd: Tensor,
        base_C: Tensor,
        targets: Targets,
        chosen_S: Tensor | None = None,
        weight_S: Tensor | None = None,
    ) -> Tensor:
        whole = head_Cd.shape
        if chosen_S is not None and weight_S is not None:
            targets = targets.only(chosen_S, weight_S, whole[0])
            head_Cd, base_C = head_Cd[chosen_S], base_C[chosen_S] + weight_S.log()
        scores_NC, gate_N = mixed_scores(hidden_Nd, head_Cd, base_C, targets)
        rows, classes, weights = (
            targets.target_rows, targets.target_classes, targets.target_weights,
        )  # fmt: skip
        count = len(hidden_Nd)
        lse_N = scores_NC.logsumexp(1)
        loss = lse_N.sum() - (scores_NC[rows, classes] * weights).sum()
        slope = scores_NC.sub_(lse_N[:, None]).exp_()
        # Sampled weights need not sum to one; the normaliser's share follows the whole target.
        slope.view(-1).index_add_(0, rows * slope.shape[1] + classes, -weights)
        slope /= count
        slope_gate_N = torch.zeros_like(gate_N)
        slope_gate_N.index_add_(
            0,
            targets.delta_rows,
            slope[targets.delta_rows, targets.delta_classes] * targets.deltas,
        )
        slope_gate_N *= (gate_N > -1) & (gate_N < 1)
        slope[:, -1] = slope_gate_N
        head_slope = slope.T @ hidden_Nd
        if chosen_S is not None:
            head_slope = head_slope.new_zeros(whole).index_copy_(0, chosen_S, head_slope)
        ctx.save_for_backward(slope @ head_Cd, head_slope)
        return loss / count

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden_slope, head_slope = ctx.saved_tensors
        return grad * hidden_slope, grad * head_slope, None, None, None, None


def mixed_scores(
    hidden_Nd: Tensor, head_Cd: Tensor, base_C: Tensor, targets: Targets
) -> tuple[Tensor, Tensor]:
    """(scores_NC, gate_N); the gate's own column takes no part."""
    scores_NC = hidden_Nd @ head_Cd.T
    gate_N = scores_NC[:, -1].clone()
    scores_NC += base_C
    scores_NC[:, -2] += targets.rest_N
    scores_NC[:, -1] = -1e4
    opened = 1 + gate_N.clamp(-1, 1)[targets.delta_rows]
    scores_NC.view(-1).index_add_(
        0, targets.delta_rows * scores_NC.shape[1] + targets.delta_classes, opened * targets.deltas
    )
    return scores_NC, gate_N


class Muon(torch.optim.Optimizer):
    """Momentum whose updates are made orthogonal (Jordan et al. 2024), for weight matrices."""

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(state["momentum"], group["momentum"])
                stretch = max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5
                weight.add_(_orthogonal(update), alpha=-group["lr"] * stretch)


def _orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest orthogonal matrix, roughly: five steps of a quintic Newton-Schulz iteration."""
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def matrices(model: Student) -> Iterator[nn.Parameter]:
    """Every weight matrix but the embedding."""
    return (weight for layer in model.layers for weight in layer.parameters() if weight.dim() == 2)
