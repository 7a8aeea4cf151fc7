"""Answers by replaying one CUDA graph per token; the host looks at what was said every few tokens only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workers.card.compiled import compiled, compiling
from workers.card.gpu import on_card
from workers.card.graphs import captured
from workers.engines.qwen.step import LENGTH, Sampling, block, choose, layers_of, make_step, new_state

if TYPE_CHECKING:
    import torch

LOOK_EVERY = 8
"""Tokens between two looks: each costs a wait for the card, and half of them, on average, are said in vain."""


class Decoder:
    """One question at a time: `begin`, then `more` until the answer is long enough. The same seed, the same answer.

    On a card a step is compiled and captured by `warm_up`; elsewhere, and until then, it runs as it is written.
    """

    def __init__(self, model: Any, sampling: Sampling, most_new: int) -> None:
        self._model, self._sampling, self._most_new = model, sampling, most_new
        vocabulary = model.config.vocab_size
        self._choices = 1 if sampling.temperature == 0 else sampling.top_k or vocabulary
        self._state = new_state(model, most_new, self._choices)
        self._layers = layers_of(model)
        self._step = self._made(block)
        self._recorded = self._step  # kept, because a graph reads the tables of the step that it recorded

    def fits(self, question: int, new: int) -> bool:
        """Whether there is room for a question and an answer of so many tokens."""
        return new <= self._most_new and question + new <= LENGTH

    def warm_up(self) -> None:
        """Compile and capture. Takes seconds, or a minute where nothing compiled is kept."""
        import torch

        if not on_card(self._model.device.type):
            return
        self._recorded = self._made(compiled(block))
        with torch.inference_mode(), compiling():
            self._step = captured(self._recorded)[0].replay

    def begin(self, ids: torch.Tensor, seed: int) -> None:
        """Read a question, (1, tokens), and choose the first token. Noise is drawn on the host: a seed means the
        same on every device."""
        import torch

        state, length = self._state, ids.shape[1]
        drawn = torch.empty(self._most_new, self._choices).exponential_(
            generator=torch.Generator().manual_seed(seed % 2**63)
        )
        read = self._model(input_ids=ids, use_cache=True, logits_to_keep=1)
        for layer, kept in enumerate(read.past_key_values.layers):
            state.keys[layer, :, :length].copy_(kept.keys[0])
            state.values[layer, :, :length].copy_(kept.values[0])
        state.noise.copy_(-drawn.log())
        state.seen.zero_().index_fill_(0, ids[0], True)
        state.position.fill_(length)
        state.count.zero_()
        choose(read.logits[0, -1], state, self._sampling)

    def more(self, said: int, wanted: int) -> list[int]:
        """The tokens after the first `said`, up to `wanted` of them. Waits for the card once."""
        steps = wanted if said else wanted - 1  # `begin` has chosen the first
        for _ in range(steps):
            self._step()
        tokens: list[int] = self._state.said[said : said + wanted].tolist()
        return tokens

    def _made(self, block: Callable[..., torch.Tensor]) -> Callable[[], None]:
        return make_step(self._model, self._layers, self._state, self._sampling, block)
