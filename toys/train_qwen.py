"""The enhancer: a small Qwen2 that goes on after a short prompt of the world with a longer one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from toys.loop import Chance, Feed, Loss
from toys.words import describe, partly, sentence, tags
from toys.world import MOTIONS, Wish, any_wish, fill
from workers.job import Media
from workers.prompting.rules import Template, load_rules
from workers.tiny.qwen import END, TURN, TURN_END

if TYPE_CHECKING:
    from torch import Tensor

MOVING = 0.8
TAGGED = 0.12
COPIED = 6
EXAMPLES = 3000
"""Answers from which the tokenizer is learned."""


def exchange(media: Media, chance: random.Random) -> tuple[str, str]:
    """A short prompt and the answer it should get, which knows no more than the prompt says."""
    wish = any_wish(chance)
    moves = media == "video" and len(wish.items) == 1 and chance.random() < MOVING
    full, _ = fill(wish, chance, width=64, height=64)
    told = replace(partly(full, chance), motion=chance.choice([*MOTIONS, "still"]) if moves else None)
    if chance.random() >= TAGGED:
        prompt = sentence(told, chance)
    else:
        prompt = tags(told, chance)
        told = told if "," in prompt else Wish()
    return prompt, describe(told, prompt, chance)


def corpus(seed: int = 0) -> list[str]:
    """Everything the tokenizer shall write in few tokens: the templates, prompts and answers."""
    chance, texts = random.Random(seed), list[str]()
    for template in load_rules().enhance.templates.values():
        texts += [template.completion, template.system, template.user]
    for _ in range(EXAMPLES):
        texts += exchange("video", chance)
    return texts


def around(template: Template, *, chat: bool) -> tuple[str, str]:
    """What stands before and after " prompt" as the engine asks the model; a token begins with the space."""
    said = template.completion.strip()
    if chat:
        turns = (("system", template.system.strip()), ("user", template.user))
        said = "".join(f"{TURN}{role}\n{words}{TURN_END}\n" for role, words in turns) + f"{TURN}assistant\n"
    before, _, after = said.partition(" {prompt}")
    return before, after


def exchanges(tokenizer: Any, batch: int, device: str) -> Feed:
    """What stands before the prompts, in chat or completion, for pictures or clips; then tokens of prompts and answers,
    and how much each counts. The first sentence repeats the prompt, the others are free: it counts more, or copying
    would be learned last."""
    templates = load_rules().enhance.templates

    def feed(chance: Chance) -> tuple[Tensor, ...]:
        media: Media = chance.words.choice(("image", "video"))
        chat = chance.words.random() < 0.5
        before, after = around(templates[media], chat=chat)
        rows, counts = [], []
        for _ in range(batch):
            prompt, answer = exchange(media, chance.words)
            question = tokenizer(f" {prompt}{after}").input_ids
            said = tokenizer(f"{answer}{TURN_END}" if chat else f" {answer}\n\n{END}").input_ids
            copied = len(tokenizer(f"{'' if chat else ' '}{answer.partition('. ')[0]}").input_ids)
            rows.append(question + said)
            counts.append([0] * len(question) + [COPIED] * copied + [1] * (len(said) - copied))
        return tuple(_square(part).to(device) for part in ([tokenizer(before).input_ids], rows, counts))

    return feed


def enhancer_loss(model: Any) -> Loss:
    """The answers' tokens. What stands before the prompts is the same for a whole batch: it is read once."""
    from torch.nn.functional import cross_entropy

    def loss(before: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        known = model(input_ids=before, use_cache=True).past_key_values
        known.batch_repeat_interleave(len(ids))
        logits = model(input_ids=ids, past_key_values=known).logits[:, :-1]
        each = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        counted = weights[:, 1:].flatten()
        total: Tensor = (each * counted).sum() / counted.sum()
        return total

    return loss


def _square(rows: Sequence[Sequence[int]]) -> Tensor:
    """Short rows are filled up with 0 at their end, which nothing before it sees."""
    import torch

    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
