"""The layers of SDXL's denoiser and decoder, computed with the weights of diffusers' modules in fewer passes.

The same mathematics in another order of memory: channels last, so that convolutions and attention read the same
rows and nothing is transposed in between; biases and skip connections added by the kernel that reads them next;
queries, keys and values from one matrix product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.engines.doubling import doubling
from workers.engines.sdxl import ops

if TYPE_CHECKING:
    import torch

    Keys = tuple[torch.Tensor, torch.Tensor]


ROWS = 24_576
"""Tokens that a feed-forward layer takes at once: half of six guided images at their widest."""


class Resnet:
    """`diffusers.ResnetBlock2D` without resampling."""

    def __init__(self, module: Any) -> None:
        self._norms = module.norm1, module.norm2
        self._convolutions = module.conv1.weight, module.conv2.weight
        self._time, shortcut = module.time_emb_proj, module.conv_shortcut
        self._first_bias = module.conv1.bias if self._time is None else module.conv1.bias + self._time.bias
        self._shortcut = None if shortcut is None else shortcut.weight.flatten(1)
        self._last_bias = module.conv2.bias if shortcut is None else module.conv2.bias + shortcut.bias

    def __call__(
        self, x: torch.Tensor, time: torch.Tensor | None = None, beside: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`time` is (images, width) after its activation; the channels of `beside` come after those of `x`."""
        from torch.nn.functional import linear

        parts = [x] if beside is None else [x, beside]
        hidden = _convolved(ops.group_norm(parts, self._norms[0]), self._convolutions[0])
        shift = self._first_bias[None] if time is None else linear(time, self._time.weight, self._first_bias)
        hidden = _convolved(ops.group_norm([hidden], self._norms[1], shift), self._convolutions[1])
        return ops.add_(hidden, self._skip(x, beside), self._last_bias)

    def _skip(self, x: torch.Tensor, beside: torch.Tensor | None) -> torch.Tensor:
        from torch.nn.functional import linear

        if self._shortcut is None:
            return x
        width = x.shape[1]
        total = linear(rows(x), self._shortcut[:, :width])
        if beside is not None:
            total.flatten(0, 1).addmm_(rows(beside).flatten(0, 1), self._shortcut[:, width:].t())
        return image(total, x.shape)


class Upsample:
    """`diffusers.Upsample2D` to twice the size, as one convolution."""

    def __init__(self, module: Any) -> None:
        self._module, self._weight = module, doubling(module.conv.weight)

    def refresh(self) -> None:
        self._weight.copy_(doubling(self._module.conv.weight))

    def __call__(self, x: torch.Tensor, size: torch.Size | None = None) -> torch.Tensor:
        from torch.nn.functional import conv_transpose2d

        if size is not None and tuple(size) != (2 * x.shape[2], 2 * x.shape[3]):
            odd: torch.Tensor = self._module(x, size)
            return odd
        return conv_transpose2d(x, self._weight, self._module.conv.bias, stride=2, padding=1)


class Block:
    """`diffusers.BasicTransformerBlock` as SDXL has it. Adding its last output is left to the next norm."""

    def __init__(self, module: Any) -> None:
        self._norms = module.norm1, module.norm2, module.norm3
        self._heads = module.attn1.heads
        self._qkv = _join(module.attn1)
        self._own_out, self._text_out = module.attn1.to_out[0], module.attn2.to_out[0]
        self._query, self._key, self._value = module.attn2.to_q, module.attn2.to_k, module.attn2.to_v
        self._wide, self._narrow = module.ff.net[0].proj, module.ff.net[2]

    def keys(self, text: torch.Tensor) -> Keys:
        """What the text is attended by, (texts, heads, tokens, width of a head) each."""
        return self._split(self._key(text)), self._split(self._value(text))

    def __call__(self, x: torch.Tensor, pending: torch.Tensor | None, keys: Keys) -> tuple[torch.Tensor, torch.Tensor]:
        x, normed = ops.add_norm(x, pending, self._norms[0])
        x, normed = ops.add_norm(x, self._attend_itself(normed), self._norms[1])
        x, normed = ops.add_norm(x, self._attend_text(normed, keys), self._norms[2])
        return x, self._feed_forward(normed)

    def _attend_itself(self, x: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import linear, scaled_dot_product_attention

        query, key, value = (self._split(part) for part in linear(x, self._qkv).chunk(3, dim=-1))
        result: torch.Tensor = self._own_out(_merged(scaled_dot_product_attention(query, key, value)))
        return result

    def _attend_text(self, x: torch.Tensor, keys: Keys) -> torch.Tensor:
        """All images with the same text are one long row of queries to it."""
        from torch.nn.functional import scaled_dot_product_attention

        query = self._split(self._query(x).view(len(keys[0]), -1, x.shape[-1]))
        result: torch.Tensor = self._text_out(_merged(scaled_dot_product_attention(query, *keys)))
        return result.view(x.shape)

    def _feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        """Into the memory of `x`, and for large images in parts, since the layer between is eight times as wide."""
        import torch

        flat = x.flatten(0, 1)
        for part in flat.chunk(-(-len(flat) // ROWS)):
            torch.addmm(self._narrow.bias, ops.gate(self._wide(part)), self._narrow.weight.t(), out=part)
        return x

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:2], self._heads, -1).transpose(1, 2)


class Transformer:
    """`diffusers.Transformer2DModel` as SDXL has it: blocks between two linear layers."""

    def __init__(self, module: Any) -> None:
        self._norm, self._in, self._out = module.norm, module.proj_in, module.proj_out
        self._blocks = [Block(block) for block in module.transformer_blocks]

    def keys(self, text: torch.Tensor) -> list[Keys]:
        return [block.keys(text) for block in self._blocks]

    def __call__(self, x: torch.Tensor, keys: list[Keys]) -> torch.Tensor:
        from torch.nn.functional import linear

        hidden, pending = self._in(rows(ops.group_norm([x], self._norm, silu=False))), None
        for block, text in zip(self._blocks, keys, strict=True):
            hidden, pending = block(hidden, pending, text)
        hidden = linear(hidden if pending is None else hidden.add_(pending), self._out.weight)
        return ops.add_(image(hidden, x.shape), x, self._out.bias)


class ImageAttention:
    """`diffusers.Attention` of one head over all pixels, as the VAE has it."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import linear, scaled_dot_product_attention

        layer = self._module
        normed = rows(ops.group_norm([x], layer.group_norm, silu=False))
        query, key, value = (part(normed)[:, None] for part in (layer.to_q, layer.to_k, layer.to_v))
        hidden = scaled_dot_product_attention(query, key, value)[:, 0]
        return ops.add_(image(linear(hidden, layer.to_out[0].weight), x.shape), x, layer.to_out[0].bias)


def rows(x: torch.Tensor) -> torch.Tensor:
    """An image with channels last as (images, pixels, channels), without copying."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def image(x: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Rows as an image of this height and width, without copying."""
    return x.view(len(x), *shape[2:], -1).permute(0, 3, 1, 2)


def _convolved(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import conv2d

    return conv2d(x, weight, padding=1)


def _merged(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).flatten(2)


def _join(attention: Any) -> torch.Tensor:
    """One matrix for queries, keys and values. The module keeps its three as views of it, so nothing is held twice."""
    import torch

    layers = (attention.to_q, attention.to_k, attention.to_v)
    joined = torch.cat([layer.weight.data for layer in layers])
    for layer, part in zip(layers, joined.chunk(3), strict=True):
        layer.weight.data = part
    return joined
