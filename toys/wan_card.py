"""What the video toy learns from on a card: clips and words as `wan_drawn` has them, from a stock, and always whole."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from toys import stock
from toys.fillers import Fillers
from toys.loop import Chance, Feed, Loss
from toys.raster import table
from toys.sizes import WAN_FRAMES, WAN_SIZE
from toys.stock import Pictures, Prompts
from toys.train_clips import CHANNELS, LOOKED_AT, SLACK, Known, normalised, scenes
from toys.train_wan import ELABORATE, GUIDANCE, WINDOW, Listener, flow_loss, in_noise, prompts
from toys.train_words import fact_table
from toys.world import Wish

if TYPE_CHECKING:
    from torch import Tensor

PARTS = 8
PART_OF_A_CLIP = 17
"""Frames that the decoder learns from at a time."""
CLIPS_AT_ONCE = 128
STILLS_FOR_A_CLIP = 8
"""More than on a CPU: a clip takes twenty times as long, but stills differ in more, and starting kernels costs most."""
MEDIA = ("video", "image")
LENGTHS: Mapping[bool, int] = {False: 31, True: WINDOW - 1}
"""Tokens of plain prompts and of elaborate ones."""
WORDINGS: Mapping[bool, int] = {False: 6, True: 2}
"""How often each scene is worded, plainly and elaborately."""

Kind = tuple[str, bool]


class CardFeeds:
    """Clips are those of `MEDIA` "video", stills those of "image"; `films` are things of every kind that move."""

    def __init__(self, vae: Any, listener: Listener, known: Mapping[str, Fillers], seed: int) -> None:
        self._vae, self._listener = vae, listener
        make = partial(_part, Listener(None, listener.tokenizer, "cpu"), known, stock.PART, seed)
        rows, *said = stock.made(make, PARTS, listener.device)
        self._films, *shown = (Pictures(some, WAN_SIZE) for some in rows)
        self._shown = dict(zip(MEDIA, shown, strict=True))
        kinds = [(media, elaborate) for media in MEDIA for elaborate in LENGTHS]
        self._said = {kind: Prompts(scenes, fed) for kind, (scenes, *fed) in zip(kinds, said, strict=True)}

    def stills(self, batch: int) -> Feed:
        def feed(chance: Chance) -> tuple[Tensor, ...]:
            return self._film(batch, 1, chance)

        return feed

    def clips(self, batch: int) -> Feed:
        def feed(chance: Chance) -> tuple[Tensor, ...]:
            wanted, noise = self._film(batch, PART_OF_A_CLIP, chance)
            return wanted, noise, noise.new_full((), SLACK * chance.words.random())

        return feed

    def reels(self) -> dict[str, Tensor]:
        """Latents by medium, normalised by those of the clips."""
        times = {"video": _times(self._films)[LOOKED_AT], "image": self._films.rows.new_zeros(1)}
        found = {media: self._encoded(self._shown[media], times[media]) for media in MEDIA}
        return {media: normalised(self._vae, latents, found["video"]) for media, latents in found.items()}

    def said(self, reels: Mapping[str, Tensor], batch: int) -> Feed:
        def feed(chance: Chance) -> tuple[Tensor, ...]:
            _, (ids, mask, facts, _) = self._said[_kind(chance)].some(batch, chance)
            return ids.long(), mask.long(), facts.long()

        return feed

    def denoisers(self, transformer: Any, reels: Mapping[str, Tensor]) -> Iterator[tuple[str, Any, Loss]]:
        """First what is true, then what guidance makes true."""
        heard = {kind: self._hear(prompts) for kind, prompts in self._said.items()}
        for name, guided in (("wan_plain", False), ("wan_guided", True)):
            yield name, partial(_noisy, reels, heard), flow_loss(transformer, self._listener, guided=guided)

    def _film(self, batch: int, frames: int, chance: Chance) -> tuple[Tensor, Tensor]:
        """This many frames from somewhere in some films, and noise for their latents."""
        import torch

        first = chance.words.randrange(WAN_FRAMES - frames + 1)
        times = _times(self._films)[first : first + frames]
        wanted = self._films.painted(self._films.some(batch, chance), times)
        size = (batch, CHANNELS, 1 + frames // 4, wanted.shape[-2] // 8, wanted.shape[-1] // 8)
        return wanted, torch.randn(size, generator=chance.noise, device=wanted.device)

    def _encoded(self, shown: Pictures, times: Tensor) -> Tensor:
        def encode(rows: Tensor) -> tuple[Tensor, ...]:
            frames = Pictures(rows, WAN_SIZE).painted(slice(None), times)
            stills = frames.transpose(1, 2).flatten(0, 1)[:, :, None]
            latents = self._vae.encode(stills).latent_dist.mean
            return (latents.unflatten(0, (len(rows), -1))[:, :, :, 0].transpose(1, 2),)

        return stock.all_through(encode, shown.rows, at_once=CLIPS_AT_ONCE)[0].float()

    def _hear(self, prompts: Prompts) -> Prompts:
        """With what the encoder makes of the prompts in the place of their tokens."""
        ids, mask, _, silent = prompts.fed
        heard = stock.all_through(lambda a, b: (self._listener.hear(a.long(), b.long()),), ids, mask)
        return Prompts(prompts.scenes, [*heard, silent])


def _noisy(reels: Mapping[str, Tensor], heard: Mapping[Kind, Prompts], batch: int) -> Feed:
    """Whole clips, or more stills, in noise, and what is said of them, as `flow_loss` reads it."""
    import torch

    def feed(chance: Chance) -> tuple[Tensor, ...]:
        media, elaborate = _kind(chance)
        count = batch if media == "video" else batch * STILLS_FOR_A_CLIP
        index, (said, silent) = heard[media, elaborate].some(count, chance)
        guidance = torch.where(silent > 0, 1.0, GUIDANCE)
        return said.float(), *in_noise(reels[media][index], chance.noise), guidance

    return feed


def _kind(chance: Chance) -> Kind:
    return chance.words.choice(MEDIA), chance.words.random() < ELABORATE


def _times(pictures: Pictures) -> Tensor:
    import torch

    return torch.linspace(-0.5, 0.5, WAN_FRAMES, device=pictures.rows.device)


def _part(
    listener: Listener, known: Mapping[str, Fillers], number: int, seed: int, part: int
) -> list[Sequence[Tensor]]:
    """A part of the stock: films, clips and stills, then what is said of clips and of stills."""
    some = f"{seed} {part}"
    shown = [scenes(number, some, moving=media == "video") for media in MEDIA]
    rows = [table([scene for _, scene in each]) for each in (scenes(number, f"films {some}", moving=None), *shown)]
    chance = random.Random(f"words {some}")
    said = [
        _said(listener, known[media], each, chance, elaborate, part * number)
        for media, each in zip(MEDIA, shown, strict=True)
        for elaborate in LENGTHS
    ]
    return [rows, *said]


def _said(
    listener: Listener, filler: Fillers, known: Known, chance: random.Random, elaborate: bool, first: int
) -> list[Tensor]:
    """Numbers of scenes, tokens and which of them count, facts, and whether nothing is said."""
    import torch

    wishes = [wish for wish, _ in known] * WORDINGS[elaborate]
    texts, told = zip(*prompts(filler, wishes, chance, elaborate=elaborate), strict=True)
    ids, mask = listener.tokens(texts, LENGTHS[elaborate])
    silent = torch.tensor([wish == Wish() for wish in told], dtype=torch.int8)
    index = first + torch.arange(len(known)).repeat(WORDINGS[elaborate])
    return [index, ids.short(), mask.to(torch.int8), fact_table(told).to(torch.int8), silent]
