"""A clip's large products in 8 bits: a second set of the transformer's blocks, which it wears for one job.

Both factors are e4m3, each row of the input and each column of the result with a scale of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from workers.engines.wan.shared import FirstBlock

LARGEST = 448.0
"""That e4m3 holds."""
LEAST = 1e-12
"""As a row's largest value, so that a row of zeros has a scale."""
DIP = 0.1701
"""No negative number has a GELU that is larger than this."""


class EightBits:
    """Made of a transformer whose blocks are fused, where they are to be, and not yet hastened. A byte for each weight
    of these layers is all that it holds of its own; everything else is the transformer's."""

    def __init__(self, transformer: Any, hasten: Callable[[Any], FirstBlock]) -> None:
        import torch

        self._transformer = transformer
        self._layers: list[Any] = []
        self.blocks = torch.nn.ModuleList(self._copied(block) for block in transformer.blocks)
        self.first = hasten(self.blocks)
        self.refresh()

    def refresh(self) -> None:
        """After the transformer's weights were changed in place."""
        import torch

        with torch.no_grad():
            for layer in self._layers:
                weight, scale = rounded(layer.linear.weight)
                layer.weight.copy_(weight)
                layer.scale.copy_(scale.t())

    @contextmanager
    def worn(self) -> Iterator[None]:
        own = self._transformer.blocks
        self._transformer.blocks = self.blocks
        try:
            yield
        finally:
            self._transformer.blocks = own

    def _copied(self, block: Any) -> Any:
        """The block with other layers in the place of some, and the same tensors everywhere else."""
        replaced = {id(linear): _layer(linear) for linear in _large(block)}
        shared = {id(tensor): tensor for tensor in (*block.parameters(), *block.buffers())}
        copied = copy.deepcopy(block, shared | replaced)
        copied.ffn.forward = MethodType(_fed, copied.ffn)
        self._layers += replaced.values()
        return copied


def rounded(rows: Tensor, largest: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Rows in e4m3, as large as they can be, and the scales (rows, 1) that make them what they were. `largest`, (rows,
    1), is each row's largest value where that is known."""
    import torch

    if largest is None:
        largest = rows.abs().amax(-1, keepdim=True)
    scale = largest.float().clamp(min=LEAST) / LARGEST
    return (rows.float() * scale.reciprocal()).to(torch.float8_e4m3fn), scale


def _large(block: Any) -> list[Any]:
    """What reads every token of the video. The text has few: its keys and values stay as they are."""
    itself, text, (up, _, down) = block.attn1, block.attn2, block.ffn.net
    joined = getattr(itself, "to_qkv", None)
    heads = [itself.to_q, itself.to_k, itself.to_v] if joined is None else [joined]
    return [*heads, itself.to_out[0], text.to_q, text.to_out[0], up.proj, down]


def _layer(linear: Any) -> Any:
    import torch

    layer = torch.nn.Module()
    layer.linear = linear
    layer.register_buffer("weight", torch.empty_like(linear.weight, dtype=torch.float8_e4m3fn, requires_grad=False))
    layer.register_buffer("scale", linear.weight.new_empty(1, len(linear.weight), dtype=torch.float32))
    layer.forward = MethodType(_product, layer)
    return layer


def _product(self: Any, hidden: Tensor, largest: Tensor | None = None) -> Tensor:
    import torch

    rows, scales = rounded(hidden.flatten(0, -2), None if largest is None else largest.flatten(0, -2))
    out = torch._scaled_mm(
        rows, self.weight.t(), scales, self.scale, bias=self.linear.bias, out_dtype=hidden.dtype, use_fast_accum=True
    )
    return out.view(*hidden.shape[:-1], -1)


def _fed(self: Any, hidden: Tensor) -> Tensor:
    """A row's largest GELU is that of its largest number, so that none is computed twice: once to find the scale, and
    once more to round it."""
    up, _, down = self.net
    middle = up.proj(hidden)
    out: Tensor = down(gelu(middle), gelu(middle.amax(-1, keepdim=True)).clamp(min=DIP))
    return out


def gelu(x: Tensor) -> Tensor:
    """With tanh, which as a sigmoid takes fewer instructions: over so many values they would count."""
    import torch

    wide = x.float()
    return (wide * torch.sigmoid(wide * (1.5957691 + 0.0713548 * wide * wide))).type_as(x)
