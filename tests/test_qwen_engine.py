"""The enhancer with small weights through the true classes: seeds, limits, aborts, memory, and no network."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from offline import offline
from qwen_support import BICYCLE, RULES, SHORT, VARIANTS, enhancer, raw_answer, written

from workers.engines.qwen.decode import Answer
from workers.engines.qwen.engine import REMEMBERED, QwenEnhancer
from workers.engines.qwen.snapshot import Variant, find_snapshot
from workers.errors import Cancelled, ClaimLost, EngineBroken, Interrupted
from workers.job import Media
from workers.prompting.prompt import Enhancement
from workers.watch import Watch

pytestmark = pytest.mark.pipelines

DESCRIPTION = "A red bicycle leans against a white wall in soft morning light."


@pytest.fixture(scope="session")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory)


@pytest.fixture(scope="session")
def loaded(volume: Path) -> dict[Variant, QwenEnhancer]:
    return {variant: enhancer(volume, variant) for variant in VARIANTS}


def slow(model: QwenEnhancer, seconds: float) -> None:
    """Let every token take this long."""
    model._model.register_forward_pre_hook(lambda *_: time.sleep(seconds))


def scripted(model: QwenEnhancer, say: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the model answer what `say` gives; returns the questions it is asked."""
    asked: list[str] = []

    def answer(_model: Any, _tokenizer: Any, question: Any, *_: Any) -> Answer:
        asked.append(question.text)
        return Answer(say(), 20, timed_out=False)

    monkeypatch.setattr("workers.engines.qwen.engine.answer", answer)
    return asked


def refuse_to_answer(error: Exception) -> Callable[[], str]:
    def say() -> str:
        raise error

    return say


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("media", ["image", "video"])
def test_rubbish_of_random_weights_falls_back_to_the_prompt(volume: Path, variant: Variant, media: Media) -> None:
    made = enhancer(volume, variant, rules=RULES).enhance(BICYCLE, media, 1, Watch())
    assert (made.text, made.status) == (BICYCLE, "failed")
    assert 0 < made.tokens <= 512


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_seed_decides_the_answer(loaded: dict[Variant, QwenEnhancer], variant: Variant) -> None:
    first, again, other = (raw_answer(loaded[variant], seed) for seed in (7, 7, 8))
    assert first == again
    assert first.text != other.text


def test_at_temperature_zero_every_seed_gives_the_likeliest_answer(volume: Path) -> None:
    greedy = enhancer(volume, rules=SHORT.model_copy(update={"temperature": 0.0}))
    assert raw_answer(greedy, 1) == raw_answer(greedy, 2)


ELSEWHERE = """
import sys
from pathlib import Path
from workers import garbage
from workers.engines.qwen.engine import QwenEnhancer
from workers.prompting.rules import load_rules
from workers.watch import Watch
garbage.search_seldom()
rules = load_rules().enhance.model_copy(update={"max_new_tokens": 64})
made = QwenEnhancer(Path(sys.argv[1]), device="cpu", variant="base", rules=rules)
made.load(Watch())
print(repr(made._answer(made._question("a red bicycle", "image", 7), Watch()).text))
"""


def test_another_process_gives_the_same_answer(volume: Path, loaded: dict[Variant, QwenEnhancer]) -> None:
    command = [sys.executable, "-c", ELSEWHERE, str(find_snapshot(volume, "base"))]
    root = str(Path(__file__).resolve().parent.parent)
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": root})
    assert said.stdout.splitlines()[-1] == repr(raw_answer(loaded["base"], 7).text)


def test_the_callers_random_state_is_left_as_it_was(loaded: dict[Variant, QwenEnhancer]) -> None:
    import torch

    before_it = torch.random.get_rng_state()
    raw_answer(loaded["base"], 7)
    assert torch.equal(torch.random.get_rng_state(), before_it)


def test_the_time_limit_fires(volume: Path) -> None:
    model = enhancer(volume, time_limit=0.2)
    slow(model, 0.05)
    made = model.enhance(BICYCLE, "image", 1, Watch())
    assert (made.text, made.status) == (BICYCLE, "timeout")
    assert 0 < made.tokens < 20


def test_after_a_time_out_the_same_prompt_is_asked_again(volume: Path) -> None:
    model = enhancer(volume, time_limit=0.0)
    assert [model.enhance(BICYCLE, "image", 1, Watch()).cached for _ in range(2)] == [False, False]


class AbortAt(Watch):
    """Told to abort at a token."""

    def __init__(self, token: int, error: Exception) -> None:
        super().__init__()
        self._token, self._error = token, error
        self.seen: list[tuple[str, int]] = []

    def step(self, done: int, total: int) -> None:
        self.seen.append((self.current, done))
        if done == self._token:
            self.abort(self._error)
        super().step(done, total)


@pytest.mark.parametrize("error", [Interrupted(), Cancelled(), ClaimLost()], ids=lambda error: type(error).__name__)
def test_an_abort_ends_the_answer_at_the_next_token_and_leaves_the_model_usable(
    volume: Path, loaded: dict[Variant, QwenEnhancer], error: Exception
) -> None:
    model, watch = enhancer(volume), AbortAt(5, error)
    with pytest.raises(type(error)):
        model.enhance(BICYCLE, "image", 7, watch)
    assert watch.seen == [("enhance", token) for token in range(1, 6)]
    assert raw_answer(model, 7) == raw_answer(loaded["instruct"], 7)


def test_the_time_goes_to_the_enhance_phase(loaded: dict[Variant, QwenEnhancer]) -> None:
    watch = Watch()
    made = loaded["base"].enhance("a lighthouse at dusk", "image", 1, watch)
    assert watch.timings["enhance"] >= made.seconds > 0


def test_an_answer_is_remembered_by_prompt_template_and_seed(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = enhancer(volume)
    asked = scripted(model, lambda: DESCRIPTION, monkeypatch)
    first = model.enhance(BICYCLE, "image", 1, Watch())
    again = model.enhance(BICYCLE, "image", 1, Watch())
    assert (first.text, first.status, first.cached) == (DESCRIPTION, "done", False)
    assert (again.text, again.tokens, again.cached) == (DESCRIPTION, first.tokens, True)
    model.enhance(BICYCLE, "video", 1, Watch())
    model.enhance(BICYCLE, "image", 2, Watch())
    assert len(asked) == 3


def test_the_oldest_answers_are_forgotten_first(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = enhancer(volume)
    scripted(model, lambda: DESCRIPTION, monkeypatch)
    for seed in range(REMEMBERED + 1):
        model.enhance(BICYCLE, "image", seed, Watch())
        assert model.enhance(BICYCLE, "image", min(seed, 1), Watch()).cached
    assert not model.enhance(BICYCLE, "image", 0, Watch()).cached


def test_a_blocked_prompt_is_forgotten(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = enhancer(volume)
    scripted(model, lambda: DESCRIPTION, monkeypatch)
    model.enhance(BICYCLE, "image", 1, Watch())
    model.forget(BICYCLE)
    assert not model.enhance(BICYCLE, "image", 1, Watch()).cached


def test_a_refusal_falls_back_to_the_prompt(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = enhancer(volume)
    scripted(model, lambda: "非常抱歉，我无法满足您的请求。", monkeypatch)
    made = model.enhance(BICYCLE, "image", 1, Watch())
    assert (made.text, made.status) == (BICYCLE, "refused")


def test_an_error_of_the_model_fails_the_enhancement_and_nothing_else(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = enhancer(volume)
    scripted(model, refuse_to_answer(IndexError("index out of range")), monkeypatch)
    assert model.enhance(BICYCLE, "image", 1, Watch()) == Enhancement(BICYCLE, "failed")
    scripted(model, lambda: DESCRIPTION, monkeypatch)
    assert model.enhance(BICYCLE, "image", 1, Watch()).status == "done"


def test_a_poisoned_card_is_no_failed_enhancement(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = enhancer(volume)
    scripted(model, refuse_to_answer(RuntimeError("CUDA error: an illegal memory access was encountered")), monkeypatch)
    with pytest.raises(EngineBroken):
        model.enhance(BICYCLE, "image", 1, Watch())


def test_an_empty_prompt_is_not_sent_to_the_model(loaded: dict[Variant, QwenEnhancer]) -> None:
    assert loaded["base"].enhance("  ", "image", 1, Watch()) == Enhancement("  ", "off")


def test_nothing_needs_a_network(volume: Path) -> None:
    with offline():
        for variant in VARIANTS:
            model = enhancer(volume, variant)
            model.warm_up(Watch())
            model.enhance(BICYCLE, "image", 1, Watch())
            model.unload()
