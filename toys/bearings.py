"""A video denoiser that knows from its first step where a token lies: at an edge of the picture, in the first frame or
the last.

The model is told only how far tokens lie apart. Where the edges are it can find out in one way: a head looks at the
outermost token of its row, and what it finds there is its own noise or another's. Learned from nothing that takes far
longer than all the rest, and until then no place and no motion is heard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

TOLD = 8
"""Channels of a token's noise by which it is told from others."""
SAME, OUTER = 40.0, {"time": 150.0, "row": 50.0, "column": 50.0}
"""How strongly a head prefers tokens at its own place, and outer ones, in logits."""
SHARP = 2.0
FOUND = 20.0
"""What the difference of two tokens' noise comes to, on average."""

Edge = tuple[str, bool]
"""An axis, and whether its end is meant."""
EDGES: Sequence[Sequence[Edge]] = (
    (("column", False), ("column", True), ("row", False), ("row", True)),
    (("time", False), ("time", True)),
)
"""What is found out by the heads of the first block and of the second."""


def orient(transformer: Any) -> Any:
    """Set what the first two blocks begin with; all of it may be learned away. Hidden channels hold the noise first,
    then the outer tokens' and one flag for each edge, 1 at it and about -1 elsewhere."""
    import torch

    with torch.no_grad():
        _pass_through(transformer)
        noise = transformer.proj_out.out_features
        copies, flags = noise, noise + TOLD * sum(map(len, EDGES))
        for block, edges in zip(transformer.blocks, EDGES, strict=False):
            filled = copies if block is transformer.blocks[0] else copies + len(EDGES[0])
            _look(block.attn1, edges, copies, (filled / len(transformer.patch_embedding.weight)) ** 0.5)
            block.attn2.to_out[0].weight.zero_()
            _compare(block.ffn.net, len(edges), copies, flags)
            copies, flags = copies + TOLD * len(edges), flags + len(edges)
    return transformer


def _pass_through(transformer: Any) -> None:
    """The input is the answer at first, which is nearly right in nearly pure noise; every block counts fully."""
    import torch

    way_in, way_out = transformer.patch_embedding, transformer.proj_out
    inputs = torch.eye(len(way_in.weight), way_out.out_features).view_as(way_in.weight)
    way_in.weight.copy_(inputs)
    way_out.weight.copy_(inputs.permute(2, 3, 4, 1, 0).flatten(0, 3))
    transformer.condition_embedder.time_proj.weight.zero_()
    for part in (way_in, way_out, transformer.condition_embedder.time_proj):
        part.bias.zero_()
    transformer.scale_shift_table.zero_()
    for block in transformer.blocks:
        block.scale_shift_table.zero_()
        block.scale_shift_table[:, [2, 5]] = 1


def _look(attention: Any, edges: Sequence[Edge], copies: int, deviation: float) -> None:
    """One head for each edge brings the noise of the outermost token to `copies`, as large as it was before the norm,
    which divides by `deviation`."""
    width = attention.to_q.out_features // attention.heads
    attention.to_out[0].weight.zero_()
    for head, (axis, end) in enumerate(edges):
        rows = slice(head * width, (head + 1) * width)
        for side, leaning in zip((attention.to_q, attention.to_k), _leanings(axis, end, width), strict=True):
            side.weight[rows] = 0
            side.bias[rows] = leaning
        attention.to_v.bias[rows] = 0
        for channel in range(TOLD):
            attention.to_v.weight[head * width + channel] = 0
            attention.to_v.weight[head * width + channel, channel] = deviation
            attention.to_out[0].weight[copies + head * TOLD + channel, head * width + channel] = 1
    for side, norm in ((attention.to_q, attention.norm_q), (attention.to_k, attention.norm_k)):
        norm.weight.fill_(float(side.bias.pow(2).mean().sqrt()))


def _leanings(axis: str, end: bool, width: int) -> tuple[Tensor, Tensor]:
    """Query and key of a head that looks along `axis` to its beginning or end, at its own place on the others: turned
    by their places, equal pairs agree best where they lie together, those a quarter turn apart further on."""
    import torch

    query, key = torch.zeros(width), torch.zeros(width)
    side = 2 * (width // 6)
    begins: Mapping[str, int] = {"time": 0, "row": width - 2 * side, "column": width - side}
    for name, begin in begins.items():
        if name == axis:
            pair = begin + (4 if name == "time" else 2)
            query[pair] = (OUTER[name] * width**0.5) ** 0.5
            key[pair + 1] = query[pair] * (-1 if end else 1)
        else:
            pairs = [begin, begin + 2] if name == "time" else [begin]
            query[pairs] = key[pairs] = (SAME * width**0.5) ** 0.5
    return query, key


def _compare(layers: Any, edges: int, copies: int, flags: int) -> None:
    """Where the noise brought here is a token's own, it is the outermost itself."""
    inner, outer = layers[0].proj, layers[2]
    outer.weight.zero_()
    for edge in range(edges):
        units = slice(2 * TOLD * edge, 2 * TOLD * (edge + 1))
        inner.weight[units], inner.bias[units] = 0, 0
        for channel in range(TOLD):
            for sign, unit in ((1, units.start + 2 * channel), (-1, units.start + 2 * channel + 1)):
                inner.weight[unit, copies + TOLD * edge + channel] = sign * SHARP
                inner.weight[unit, channel] = -sign * SHARP
        outer.weight[flags + edge, units] = -2 / FOUND
        outer.bias[flags + edge] = 1
