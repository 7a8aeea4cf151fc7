"""From a question to an answer: seeded generation that a clock, a stop string or the watch can end at any token."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.card.gpu import on_card
from workers.engines.qwen.decoder import LOOK_EVERY, Decoder
from workers.engines.qwen.guard import loops
from workers.watch import Watch

if TYPE_CHECKING:
    import torch

TAIL = 16
LOOK_FOR_LOOPS_EVERY = 32


@dataclass(frozen=True, slots=True)
class Question:
    """Text as the model sees it. `deadline` by `time.monotonic`; generation ends before the first of `stop`."""

    text: str
    seed: int
    max_new_tokens: int
    deadline: float
    stop: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    tokens: int
    timed_out: bool


def answer(model: Any, tokenizer: Any, question: Question, watch: Watch, decoder: Decoder | None = None) -> Answer:
    """Generate. Raises what `watch` was told to abort with; the model stays usable whatever is raised.

    The same question gives the same answer in any process, and the caller's random state is left as it was. With a
    `decoder` it is said faster, where there is room.
    """
    import torch

    inputs = tokenizer(question.text, return_tensors="pt", add_special_tokens=False).to(model.device)
    ending = Ending(question, tokenizer.decode, watch)
    with torch.inference_mode():
        if decoder is not None and decoder.fits(inputs["input_ids"].shape[1], question.max_new_tokens):
            said = _decoded(decoder, inputs["input_ids"], ending, ends_of(model.generation_config))
        else:
            said = _generated(model, inputs, ending)
    text = tokenizer.decode(said, skip_special_tokens=True)
    return Answer(before(question.stop, text), len(said), ending.timed_out)


def ends_of(config: Any) -> frozenset[int]:
    """The tokens that end an answer."""
    ends = config.eos_token_id
    return frozenset(ends if isinstance(ends, list) else [ends])


def before(stops: Sequence[str], text: str) -> str:
    """The text up to the first stop string; line breaks that lead it do not count."""
    text = text.lstrip()
    return text[: min((i for i in map(text.find, stops) if i >= 0), default=len(text))]


class Ending:
    """Asked after every token whether to end."""

    def __init__(self, question: Question, decode: Callable[..., str], watch: Watch) -> None:
        self.question, self._decode, self._watch = question, decode, watch
        self.timed_out = False

    def __call__(self, said: Sequence[int]) -> bool:
        self._watch.step(len(said), self.question.max_new_tokens)
        self.timed_out = time.monotonic() > self.question.deadline
        return self.timed_out or self._stopped(said) or _loops(said)

    def _stopped(self, said: Sequence[int]) -> bool:
        tail = self._decode(said[-TAIL:]).lstrip() if self.question.stop else ""
        return any(stop in tail for stop in self.question.stop)


def _generated(model: Any, inputs: Any, ending: Ending) -> list[int]:
    """The library's way, token by token."""
    import torch

    question, begin = ending.question, inputs["input_ids"].shape[1]

    def ended(ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        return ids.new_full((len(ids),), ending(ids[0, begin:].tolist())).bool()

    with torch.random.fork_rng(devices=[model.device] if on_card(model.device.type) else []):
        torch.manual_seed(question.seed)
        ids = model.generate(**inputs, max_new_tokens=question.max_new_tokens, stopping_criteria=[ended])
    said: list[int] = ids[0, begin:].tolist()
    return said


def _decoded(decoder: Decoder, ids: torch.Tensor, ending: Ending, ends: frozenset[int]) -> list[int]:
    """Looks at several tokens at once, and ends where the other way would have."""
    said: list[int] = []
    decoder.begin(ids, ending.question.seed)
    while (left := ending.question.max_new_tokens - len(said)) > 0:
        for token in decoder.more(len(said), min(LOOK_EVERY, left)):
            said.append(token)
            if ending(said) or token in ends:
                return said
    return said


def _loops(said: Sequence[int]) -> bool:
    return len(said) % LOOK_FOR_LOOPS_EVERY == 0 and loops(said)
