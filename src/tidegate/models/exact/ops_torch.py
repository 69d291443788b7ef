"""The exact engine in torch, on a processor or a GPU.

Two traps are avoided on purpose: torch divides a tensor by a plain number by multiplying with its
reciprocal on GPUs, and a number by a tensor everywhere, which rounds twice. So both sides of every
division are tensors. Sums of integers that outgrow float32 are taken in float64, exact below 2**53.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tidegate.errors import ModelError
from tidegate.models.exact.ops import (
    EXP2,
    LOG2E,
    LOUDEST,
    PAGE,
    QUIET,
    Channels,
    Pool,
    Quantised,
    Queries,
    Rows,
    too_loud,
)
from tidegate.models.exact.ops_numpy import SPLIT, attention_unit
from tidegate.models.exact.parameters import Parameters, Tensors, weight_name
from tidegate.models.exact.shape import Shape

Tensor = Any
Product = Literal["blas", "int_mm"]

_MOST_GATHERED = 1 << 24
"""Numbers of the key cache that attention may copy at a time."""


def settle(threads: int) -> None:
    """Set what torch must not leave to chance, for the whole process, and check that it took.

    Raises ModelError where a setting does not take.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    least = torch.tensor([2.0**-126], dtype=torch.float32)
    checks = {
        "threads": torch.get_num_threads() == threads,
        "denormals": bool((least * 0.5 > 0).all()),
        "float32 products": torch.get_float32_matmul_precision() == "highest",
        "TF32": not torch.backends.cuda.matmul.allow_tf32,
        "autocast": not torch.is_autocast_enabled("cpu") and not torch.is_autocast_enabled("cuda"),
    }
    if wrong := [name for name, fine in checks.items() if not fine]:
        raise ModelError(f"torch does not keep its settings: {', '.join(wrong)}")


class TorchLinear:
    """Products by the weights: `blas` in float32, `int_mm` by torch's own int8 product.

    With `host`, rows and sums are numpy arrays.
    """

    def __init__(
        self,
        shape: Shape,
        tensors: Tensors,
        product: Product,
        *,
        device: str = "cpu",
        host: bool = False,
    ) -> None:
        self._multiply = {"blas": _blas, "int_mm": _int_mm}[product]
        self._device = torch.device(device)
        self._host = host
        self._outputs: dict[tuple[int, str], int] = {}
        self._weights: dict[tuple[int, str], Tensor] = {}
        for layer, op in shape.products():
            w_OK = _tensor(tensors[weight_name(shape, layer, op)])
            self._outputs[layer, op] = len(w_OK)
            self._weights[layer, op] = (
                w_OK.to(self._device, torch.float32)
                if product == "blas"
                else _padded(w_OK, 8, 8).to(self._device)
            )

    def begin(self, rows: Rows) -> None:
        """Nothing to prepare."""

    def multiply(self, layer: int, op: str, q_NK: Tensor) -> Tensor:
        """See `ops.Linear.multiply`."""
        q = torch.from_numpy(q_NK) if self._host else q_NK
        acc_NO = self._multiply(q.to(self._device), self._weights[layer, op])
        acc_NO = acc_NO[: len(q), : self._outputs[layer, op]]
        return acc_NO.contiguous().numpy() if self._host else acc_NO


def _blas(q_NK: Tensor, w_OK: Tensor) -> Tensor:
    acc_NO = torch.zeros((len(q_NK), len(w_OK)), dtype=torch.int32, device=q_NK.device)
    for start in range(0, q_NK.shape[1], SPLIT):
        part_NK = q_NK[:, start : start + SPLIT].to(torch.float32)
        acc_NO += torch.mm(part_NK, w_OK[:, start : start + SPLIT].T).to(torch.int32)
    return acc_NO


def _int_mm(q_NK: Tensor, w_OK: Tensor) -> Tensor:
    # GPUs want more than 16 rows, and multiples of 8 in the other two directions.
    q_NK = _padded(q_NK, 32, 8) if q_NK.is_cuda else _padded(q_NK, 1, 8)
    return torch._int_mm(q_NK, w_OK.T)  # the only int8 product torch offers


def _padded(x_NK: Tensor, rows: int, columns: int) -> Tensor:
    """The matrix with zeros added until both sizes are multiples."""
    more = (-x_NK.shape[1] % columns, max(-x_NK.shape[0] % rows, 0 if len(x_NK) else rows))
    if not any(more):
        return x_NK.contiguous()
    return torch.nn.functional.pad(x_NK, (0, more[0], 0, more[1]))


class TorchOps:
    """`ops.Ops` in torch. A row that is out of range is refused at the end of its pass."""

    def __init__(self, parameters: Parameters, *, device: str = "cpu") -> None:
        self._shape = parameters.shape
        self._device = torch.device(device)
        self._cos_TR = self.place(parameters.cos_TR)
        self._sin_TR = self.place(parameters.sin_TR)
        self._unit = self._number(attention_unit(self._shape))
        self._fine = torch.ones((), dtype=torch.bool, device=self._device)
        self._known: dict[int, tuple[Any, Tensor]] = {}
        self._rows: tuple[Rows | None, dict[str, Tensor]] = (None, {})

    def place(self, array: NDArray[Any]) -> Tensor:
        """See `ops.Ops.place`."""
        return _tensor(array).to(self._device)

    def fetch(self, array: Tensor) -> NDArray[Any]:
        """See `ops.Ops.fetch`."""
        found: NDArray[Any] = array.cpu().numpy()
        return found

    def pool(self, pages: int) -> Pool:
        """See `ops.Ops.pool`."""
        shape = self._shape
        places = (shape.layers, pages, shape.kv_heads, PAGE)

        def zeros(dtype: Any, *more: int) -> Tensor:
            # Through numpy, for it leaves memory that is never touched to the system.
            return self.place(np.zeros((*places, *more), dtype))

        return Pool(
            keys=zeros(np.int16, shape.head_size),
            key_scales=zeros(np.float32),
            values=zeros(np.int16, shape.head_size),
            value_scales=zeros(np.float32),
        )

    def grow(self, pool: Pool, pages: int) -> None:
        """See `ops.Ops.grow`."""
        more, have = self.pool(pages), pool.pages
        for name in ("keys", "key_scales", "values", "value_scales"):
            getattr(more, name)[:, :have] = getattr(pool, name)
            setattr(pool, name, getattr(more, name))

    def copy_page(self, pool: Pool, source: int, target: int) -> None:
        """See `ops.Ops.copy_page`."""
        for block in (pool.keys, pool.key_scales, pool.values, pool.value_scales):
            block[:, target] = block[:, source]

    def embed(self, q_ND: NDArray[Any], scale_N: NDArray[np.float32]) -> Tensor:
        """See `ops.Ops.embed`."""
        return self.place(q_ND).to(torch.float32) * self.place(scale_N)[:, None]

    def normalise(self, h_ND: Tensor, gain_D: NDArray[np.float32]) -> Quantised:
        """See `ops.Ops.normalise`."""
        largest_N1 = self._loudness(h_ND)
        quiet_N1 = largest_N1 < float(QUIET)
        bits_N1 = largest_N1.view(torch.int32)
        exponent_N1 = torch.where(quiet_N1, 0, (bits_N1 >> 23) - 127)
        power_N1 = ((22 - exponent_N1 + 127) << 23).view(torch.float32)
        q_ND = torch.where(quiet_N1, 0.0, torch.round(h_ND * power_N1)).to(torch.int64)
        sum_N1 = (q_ND * q_ND).sum(dim=1, keepdim=True).to(torch.float64)
        width = torch.full_like(sum_N1, self._shape.width)
        back_N1 = (((2 * (exponent_N1 - 22)).to(torch.int64) + 1023) << 52).view(torch.float64)
        square_N1 = torch.div(sum_N1, width) * back_N1 + self._shape.eps
        inverse_N1 = torch.div(torch.ones_like(square_N1), torch.sqrt(square_N1)).to(torch.float32)
        return self._q8(h_ND * inverse_N1 * self._at(gain_D))

    def append(
        self,
        acc_NO: Tensor,
        scale_N: Tensor,
        qkv: Channels,
        rows: Rows,
        pool: Pool,
        layer: int,
    ) -> Queries:
        """See `ops.Ops.append`."""
        shape, place = self._shape, self._of(rows)
        y_NO = self._dequantise(acc_NO, scale_N, qkv)
        y_NHD = y_NO.reshape(len(y_NO), -1, shape.head_size)
        rotated = shape.heads + shape.kv_heads
        turned_NHD = self._rotate(y_NHD[:, :rotated], place["position"])
        q_NHD, scale_NH1 = self._quantise(torch.cat([turned_NHD, y_NHD[:, rotated:]], dim=1), 4095)
        q_NHD, scale_NH = q_NHD.to(torch.int16), scale_NH1[..., 0]
        where = (place["page"], slice(None), place["slot"])
        pool.keys[layer][where] = q_NHD[:, shape.heads : rotated]
        pool.key_scales[layer][where] = scale_NH[:, shape.heads : rotated]
        pool.values[layer][where] = q_NHD[:, rotated:]
        pool.value_scales[layer][where] = scale_NH[:, rotated:]
        return Queries(q_NHD[:, : shape.heads], scale_NH[:, : shape.heads])

    def _rotate(self, x_NHD: Tensor, position_N: Tensor) -> Tensor:
        one, two = x_NHD.chunk(2, dim=-1)
        cos_N1R = self._cos_TR[position_N][:, None]
        sin_N1R = self._sin_TR[position_N][:, None]
        return torch.cat([one * cos_N1R - two * sin_N1R, two * cos_N1R + one * sin_N1R], dim=-1)

    def attend(self, queries: Queries, rows: Rows, pool: Pool, layer: int) -> Quantised:
        """See `ops.Ops.attend`."""
        shape, place = self._shape, self._of(rows)
        each = rows.tables_SP.shape[1] * PAGE * shape.kv_heads * shape.head_size
        step = max(1, _MOST_GATHERED // each)
        parts = [
            self._attend_some(
                queries.q[start : start + step],
                queries.scale[start : start + step],
                place["position"][start : start + step],
                place["table"][start : start + step],
                pool,
                layer,
            )
            for start in range(0, len(queries.q), step)
        ]
        return self._q8(torch.cat(parts))

    def _attend_some(
        self,
        q_NHD: Tensor,
        scale_NH: Tensor,
        position_N: Tensor,
        table_NP: Tensor,
        pool: Pool,
        layer: int,
    ) -> Tensor:
        """G key heads serve R = H/G queries each, over the T places of each row's pages."""
        groups = (len(q_NHD), self._shape.kv_heads, -1)

        def read(block_PGtx: Tensor) -> Tensor:
            chosen = block_PGtx[table_NP].swapaxes(1, 2)
            return chosen.reshape(*groups, *chosen.shape[4:])

        keys_NGTD = read(pool.keys[layer]).to(torch.float64)
        q_NGRD = q_NHD.reshape(*groups, self._shape.head_size).to(torch.float64)
        acc_NGRT = torch.matmul(q_NGRD, keys_NGTD.swapaxes(2, 3)).to(torch.float32)
        scale_NGR1 = (scale_NH * self._unit).reshape(*groups, 1)
        z_NGRT = acc_NGRT * scale_NGR1 * read(pool.key_scales[layer])[:, :, None]
        places_T = torch.arange(z_NGRT.shape[-1], device=self._device)
        seen_N11T = (places_T <= position_N[:, None])[:, None, None]
        top_NGR1 = torch.where(seen_N11T, z_NGRT, -torch.inf).amax(dim=-1, keepdim=True)
        e_NGRT = _exp2(torch.where(seen_N11T, z_NGRT - top_NGR1, 0.0))
        e_NGRT = torch.where(seen_N11T, e_NGRT, 0.0)
        total_NGR1 = torch.round(e_NGRT * 2.0**24).to(torch.float64).sum(dim=-1, keepdim=True)
        a_NGRT = e_NGRT * read(pool.value_scales[layer])[:, :, None]
        largest_NGR1 = a_NGRT.amax(dim=-1, keepdim=True)
        quiet_NGR1 = largest_NGR1 < float(QUIET)
        safe_NGR1 = torch.where(quiet_NGR1, 1.0, largest_NGR1)
        steps = torch.full_like(safe_NGR1, 32767)
        b_NGRT = torch.round(a_NGRT * torch.div(steps, safe_NGR1)).to(torch.float64)
        values_NGTD = read(pool.values[layer]).to(torch.float64)
        sum_NGRD = torch.matmul(b_NGRT, values_NGTD).to(torch.float32)
        share_NGR1 = torch.div(torch.full_like(safe_NGR1, 2.0**24), total_NGR1.to(torch.float32))
        out_NGRD = sum_NGRD * (torch.div(safe_NGR1, steps) * share_NGR1)
        return torch.where(quiet_NGR1, 0.0, out_NGRD).reshape(len(q_NHD), -1)

    def add(self, h_ND: Tensor, acc_ND: Tensor, scale_N: Tensor, channels: Channels) -> Tensor:
        """See `ops.Ops.add`."""
        return h_ND + self._dequantise(acc_ND, scale_N, channels)

    def gate(self, acc_NO: Tensor, scale_N: Tensor, gate_up: Channels) -> Quantised:
        """See `ops.Ops.gate`."""
        g_NF, up_NF = self._dequantise(acc_NO, scale_N, gate_up).chunk(2, dim=1)
        e_NF = _exp2(-(g_NF.abs() * float(LOG2E)))
        one = torch.ones_like(e_NF)
        sigmoid_NF = torch.div(torch.where(g_NF >= 0, one, e_NF), one + e_NF)
        return self._q8(g_NF * sigmoid_NF * up_NF)

    def take(self, h_ND: Tensor, last_L: NDArray[np.int32]) -> Tensor:
        """See `ops.Ops.take`."""
        return h_ND[self.place(last_L).to(torch.int64)]

    def logits(self, acc_LV: Tensor, scale_L: Tensor, head: Channels) -> NDArray[np.float32]:
        """See `ops.Ops.logits`."""
        logits_LV = self._dequantise(acc_LV, scale_L, head)
        self._loudness(logits_LV)
        fine, self._fine = bool(self._fine), torch.ones_like(self._fine)
        if not fine:
            raise too_loud()
        return np.array(logits_LV.cpu().numpy())

    def _loudness(self, x: Tensor) -> Tensor:
        """The largest magnitude of each row (last axis, kept); out of range is remembered."""
        largest = x.abs().amax(dim=-1, keepdim=True)
        self._fine &= (largest <= float(LOUDEST)).all()  # NaN is not
        return largest

    def _quantise(self, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        largest = self._loudness(x)
        quiet = largest < float(QUIET)
        safe = torch.where(quiet, 1.0, largest)
        most = torch.full_like(safe, steps)
        q = torch.round(x * torch.div(most, safe)).clamp(-steps, steps)
        return torch.where(quiet, 0.0, q), torch.where(quiet, 0.0, torch.div(largest, most))

    def _q8(self, x_NK: Tensor) -> Quantised:
        q_NK, scale_N1 = self._quantise(x_NK, 127)
        return Quantised(q_NK.to(torch.int8), scale_N1[:, 0])

    def _dequantise(self, acc_NO: Tensor, scale_N: Tensor, channels: Channels) -> Tensor:
        y_NO = acc_NO.to(torch.float32) * scale_N[:, None] * self._at(channels.scale)
        return y_NO if channels.bias is None else y_NO + self._at(channels.bias)

    def _of(self, rows: Rows) -> dict[str, Tensor]:
        """Where rows stand, on the device; kept for a pass."""
        if self._rows[0] is not rows:
            position_N, sequence_N = rows.position_N.astype(np.int64), rows.sequence_N
            found = {
                "position": position_N,
                "table": rows.tables_SP[sequence_N].astype(np.int64),
                "page": rows.tables_SP[sequence_N, position_N // PAGE].astype(np.int64),
                "slot": position_N % PAGE,
            }
            self._rows = (rows, {name: self.place(array) for name, array in found.items()})
        return self._rows[1]

    def _at(self, array: NDArray[Any]) -> Tensor:
        """A parameter on the device; kept."""
        known = self._known.get(id(array))
        if known is None:
            # The entry keeps the array alive, so no other can come to have its id.
            known = self._known[id(array)] = (array, self.place(array))
        return known[1]

    def _number(self, value: np.float32) -> Tensor:
        return torch.tensor(float(value), dtype=torch.float32, device=self._device)


def _tensor(array: NDArray[Any]) -> Tensor:
    # torch warns of read-only memory, which nothing here writes to; copying is simpler than trust.
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _exp2(t: Tensor) -> Tensor:
    """2**t for t ≤ 0, with t below -100 taken for -100."""
    t = torch.clamp(t, min=-100.0)
    n = torch.round(t)
    f = t - n
    p = torch.full_like(f, float(EXP2[-1]))
    for coefficient in EXP2[-2::-1]:
        p = p * f
        p = p + float(coefficient)
    return (p.view(torch.int32) + (n.to(torch.int32) << 23)).view(torch.float32)
