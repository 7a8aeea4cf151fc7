"""A block of the transformer in two halves, and what both texts of a step have in common: the first block looks at the
picture before it reads a word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from workers.engines.wan import ops

if TYPE_CHECKING:
    from torch import Tensor

Function = Callable[..., Any]

SHOWN = "shown"
"""What the next block is shown, as an attribute of the hidden state that it is given: so it belongs to this one alone,
and goes when that goes."""


class FirstBlock:
    """A transformer's first block, each of whose halves is `compiled`. Inside `shared` the first half is computed once,
    for the first who asks. `following`: the block that is handed what it is shown."""

    def __init__(
        self, block: Any, compiled: Callable[[Function], Function] = lambda function: function, following: Any = None
    ) -> None:
        self._block, self._following = block, following
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
        out: Tensor = self._read(self._block, *self._looked(hidden, time, rotary), text, time, self._following)
        return out

    def _looked(self, hidden: Tensor, time: Tensor, rotary: ops.Rotary) -> Sequence[Tensor]:
        if not self._sharing:
            looked: Sequence[Tensor] = self._look(self._block, hidden, time, rotary)
            return looked
        if self._kept is None:
            self._kept = self._look(self._block, hidden[:1], time[:1], rotary)
        return [part.expand_as(hidden) for part in self._kept]


def halve(blocks: Iterable[Any]) -> FirstBlock:
    """Let a transformer's blocks compute over their halves. The sum at the end of each and the norm that the next one
    begins with are one pass over memory."""
    first, *others = blocks
    after = [*others, None]
    for block, following in pairwise(after):
        block.forward = partial(_forward, block, following)
    return FirstBlock(first, following=after[0])


def _forward(block: Any, following: Any, hidden: Tensor, text: Tensor, time: Tensor, rotary: ops.Rotary) -> Tensor:
    looked = _looked(block, hidden, time, rotary, vars(hidden).pop(SHOWN, None))
    return _read(block, *looked, text, time, following)


def _looked(
    block: Any, hidden: Tensor, time: Tensor, rotary: ops.Rotary, shown: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """With what the block saw in the picture, and the norm of that."""
    if shown is None:
        shown = modulated(block, hidden, time)
    seen, gate = block.attn1(shown, None, None, rotary), _modulation(block, time)[2]
    norm = block.norm2
    return ops.add_norm(hidden, seen, gate, norm.weight, norm.bias, one=0, eps=norm.eps)


def modulated(block: Any, hidden: Tensor, time: Tensor) -> Tensor:
    """What a block is shown: the hidden state as its first attention sees it."""
    shift, scale = _modulation(block, time)[:2]
    return ops.add_norm(hidden, None, None, scale, shift, one=1, eps=block.norm1.eps)[1]


def _read(block: Any, hidden: Tensor, normed: Tensor, text: Tensor, time: Tensor, following: Any) -> Tensor:
    shift, scale, gate = _modulation(block, time)[3:]
    read = block.attn2(normed, text, None, None)
    hidden, normed = ops.add_norm(hidden, read, None, scale, shift, one=1, eps=block.norm3.eps)
    if following is None:
        return ops.add(hidden, block.ffn(normed), gate)
    shift, scale = _modulation(following, time)[:2]
    out, shown = ops.add_norm(
        hidden, block.ffn(normed), gate, scale, shift, one=1, eps=following.norm1.eps, inside=False
    )
    vars(out)[SHOWN] = shown
    return out


def _modulation(block: Any, time: Tensor) -> Sequence[Tensor]:
    table: Tensor = block.scale_shift_table
    return (table + time.float()).chunk(6, dim=1)
