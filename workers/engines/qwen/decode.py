"""From a question to an answer: seeded generation that a clock, a stop string or the watch can end at any token."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.engines.qwen.guard import loops
from workers.gpu import on_card
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


def answer(model: Any, tokenizer: Any, question: Question, watch: Watch) -> Answer:
    """Generate. Raises what `watch` was told to abort with; the model stays usable whatever is raised.

    The same question gives the same answer in any process, and the caller's random state is left as it was.
    """
    import torch

    device = model.device
    inputs = tokenizer(question.text, return_tensors="pt", add_special_tokens=False).to(device)
    begin = inputs["input_ids"].shape[1]
    ending = Ending(question, begin, tokenizer.decode, watch)
    with torch.random.fork_rng(devices=[device] if on_card(device.type) else []), torch.inference_mode():
        torch.manual_seed(question.seed)
        ids = model.generate(**inputs, max_new_tokens=question.max_new_tokens, stopping_criteria=[ending])
    text = tokenizer.decode(ids[0, begin:], skip_special_tokens=True)
    return Answer(before(question.stop, text), ids.shape[1] - begin, ending.timed_out)


def before(stops: Sequence[str], text: str) -> str:
    """The text up to the first stop string; line breaks that lead it do not count."""
    text = text.lstrip()
    return text[: min((i for i in map(text.find, stops) if i >= 0), default=len(text))]


class Ending:
    """Asked by `generate` after every token whether to end. `begin` is the number of tokens of the question."""

    def __init__(self, question: Question, begin: int, decode: Callable[..., str], watch: Watch) -> None:
        self._question, self._begin, self._decode, self._watch = question, begin, decode, watch
        self.timed_out = False

    def __call__(self, ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        new = ids[0, self._begin :]
        self._watch.step(len(new), self._question.max_new_tokens)
        self.timed_out = time.monotonic() > self._question.deadline
        done = self.timed_out or self._stopped(new) or _loops(new)
        return ids.new_full((len(ids),), done).bool()

    def _stopped(self, new: torch.Tensor) -> bool:
        tail = self._decode(new[-TAIL:]).lstrip() if self._question.stop else ""
        return any(stop in tail for stop in self._question.stop)


def _loops(new: torch.Tensor) -> bool:
    return len(new) % LOOK_FOR_LOOPS_EVERY == 0 and loops(new.tolist())
