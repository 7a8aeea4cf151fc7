"""One forward pass of SDXL's denoiser over the fast layers, in place of diffusers' own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workers.engines.sdxl import ops
from workers.engines.sdxl.blocks import Resnet, Transformer, Upsample

if TYPE_CHECKING:
    import torch

    from workers.engines.sdxl.blocks import Keys


class Stage:
    """The layers of one resolution, on the way down or up; `resample` leads to the next one."""

    def __init__(self, module: Any) -> None:
        self.resnets = [Resnet(resnet) for resnet in module.resnets]
        self.transformers = [Transformer(transformer) for transformer in getattr(module, "attentions", ())]
        down, up = (getattr(module, name, None) or () for name in ("downsamplers", "upsamplers"))
        self.resample: Any = next(iter([*down, *map(Upsample, up)]), None)

    def attend(self, index: int, x: torch.Tensor, texts: list[list[Keys]]) -> torch.Tensor:
        """Through the transformer behind the resnet of this index; it takes its text from the front of `texts`."""
        return self.transformers[index](x, texts.pop(0)) if self.transformers else x


class Denoiser:
    """Reads one prompt, and its negative one, for all images of a batch.

    What the text's keys and values are is computed once per job: they are the same in every step.
    """

    def __init__(self, unet: Any) -> None:
        import torch

        unet.to(memory_format=torch.channels_last)
        self._unet = unet
        self._down = [Stage(block) for block in unet.down_blocks]
        self._mid = Stage(unet.mid_block)
        self._up = [Stage(block) for block in unet.up_blocks]
        self._text: torch.Tensor | None = None
        self._keys: list[list[Keys]] = []

    def refresh(self) -> None:
        """Weights were changed in place: forget the text's keys, and sum the doubling's weights anew, also in place."""
        self._text, self._keys = None, []
        for stage in self._up:
            if isinstance(stage.resample, Upsample):
                stage.resample.refresh()

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        added_cond_kwargs: Mapping[str, torch.Tensor],
        **_: Any,
    ) -> tuple[torch.Tensor]:
        """Called by the pipeline in place of the module's own `forward`, with the same text in every step of a job."""
        if encoder_hidden_states is not self._text:
            self._text, self._keys = encoder_hidden_states, self.read(self.different(encoder_hidden_states))
        return (self.predict(sample, timestep, added_cond_kwargs, self._keys),)

    @staticmethod
    def different(text: torch.Tensor) -> torch.Tensor:
        """The rows that differ. `text` (images, tokens, width) holds the same rows in each of its halves, the first of
        them the negative prompt's, if there is guidance; else the same in all."""
        return text[:: len(text) // (2 - len(text) % 2)]

    def read(self, texts: torch.Tensor) -> list[list[Keys]]:
        """Keys and values for every transformer."""
        stages = [*self._down, self._mid, *self._up]
        return [transformer.keys(texts) for stage in stages for transformer in stage.transformers]

    def predict(
        self, sample: torch.Tensor, timestep: torch.Tensor, added: Mapping[str, torch.Tensor], keys: list[list[Keys]]
    ) -> torch.Tensor:
        """The noise in `sample`, from `conv_in` down, through the middle and up again to `conv_out`."""
        import torch

        unet, texts = self._unet, list(keys)
        time = self._time(sample, timestep, added)
        x = unet.conv_in(sample.contiguous(memory_format=torch.channels_last))
        skips = [x]
        for stage in self._down:
            for index in range(len(stage.resnets)):
                x = stage.attend(index, stage.resnets[index](x, time), texts)
                skips.append(x)
            if stage.resample is not None:
                x = stage.resample(x)
                skips.append(x)
        x = self._mid.attend(0, self._mid.resnets[0](x, time), texts)
        x = self._mid.resnets[1](x, time)
        for stage in self._up:
            for index in range(len(stage.resnets)):
                x = stage.resnets[index](x, time, skips.pop())
                x = stage.attend(index, x, texts)  # in two lines: what the resnet read is free by now
            if stage.resample is not None:
                x = stage.resample(x, skips[-1].shape[2:])
        prediction: torch.Tensor = unet.conv_out(ops.group_norm([x], unet.conv_norm_out))
        return prediction

    def _time(self, sample: torch.Tensor, timestep: torch.Tensor, added: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The step and the picture's sizes as (images, width), activated."""
        from torch.nn.functional import silu

        embedded = self._unet.time_embedding(self._unet.get_time_embed(sample, timestep))
        return silu(
            embedded + self._unet.get_aug_embed(emb=embedded, encoder_hidden_states=None, added_cond_kwargs=added)
        )
