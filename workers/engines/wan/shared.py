"""A block of the transformer in two halves, and what both texts of a step have in common: the first block looks at the
picture before it reads a word."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any

from workers.engines.wan import ops

if TYPE_CHECKING:
    from torch import Tensor

Function = Callable[..., Any]


class FirstBlock:
    """A transformer's first block, each of whose halves is `compiled`. Inside `shared` the first half is computed once,
    for the first who asks."""

    def __init__(self, block: Any, compiled: Callable[[Function], Function] = lambda function: function) -> None:
        self._block = block
        self._look, self._read = compiled(_looked), compiled(_read)
        self._sharing = False
        self._kept: tuple[Tensor, Tensor] | None = None
        block.forward = self.forward

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Every picture in here, of one call or of several, is the same one at the same time."""
        self._sharing = True
        try:
            yield
        finally:
            self._sharing, self._kept = False, None

    def forward(self, hidden: Tensor, text: Tensor, time: Tensor, rotary: ops.Rotary) -> Tensor:
        """`hidden` (texts, tokens, width), `time` (texts, 6, width)."""
        out: Tensor = self._read(self._block, *self._looked(hidden, time, rotary), text, time)
        return out

    def _looked(self, hidden: Tensor, time: Tensor, rotary: ops.Rotary) -> Sequence[Tensor]:
        if not self._sharing:
            looked: Sequence[Tensor] = self._look(self._block, hidden, time, rotary)
            return looked
        if self._kept is None:
            self._kept = self._look(self._block, hidden[:1], time[:1], rotary)
        return [part.expand_as(hidden) for part in self._kept]


def halve(block: Any) -> None:
    """Let a block compute over its halves."""
    block.forward = MethodType(_forward, block)


def _forward(self: Any, hidden: Tensor, text: Tensor, time: Tensor, rotary: ops.Rotary) -> Tensor:
    return _read(self, *_looked(self, hidden, time, rotary), text, time)


def _looked(block: Any, hidden: Tensor, time: Tensor, rotary: ops.Rotary) -> tuple[Tensor, Tensor]:
    """With what the block saw in the picture, and the norm of that."""
    seen, gate = block.attn1(modulated(block, hidden, time), None, None, rotary), _modulation(block, time)[2]
    norm = block.norm2
    return ops.add_norm(hidden, seen, gate, norm.weight, norm.bias, one=0, eps=norm.eps)


def modulated(block: Any, hidden: Tensor, time: Tensor) -> Tensor:
    """What a block is shown: the hidden state as its first attention sees it."""
    shift, scale = _modulation(block, time)[:2]
    return ops.add_norm(hidden, None, None, scale, shift, one=1, eps=block.norm1.eps)[1]


def _read(block: Any, hidden: Tensor, normed: Tensor, text: Tensor, time: Tensor) -> Tensor:
    shift, scale, gate = _modulation(block, time)[3:]
    read = block.attn2(normed, text, None, None)
    hidden, normed = ops.add_norm(hidden, read, None, scale, shift, one=1, eps=block.norm3.eps)
    return ops.add(hidden, block.ffn(normed), gate)


def _modulation(block: Any, time: Tensor) -> Sequence[Tensor]:
    table: Tensor = block.scale_shift_table
    return (table + time.float()).chunk(6, dim=1)
