"""What both texts of a step have in common: the first block looks at the picture before it reads a word."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Function = Callable[..., Any]


class FirstBlock:
    """A transformer's first block in two halves, each of which is `compiled`: until it has mixed what it sees, and
    from where it reads the text. Inside `shared` the first half is computed once, for the first who asks."""

    def __init__(self, block: Any, compiled: Callable[[Function], Function]) -> None:
        self._block = block
        self._mix, self._read = compiled(_mixed), compiled(_after_reading)
        self._sharing = False
        self._kept: Tensor | None = None
        block.forward = self.forward

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Every picture in here, of one call or of several, is the same one at the same time."""
        self._sharing = True
        try:
            yield
        finally:
            self._sharing, self._kept = False, None

    def forward(self, hidden: Tensor, text: Tensor, time: Tensor, rotary: Any) -> Tensor:
        """`hidden` (texts, tokens, width), `time` (texts, 6, width)."""
        out: Tensor = self._read(self._block, self._mixed(hidden, time, rotary), text, time)
        return out

    def _mixed(self, hidden: Tensor, time: Tensor, rotary: Any) -> Tensor:
        if not self._sharing:
            mixed: Tensor = self._mix(self._block, hidden, time, rotary)
            return mixed
        if self._kept is None:
            self._kept = self._mix(self._block, hidden[:1], time[:1], rotary)
        return self._kept.expand_as(hidden)


def _mixed(block: Any, hidden: Tensor, time: Tensor, rotary: Any) -> Tensor:
    seen, gate = modulated(block, hidden, time).type_as(hidden), _modulation(block, time)[2]
    mixed: Tensor = (hidden.float() + block.attn1(seen, None, None, rotary) * gate).type_as(hidden)
    return mixed


def modulated(block: Any, hidden: Tensor, time: Tensor) -> Tensor:
    """What a block is shown, in float32: the hidden state as its first attention sees it."""
    shift, scale = _modulation(block, time)[:2]
    shown: Tensor = block.norm1(hidden.float()) * (1 + scale) + shift
    return shown


def _after_reading(block: Any, hidden: Tensor, text: Tensor, time: Tensor) -> Tensor:
    shift, scale, gate = _modulation(block, time)[3:]
    hidden = hidden + block.attn2(block.norm2(hidden.float()).type_as(hidden), text, None, None)
    normed = (block.norm3(hidden.float()) * (1 + scale) + shift).type_as(hidden)
    fed: Tensor = (hidden.float() + block.ffn(normed).float() * gate).type_as(hidden)
    return fed


def _modulation(block: Any, time: Tensor) -> Sequence[Tensor]:
    table: Tensor = block.scale_shift_table
    return (table + time.float()).chunk(6, dim=1)
