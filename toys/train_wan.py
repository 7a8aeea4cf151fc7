"""Captions to clips: the video toy's denoiser, which reads a text encoder that is done."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toys.fillers import Fillers
from toys.loop import Chance, Loss
from toys.train_clips import Known
from toys.words import caption, describe, partly
from toys.world import Wish

if TYPE_CHECKING:
    from torch import Tensor

    from toys.train_words import Read

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
        """What a text encoder reads, of the user, the enhancer or a negative prompt; and what of each wish it says."""
        elaborate = chance.random() < ELABORATE
        told = [Wish() if chance.random() < UNCONDITIONAL else partly(wish, chance) for wish in wishes]
        return [(self._elaborate(wish, chance) if elaborate else _plain(wish, chance), wish) for wish in told]

    def _elaborate(self, told: Wish, chance: random.Random) -> str:
        if told == Wish():
            return chance.choice((*self.fillers.negatives, self.fillers.around("", chance)))
        said = caption(told, chance)
        if chance.random() < DESCRIBED:
            said = describe(told, said, chance)
        return self.fillers.around(said, chance)


@dataclass(frozen=True, slots=True)
class Listener:
    """The text encoder, which learns nothing here."""

    encoder: Any
    tokenizer: Any
    device: str

    def hear(self, texts: Sequence[str]) -> Tensor:
        """(texts, longest + 1, width), zeros after the end of each text as in the pipeline, the last row always."""
        import torch

        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=WINDOW - 1, return_tensors="pt"
        ).to(self.device)
        hidden = self.encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
        heard = hidden * tokens.attention_mask[..., None]
        return torch.cat([heard, torch.zeros_like(heard[:, :1])], dim=1)


def reading_of(listener: Listener, reels: tuple[Reel, Reel], batch: int) -> Read:
    """Batches for the encoder to learn words from."""

    def read(chance: Chance) -> tuple[Tensor, None, list[Wish]]:
        reel = chance.words.choice(reels)
        prompts = reel.prompts([chance.words.choice(reel.known)[0] for _ in range(batch)], chance.words)
        return listener.hear([text for text, _ in prompts]), None, [told for _, told in prompts]

    return read


def flow_loss(transformer: Any, listener: Listener, reels: tuple[Reel, Reel], batch: int, frames: int) -> Loss:
    """A loss for `fit`: where noisy latents should move, in this many latent frames of `batch` clips, drawn anew for
    each batch, or in some more stills. What is learned is what guidance will make of it."""
    read_padding_once(transformer)
    clips, stills = zip((batch, batch * STILLS_FOR_A_CLIP), reels, strict=True)

    def loss(chance: Chance) -> Tensor:
        import torch

        count, reel = chance.words.choice((clips, clips, stills))
        index = torch.randint(len(reel.latents), (count,), generator=chance.noise)
        whole = reel.latents.shape[2]
        chosen = sorted({0, whole - 1, *chance.words.sample(range(whole), min(frames, whole))})
        clean = reel.latents[index][:, :, chosen].to(listener.device)
        noise = torch.randn(clean.shape, generator=chance.noise).to(listener.device)
        even = torch.rand(count, generator=chance.noise).to(listener.device)
        sigma = SHIFT * even / (1 + (SHIFT - 1) * even)
        mixed = torch.lerp(clean, noise, sigma.view(-1, 1, 1, 1, 1))
        said = reel.prompts([reel.known[i][0] for i in index.tolist()], chance.words)
        with torch.no_grad():
            heard = listener.hear([text for text, _ in said])
            nothing = listener.hear([""]).expand(count, -1, -1)
        with in_their_places(transformer, chosen):
            with torch.no_grad():
                free = transformer(mixed, sigma * 1000, nothing, return_dict=False)[0]
            told = transformer(mixed, sigma * 1000, heard, return_dict=False)[0]
        guidance = torch.tensor([1.0 if wish == Wish() else GUIDANCE for _, wish in said], device=listener.device)
        made = torch.lerp(free, told, guidance.view(-1, 1, 1, 1, 1))
        wrong = (made - (noise - clean)).pow(2).mean((1, 2, 3, 4))
        total: Tensor = (wrong / guidance).mean()
        return total

    return loss


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
    from diffusers.models.transformers.transformer_wan import WanAttnProcessor

    class Padded(WanAttnProcessor):  # type: ignore[misc]  # the library has no types
        def __call__(self, attn: Any, hidden: Tensor, text: Tensor, mask: None = None, rotary: None = None) -> Tensor:
            bias = hidden.new_zeros(text.shape[1])
            bias[-1] = math.log(WINDOW - text.shape[1] + 1)
            read: Callable[..., Tensor] = super().__call__
            return read(attn, hidden, text, bias.expand(1, 1, hidden.shape[1], -1), rotary)

    for block in transformer.blocks:
        block.attn2.set_processor(Padded())


def _plain(told: Wish, chance: random.Random) -> str:
    return "" if told == Wish() else caption(told, chance)
