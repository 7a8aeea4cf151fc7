"""The enhancer: a small Qwen2 that goes on after a short prompt of the world with a longer one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from toys.loop import Chance, Loss
from toys.words import describe, partly, sentence, tags
from toys.world import MOTIONS, any_wish, fill
from workers.job import Media
from workers.prompt_rules import Template, load_rules
from workers.tiny.qwen import END, TURN, TURN_END

if TYPE_CHECKING:
    from torch import Tensor

MOVING = 0.8
TAGGED = 0.1
IGNORED = -100
EXAMPLES = 3000
"""Answers from which the tokenizer is learned."""


def exchange(media: Media, chance: random.Random) -> tuple[str, str]:
    """A short prompt and the answer it should get."""
    wish = any_wish(chance)
    motion = chance.choice([*MOTIONS, "still"]) if media == "video" and chance.random() < MOVING else None
    full, _ = fill(wish, chance, width=64, height=64)
    told = replace(partly(full, chance), motion=motion)
    prompt = tags(told, chance) if chance.random() < TAGGED else sentence(told, chance)
    return prompt, describe(told, prompt, chance)


def corpus(seed: int = 0) -> list[str]:
    """Everything the tokenizer shall write in few tokens: the templates, prompts and answers."""
    chance, texts = random.Random(seed), list[str]()
    for template in load_rules().enhance.templates.values():
        texts += [template.completion, template.system, template.user]
    for _ in range(EXAMPLES):
        texts += exchange("video", chance)
    return texts


def asked(template: Template, prompt: str, *, chat: bool) -> str:
    """What the model sees, as the engine asks it."""
    if not chat:
        return template.completion.strip().replace("{prompt}", prompt)
    turns = (("system", template.system.strip()), ("user", template.user.replace("{prompt}", prompt)))
    return "".join(f"{TURN}{role}\n{said}{TURN_END}\n" for role, said in turns) + f"{TURN}assistant\n"


def enhancer_loss(model: Any, tokenizer: Any, batch: int, device: str) -> Loss:
    """A loss for `fit`: the answer's tokens, in chat and completion, for pictures and clips."""
    templates = load_rules().enhance.templates

    def loss(chance: Chance) -> Tensor:
        media: Media = chance.words.choice(("image", "video"))
        chat = chance.words.random() < 0.5
        rows, wanted = [], []
        for _ in range(batch):
            prompt, answer = exchange(media, chance.words)
            question = tokenizer(asked(templates[media], prompt, chat=chat)).input_ids
            said = tokenizer(f"{answer}{TURN_END}" if chat else f" {answer}\n\n{END}").input_ids
            rows.append(question + said)
            wanted.append([IGNORED] * len(question) + said)
        ids, labels = (_square(lists, fill_in).to(device) for lists, fill_in in ((rows, 0), (wanted, IGNORED)))
        total: Tensor = model(input_ids=ids, labels=labels).loss
        return total

    return loss


def _square(rows: Sequence[Sequence[int]], fill_in: int) -> Tensor:
    """Short rows are filled up at their end, which nothing before it sees."""
    import torch

    width = max(map(len, rows))
    return torch.tensor([[*row, *[fill_in] * (width - len(row))] for row in rows])
