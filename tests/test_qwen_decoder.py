"""The fast way to an answer says what the library's way says, on any device and with or without a graph."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from qwen_support import BICYCLE, SHORT, enhancer, written

from workers.engines.qwen import decoder as decoder_module
from workers.engines.qwen.decode import Answer, Question, answer
from workers.engines.qwen.decoder import LOOK_EVERY, Decoder
from workers.engines.qwen.engine import QwenEnhancer
from workers.engines.qwen.step import LENGTH, Sampling, likeliest, top
from workers.errors import Interrupted
from workers.watch import Watch

pytestmark = pytest.mark.pipelines

GREEDY = SHORT.model_copy(update={"temperature": 0.0})
SAMPLING = Sampling(temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory)


@pytest.fixture(scope="module")
def greedy(volume: Path) -> QwenEnhancer:
    return enhancer(volume, rules=GREEDY)


@pytest.fixture(scope="module")
def drawing(volume: Path) -> QwenEnhancer:
    return enhancer(volume, "base")


def asked(text: str, *, seed: int = 7, new: int = 64, stop: tuple[str, ...] = (), limit: float = 60.0) -> Question:
    return Question(text, seed, new, time.monotonic() + limit, stop)


def both(model: QwenEnhancer, question: Question) -> tuple[Answer, Answer]:
    """What the library's way says, and what ours does."""
    slow = answer(model._model, model._tokenizer, question, Watch())
    return slow, fast(model, question)


def fast(model: QwenEnhancer, question: Question, watch: Watch | None = None) -> Answer:
    decoder = Decoder(model._model, model._sampling(), 512)
    return answer(model._model, model._tokenizer, question, watch or Watch(), decoder)


@pytest.mark.parametrize("text", [BICYCLE, "a lighthouse at dusk " * 60, "色调"], ids=["short", "long", "chinese"])
@pytest.mark.parametrize("new", [1, LOOK_EVERY, LOOK_EVERY + 1, 200])
def test_the_likeliest_answer_is_the_librarys(greedy: QwenEnhancer, text: str, new: int) -> None:
    slow, quick = both(greedy, asked(text, new=new))
    assert quick == slow


def test_a_stop_string_within_a_look_ends_the_answer_where_it_stands(greedy: QwenEnhancer) -> None:
    free, _ = both(greedy, asked(BICYCLE))
    middle = free.text[len(free.text) // 2]
    slow, quick = both(greedy, asked(BICYCLE, stop=(middle,)))
    assert quick == slow
    assert quick.tokens < free.tokens


def test_a_loop_ends_the_answer(greedy: QwenEnhancer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.engines.qwen.decode.loops", lambda said: len(said) >= 32)
    assert [said.tokens for said in both(greedy, asked(BICYCLE, new=200))] == [32, 32]


def test_an_end_token_ends_the_answer_and_is_not_part_of_it(greedy: QwenEnhancer) -> None:
    config = greedy._model.generation_config
    known = config.eos_token_id
    free = fast(greedy, asked(BICYCLE))
    try:
        config.eos_token_id = greedy._tokenizer(free.text, add_special_tokens=False).input_ids[20]
        slow, quick = both(greedy, asked(BICYCLE))
    finally:
        config.eos_token_id = known
    assert quick == slow
    assert quick.tokens < free.tokens


def test_a_seed_decides_the_draw(drawing: QwenEnhancer) -> None:
    first, again, other = (fast(drawing, asked(BICYCLE, seed=seed)).text for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_a_question_leaves_nothing_behind_for_the_next(drawing: QwenEnhancer) -> None:
    decoder = Decoder(drawing._model, drawing._sampling(), 512)

    def said(text: str) -> str:
        return answer(drawing._model, drawing._tokenizer, asked(text), Watch(), decoder).text

    first = said(BICYCLE)
    said("a lighthouse at dusk " * 40)
    assert said(BICYCLE) == first


@pytest.mark.parametrize(
    "sampling",
    [SAMPLING, Sampling(1.3, 1.0, 0, 1.0), Sampling(0.2, 0.5, 5, 1.5)],
    ids=["ours", "plain", "narrow"],
)
def test_the_chances_are_the_librarys(sampling: Sampling) -> None:
    import torch

    torch.manual_seed(3)
    logits, said = torch.randn(1, 500) * 4, torch.randint(0, 500, (1, 40))
    seen = torch.zeros(500, dtype=torch.bool)
    seen[said[0]] = True
    scores, ids = likeliest(logits[0], seen, sampling)
    ours = torch.zeros(500).scatter(0, ids, scores.softmax(-1))
    assert torch.allclose(ours, _their_chances(said, logits, sampling), atol=1e-6)


def _their_chances(said: Any, logits: Any, sampling: Sampling) -> Any:
    from transformers import (
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    steps = [RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)]
    steps += [TemperatureLogitsWarper(sampling.temperature)]
    steps += [TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []
    steps += [TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []
    for step in steps:
        logits = step(said, logits)
    return logits[0].softmax(-1)


@pytest.mark.parametrize("length", [1000, 152_064, 152_001])
def test_the_best_of_many_are_found_in_two_rounds(length: int) -> None:
    import torch

    scores = torch.randn(length, generator=torch.Generator().manual_seed(2))
    ours, theirs = top(scores, 20), scores.topk(20)
    assert ours[0].equal(theirs[0])
    assert ours[1].equal(theirs[1])


def test_draws_follow_the_chances() -> None:
    import torch

    scores = torch.tensor([2.0, 1.0, 0.0, -torch.inf])
    noise = -torch.empty(20_000, 4).exponential_(generator=torch.Generator().manual_seed(1)).log()
    drawn = (scores + noise).argmax(-1).bincount(minlength=4) / 20_000
    assert torch.allclose(drawn, scores.softmax(-1), atol=0.01)


def test_a_question_without_room_is_answered_the_librarys_way(greedy: QwenEnhancer) -> None:
    decoder = Decoder(greedy._model, greedy._sampling(), 64)
    assert decoder.fits(LENGTH - 64, 64)
    assert not decoder.fits(LENGTH - 63, 64)
    assert not decoder.fits(10, 65)
    slow, quick = both(greedy, asked(BICYCLE * 1000, new=4))
    assert quick == slow


def test_an_abort_ends_the_answer_and_leaves_the_model_usable(greedy: QwenEnhancer) -> None:
    free = fast(greedy, asked(BICYCLE))
    watch = Watch()
    watch.abort(Interrupted())
    with pytest.raises(Interrupted):
        fast(greedy, asked(BICYCLE), watch)
    assert fast(greedy, asked(BICYCLE)) == free


def test_the_time_limit_ends_an_answer(greedy: QwenEnhancer) -> None:
    late = fast(greedy, asked(BICYCLE, limit=-1.0))
    assert late.timed_out
    assert late.tokens == 1


def test_weights_are_not_held_twice(greedy: QwenEnhancer) -> None:
    Decoder(greedy._model, greedy._sampling(), 64)
    attention = greedy._model.model.layers[0].self_attn
    assert attention.q_proj.weight.untyped_storage().data_ptr() == attention.v_proj.weight.untyped_storage().data_ptr()


def test_what_a_graph_reads_lives_as_long_as_the_graph(greedy: QwenEnhancer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph keeps addresses, not tensors: a table that is freed after the capture is read as whatever lies there."""
    monkeypatch.setattr(decoder_module, "on_card", lambda _: True)
    monkeypatch.setattr(decoder_module, "compiling", nullcontext)
    monkeypatch.setattr(decoder_module, "compiled", lambda function: function)
    monkeypatch.setattr(decoder_module, "captured", lambda step: (Replay(step), None))
    decoder = Decoder(greedy._model, SAMPLING, 16)
    decoder.warm_up()
    gc.collect()
    with torch.inference_mode():
        decoder.begin(torch.tensor([[1, 2, 3]]), 0)
        assert len(decoder.more(0, 8)) == 8


class Replay:
    """Calls what was recorded, which it does not keep alive."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._recorded = weakref.ref(step)

    def replay(self) -> None:
        alive = self._recorded()
        assert alive is not None, "the graph reads freed memory"
        alive()
