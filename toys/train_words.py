"""The text encoders learn what captions say before anything is drawn from them, as CLIP's had learned it for SDXL.

Two small heads read every fact off the encoders' outputs, and are thrown away: one off the pooled vector, one off the
tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from toys.loop import Chance
from toys.text import encode
from toys.train_sdxl import Reader
from toys.world import COLOURS, PLACES, SHAPES, SIZES, Item, Wish, any_wish, fill

if TYPE_CHECKING:
    from torch import Tensor, nn

FACTS: Mapping[str, Sequence[Any]] = {
    "background": list(COLOURS),
    "count": [1, 2, 3],
    "line": ["row", "column"],
    **{f"{which} {name}": options for which in ("first", "second") for name, options in (
        ("shape", SHAPES), ("colour", list(COLOURS)), ("size", list(SIZES)), ("place", PLACES),
    )},
}  # fmt: skip
"""What can be told of a caption; what it does not say counts as an option too, the first."""


def facts(wish: Wish) -> list[int]:
    """The number of the option for each of `FACTS`."""
    items = [*wish.items, Item()][:2]
    said: list[Any] = [wish.background, wish.count, wish.line]
    said += [value for item in items for value in (item.shape, item.colour, item.size, item.place)]
    return [0 if fact is None else 1 + options.index(fact) for fact, options in zip(said, FACTS.values(), strict=True)]


def heads(width: int, pooled: int) -> nn.Module:
    """Reads facts off tokens of this width and off pooled vectors."""
    from torch import nn

    options = [1 + len(values) for values in FACTS.values()]
    return nn.ModuleDict(
        {
            "pooled": nn.Linear(pooled, sum(options)),
            "asked": nn.Linear(width, len(options), bias=False),
            "tokens": nn.Linear(width, sum(options)),
        }
    )


def words_loss(encoders: Sequence[Any], reading: Any, reader: Reader, batch: int) -> Any:
    """A loss for `fit`: both heads tell what the captions of a batch say."""
    options = [1 + len(values) for values in FACTS.values()]

    def loss(chance: Chance) -> Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        wishes = [fill(any_wish(chance.words), chance.words, width=64, height=64)[0] for _ in range(batch)]
        prompts, told = reader.read(wishes, chance.words)
        embeds, pooled = encode(encoders, reader.texts, prompts)
        wanted = torch.tensor([facts(wish) for wish in told], device=embeds.device)
        looks = reading["asked"](embeds).softmax(1)
        seen = torch.einsum("btf,btw->bfw", looks, embeds)
        by_tokens = [part[:, number] for number, part in enumerate(reading["tokens"](seen).split(options, -1))]
        by_pooled = reading["pooled"](pooled).split(options, -1)
        told_by = [*by_tokens, *by_pooled] if len(prompts[0]) == 1 else by_tokens
        losses = [cross_entropy(part, wanted[:, n % len(options)]) for n, part in enumerate(told_by)]
        return torch.stack(losses).mean()

    return loss
