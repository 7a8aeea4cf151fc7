"""The text encoders learn what captions say before anything is drawn from them, as CLIP and umT5 had learned it.

Two small heads read every fact off an encoder's output, and are thrown away: one off the tokens, and where there is a
pooled vector one off that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from toys.world import COLOURS, MOTIONS, PLACES, SHAPES, SIZES, Item, Wish

if TYPE_CHECKING:
    from torch import Tensor, nn

    from toys.loop import Loss

ITEM: Mapping[str, Sequence[Any]] = {
    "shape": SHAPES,
    "colour": list(COLOURS),
    "size": list(SIZES),
    "place": PLACES,
}
FACTS: Mapping[str, Sequence[Any]] = {
    "background": list(COLOURS),
    "count": [1, 2, 3],
    "line": ["row", "column"],
    "motion": [*MOTIONS, "still"],
    **{f"{which} {name}": options for which in ("first", "second") for name, options in ITEM.items()},
}
"""What can be told of a caption; what it does not say counts as an option too, the first."""
OPTIONS = [1 + len(values) for values in FACTS.values()]


def facts(wish: Wish) -> list[int]:
    """The number of the option for each of `FACTS`."""
    items = [*wish.items, Item()][:2]
    said: list[Any] = [wish.background, wish.count, wish.line, wish.motion]
    said += [value for item in items for value in (item.shape, item.colour, item.size, item.place)]
    return [0 if fact is None else 1 + options.index(fact) for fact, options in zip(said, FACTS.values(), strict=True)]


def fact_table(told: Sequence[Wish]) -> Tensor:
    """(wishes, facts)"""
    import torch

    return torch.tensor([facts(wish) for wish in told])


def heads(width: int, pooled: int | None = None) -> nn.Module:
    """Reads facts off tokens of this width and off pooled vectors."""
    from torch import nn

    parts = {"asked": nn.Linear(width, len(OPTIONS), bias=False), "tokens": nn.Linear(width, sum(OPTIONS))}
    return nn.ModuleDict(parts if pooled is None else {**parts, "pooled": nn.Linear(pooled, sum(OPTIONS))})


def words_loss(hear: Callable[..., tuple[Tensor, Tensor | None]], reading: Any) -> Loss:
    """The heads tell what the captions of a batch say. `hear` makes tokens (prompts, tokens, width) of what was fed,
    and pooled vectors (prompts, width) where they count; the last that is fed is the facts (prompts, facts)."""

    def loss(*fed: Tensor) -> Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        *said, wanted = fed
        embeds, pooled = hear(*said)
        seen = torch.einsum("btf,btw->bfw", reading["asked"](embeds).softmax(1), embeds)
        answers = [part[:, number] for number, part in enumerate(reading["tokens"](seen).split(OPTIONS, -1))]
        answers += reading["pooled"](pooled).split(OPTIONS, -1) if pooled is not None else []
        losses = [cross_entropy(answer, wanted[:, n % len(OPTIONS)]) for n, answer in enumerate(answers)]
        return torch.stack(losses).mean()

    return loss
