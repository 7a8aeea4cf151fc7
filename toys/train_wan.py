"""Captions to clips: the video toy's denoiser, which reads a text encoder that is done."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toys.fillers import Fillers
from toys.loop import Chance, Feed, Loss
from toys.train_clips import Known
from toys.train_words import fact_table
from toys.words import caption, describe, partly
from toys.world import Wish

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 512
"""Tokens that the pipeline hands over; what a text does not fill is zeros."""
UNCONDITIONAL = 0.2
SHIFT = 4.0
"""How much training dwells on noisy latents."""
GUIDANCE = 3.0
"""At which guidance the pictures are true. That of the presets is twice as much, and then pushes as hard as twice the
right amount; a model that is true without guidance would be pushed six times as hard, and its colours burn out."""
STILLS_FOR_A_CLIP = 3
ELABORATE = 0.15
"""Share of batches with style words and negative prompts around the captions; the others are plain, short and quick."""
DESCRIBED = 0.4
"""Share of captions in elaborate batches as an enhancer words them."""


@dataclass(frozen=True, slots=True)
class Reel:
    """Latents (clips, 16, latent frames, height / 8, width / 8), normalised, and what can be said of each."""

    latents: Tensor
    known: Known
    fillers: Fillers

    def prompts(self, wishes: Sequence[Wish], chance: random.Random) -> list[tuple[str, Wish]]:
        return prompts(self.fillers, wishes, chance, elaborate=chance.random() < ELABORATE)


def prompts(
    fillers: Fillers, wishes: Sequence[Wish], chance: random.Random, *, elaborate: bool
) -> list[tuple[str, Wish]]:
    """What a text encoder reads, of the user, the enhancer or a negative prompt; and what of each wish it says."""
    told = [Wish() if chance.random() < UNCONDITIONAL else partly(wish, chance) for wish in wishes]
    return [(_elaborate(fillers, wish, chance) if elaborate else _plain(wish, chance), wish) for wish in told]


@dataclass(frozen=True, slots=True)
class Listener:
    """The text encoder, which learns nothing here."""

    encoder: Any
    tokenizer: Any
    device: str

    def tokens(self, texts: Sequence[str], length: int | None = None) -> tuple[Tensor, Tensor]:
        """Numbers of tokens and which of them count, filled up to the longest or to `length`."""
        padding = {"padding": "longest" if length is None else "max_length", "max_length": length or WINDOW - 1}
        tokens = self.tokenizer(list(texts), truncation=True, return_tensors="pt", **padding).to(self.device)
        return tokens.input_ids, tokens.attention_mask

    def hear(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(texts, longest + 1, width), zeros after the end of each text as in the pipeline, the last row always."""
        import torch

        heard = self.encoder(ids, mask).last_hidden_state * mask[..., None]
        return torch.cat([heard, torch.zeros_like(heard[:, :1])], dim=1)


def said(listener: Listener, reels: tuple[Reel, Reel], batch: int) -> Feed:
    """Prompts and the facts that they say."""

    def feed(chance: Chance) -> tuple[Tensor, ...]:
        reel = chance.words.choice(reels)
        worded = reel.prompts([chance.words.choice(reel.known)[0] for _ in range(batch)], chance.words)
        facts = fact_table([told for _, told in worded])
        return *listener.tokens([text for text, _ in worded]), facts.to(listener.device)

    return feed


def hearing(listener: Listener) -> Callable[..., tuple[Tensor, None]]:
    """What `words_loss` looks at."""
    return lambda ids, mask: (listener.hear(ids, mask), None)


def noisy(listener: Listener, reels: tuple[Reel, Reel], frames: int, batch: int) -> Feed:
    """This many latent frames of `batch` clips, drawn anew for each batch, or some more stills, in noise, with what is
    said of them, the guidance that shall make them true, and which frames they are."""
    clips, stills = zip((batch, batch * STILLS_FOR_A_CLIP), reels, strict=True)

    def feed(chance: Chance) -> tuple[Tensor, ...]:
        import torch

        count, reel = chance.words.choice((clips, clips, stills))
        index = torch.randint(len(reel.latents), (count,), generator=chance.noise)
        whole = reel.latents.shape[2]
        chosen = sorted({0, whole - 1, *chance.words.sample(range(whole), min(frames, whole))})
        mixed = in_noise(reel.latents[index][:, :, chosen], chance.noise)
        worded = reel.prompts([reel.known[i][0] for i in index.tolist()], chance.words)
        with torch.no_grad():
            heard = listener.hear(*listener.tokens([text for text, _ in worded]))
        guidance = torch.tensor([1.0 if wish == Wish() else GUIDANCE for _, wish in worded])
        fed = (*mixed, guidance, torch.tensor(chosen))
        return heard, *(part.to(listener.device) for part in fed)

    return feed


def in_noise(clean: Tensor, generator: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Latents with noise, how much of it there is, and where they should move."""
    import torch

    given = {"generator": generator, "device": generator.device}
    noise = torch.randn(clean.shape, **given)
    even = torch.rand(len(clean), **given)
    sigma = SHIFT * even / (1 + (SHIFT - 1) * even)
    return torch.lerp(clean, noise, sigma.view(-1, 1, 1, 1, 1)), sigma, noise - clean


def flow_loss(transformer: Any, listener: Listener, guided: bool = True) -> Loss:
    """Where noisy latents should move; what is learned is what guidance will make of it, or the plain answer."""
    import torch

    read_padding_once(transformer)
    with torch.no_grad():
        nothing = listener.hear(*listener.tokens([""]))

    def loss(heard: Tensor, mixed: Tensor, sigma: Tensor, way: Tensor, guidance: Tensor) -> Tensor:
        made = transformer(mixed, sigma * 1000, heard, return_dict=False)[0]
        if not guided:
            plain: Tensor = (made - way).pow(2).mean()
            return plain
        with torch.no_grad():
            free = transformer(mixed, sigma * 1000, nothing.expand(len(mixed), -1, -1), return_dict=False)[0]
        made = torch.lerp(free, made, guidance.view(-1, 1, 1, 1, 1))
        wrong = (made - way).pow(2).mean((1, 2, 3, 4))
        total: Tensor = (wrong / guidance).mean()
        return total

    return loss


def of_some_frames(transformer: Any, loss: Loss) -> Loss:
    """The same, fed with which frames these are."""

    def placed(*fed: Tensor) -> Tensor:
        *given, frames = fed
        with in_their_places(transformer, frames.tolist()):
            return loss(*given)

    return placed


@contextmanager
def in_their_places(transformer: Any, frames: Sequence[int]) -> Iterator[None]:
    """Some frames of a clip teach as much as all of them in a fraction of the time, where the model is told which of
    its places they have, in order."""
    number = frames[-1] + 1

    def whole(rope: Any, given: tuple[Tensor]) -> tuple[Tensor]:
        return (given[0][:, :, :1].expand(-1, -1, number, -1, -1),)

    def chosen(rope: Any, given: Any, turns: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        kept = [turn.view(1, number, -1, 1, turn.shape[-1])[:, frames] for turn in turns]
        return tuple(turn.flatten(1, 2) for turn in kept)

    hooks = transformer.rope.register_forward_pre_hook(whole), transformer.rope.register_forward_hook(chosen)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def read_padding_once(transformer: Any) -> None:
    """The pipeline fills texts up to 512 tokens with zeros, all alike: attention reads one of them and counts it as
    often as it would stand there."""
    import torch
    from diffusers.models.transformers.transformer_wan import WanAttnProcessor

    class Padded(WanAttnProcessor):  # type: ignore[misc]  # the library has no types
        def __call__(self, attn: Any, hidden: Tensor, text: Tensor, mask: None = None, rotary: None = None) -> Tensor:
            length = text.shape[1]
            often = math.log(WINDOW - length + 1)
            bias = torch.nn.functional.pad(hidden.new_zeros(length - 1), (0, 1), value=often)
            read: Callable[..., Tensor] = super().__call__
            return read(attn, hidden, text, bias.expand(1, 1, hidden.shape[1], -1), rotary)

    for block in transformer.blocks:
        block.attn2.set_processor(Padded())


def _elaborate(fillers: Fillers, told: Wish, chance: random.Random) -> str:
    if told == Wish():
        return chance.choice((*fillers.negatives, fillers.around("", chance)))
    said = caption(told, chance)
    if chance.random() < DESCRIBED:
        said = describe(told, said, chance)
    return fillers.around(said, chance)


def _plain(told: Wish, chance: random.Random) -> str:
    return "" if told == Wish() else caption(told, chance)
