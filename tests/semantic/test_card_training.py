"""What a card would learn from and how its time is shared, run on a CPU: all but the recording of its steps."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode

from toys import loop, sdxl, sdxl_card, sizes, stock, text, wan, wan_card
from toys.__main__ import train
from toys.fillers import fillers
from toys.loop import Plan, Task, chance, fit, within
from toys.measure import Case, cases, clip, picture, sdxl_engine, wan_engine
from toys.measure_all import Grid, _spread
from toys.raster import paint, table
from toys.sheet import write_grid, write_strips
from toys.text import Texts
from toys.train_sdxl import Reader
from toys.train_wan import flow_loss
from toys.train_words import FACTS
from toys.world import COLOURS, MOTIONS, any_wish, draw, fill
from workers.engines.sdxl.load import tokenizers
from workers.tiny.wan import FOLDER


@pytest.fixture
def small_stock(monkeypatch):
    """A few scenes, and the plans of a card with three steps a stage."""
    plans = {name: Plan(name, 3, plan.rate, 2) for name, plan in loop.load_plans("cuda").items()}
    monkeypatch.setattr(loop, "load_plans", lambda device: plans)
    for module in (sdxl, wan):
        monkeypatch.setattr(module, "on_card", lambda device: True)
    for module, name, number in (
        (stock, "PART", 8),
        (sdxl_card, "PARTS", 1),
        (wan_card, "PARTS", 1),
        (text, "CORPUS", 200),
        (wan, "SENTENCES", 100),
    ):
        monkeypatch.setattr(module, name, number)


def test_pictures_of_the_stock_make_weights_that_the_engine_loads(small_stock, tmp_path):
    train(out=tmp_path / "weights", work=tmp_path, device="cpu", minutes=None, only=["sdxl"], seed=0)
    assert picture(sdxl_engine(tmp_path / "weights"), Case("a red circle", None, 0), steps=2).shape == (64, 64, 3)


def test_clips_of_the_stock_make_weights_that_the_engine_loads(small_stock, tmp_path):
    train(out=tmp_path / "weights", work=tmp_path, device="cpu", minutes=None, only=["wan"], seed=0)
    engine = wan_engine(tmp_path / "weights", tmp_path)
    assert clip(engine, Case("a red circle moving up", None, 0), steps=2, frames=9).shape == (9, 80, 48, 3)


def test_training_goes_on_from_a_video_model_in_the_folder_of_checkpoints(tmp_path):
    known, tokens = wan._networks(seed=1), tmp_path / "tokens"
    tokens.mkdir()
    wan.export({**known, "tokenizer": tokens}, tmp_path)
    begun = wan._begun(tmp_path / FOLDER, seed=0)
    for name, network in begun.items():
        for had, has in zip(known[name].parameters(), network.parameters(), strict=True):
            assert torch.equal(had.bfloat16(), has.bfloat16())


class Numbers(TorchFunctionMode):
    """Collects what moves a number between the host and a tensor, which spoils a card's recording."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: list[str] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = function.__name__
        written = name == "__setitem__" and not isinstance(args[2], torch.Tensor)
        if written or name in ("item", "tolist", "tensor", "as_tensor", "from_numpy", "nonzero", "__bool__"):
            self.moved.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("guided", [False, True])
def test_a_step_of_the_video_denoiser_moves_no_number_between_host_and_card(tmp_path, guided):
    networks = wan._networks(seed=0)
    listener = wan_card.Listener(networks["text_encoder"], wan._tokenizer(tmp_path, seed=0), "cpu")
    loss = flow_loss(networks["transformer"], listener, guided=guided)
    clip, each = torch.zeros(2, 16, 3, 4, 4), torch.ones(2)
    with Numbers() as numbers:
        loss(torch.zeros(2, 9, 48), clip, each, clip, each).backward()
    assert numbers.moved == []


def test_torch_paints_what_numpy_draws():
    dice, size = random.Random(1), sizes.WAN_SIZE
    wishes = [any_wish(dice) for _ in range(60)]
    scenes = [fill(wish, dice, width=size[0], height=size[1])[1] for wish in wishes]
    known = np.stack([draw(scene, width=size[0], height=size[1], frames=3) for scene in scenes])
    painted = (paint(table(scenes), size, torch.linspace(-0.5, 0.5, 3)) + 1) * 127.5
    assert np.abs(painted.permute(0, 2, 3, 4, 1).numpy() - known).max() <= 1.01


def test_prompts_of_the_stock_say_what_their_scenes_show():
    texts = Texts(list(tokenizers().values()), fillers("sdxl", "image"))
    (rows,), *prompts = sdxl_card._part(Reader(texts, fillers("sdxl", "image")), 50, 0, part=3)
    named = list(FACTS).index("background")
    for scenes, _, _, facts, _ in prompts:
        for scene, fact in zip(scenes - 3 * 50, facts[:, named].tolist(), strict=True):
            assert fact == 0 or tuple(rows[scene][:3].tolist()) == list(COLOURS.values())[fact - 1]


def test_clips_of_the_stock_move_as_their_prompts_say(tmp_path):
    listener = wan_card.Listener(None, wan._tokenizer(tmp_path, seed=0), "cpu")
    known = {media: fillers("wan", media) for media in wan_card.MEDIA}
    (_, clips, _), *prompts = wan_card._part(listener, known, 30, 0, part=1)
    said = list(FACTS).index("motion")
    for scenes, _, _, facts, _ in prompts[:2]:
        for scene, fact in zip(scenes - 30, facts[:, said].tolist(), strict=True):
            way = [*MOTIONS.values(), (0, 0)][fact - 1]
            assert fact == 0 or clips[scene][12:14].sign().tolist() == list(way)


def test_the_stock_is_the_same_for_one_process_and_for_many(monkeypatch):
    found = []
    for number in (1, 2):
        monkeypatch.setattr(stock, "_processes", lambda parts, number=number: number)
        found.append(stock.made(_numbered, 4, "cpu")[0][0])
    assert found[0].tolist() == found[1].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def _numbered(part: int) -> list[list[torch.Tensor]]:
    return [[torch.full((2,), part)]]


def test_stages_share_the_minutes_by_those_of_their_plans_whatever_comes_between():
    plans = within(10, {name: Plan(name, 100, 1e-3, 1, minutes) for name, minutes in (("a", 1.0), ("b", 3.0))})
    assert plans["a"].begun(0).minutes == pytest.approx(2.5, abs=0.01)
    assert plans["b"].begun(0).minutes == pytest.approx(10, abs=0.01)
    assert plans["b"].begun(30).minutes == pytest.approx(10.5, abs=0.01)


def test_a_stage_whose_time_is_over_ends_after_a_step(tmp_path):
    weight = torch.nn.Linear(2, 1)
    task = Task(lambda chance: (torch.ones(1, 2),), lambda ones: weight(ones).pow(2).sum())
    plan = Plan("late", 1000, 1e-3, 1, minutes=1.0, deadline=time.monotonic())
    assert fit({"weight": weight}, task, plan, tmp_path)["steps"] == 1


def test_a_step_draws_the_same_again():
    one, other = (chance(3, 5) for _ in range(2))
    assert one.words.random() == other.words.random()
    assert torch.equal(torch.randn(4, generator=one.noise), torch.randn(4, generator=other.noise))


def test_what_is_measured_by_many_processes_comes_in_the_order_of_its_questions():
    asked = cases("motion", 5)
    assert _spread(Grid(Path(), processes=2), _prompts, asked) == _prompts(Grid(Path()), asked)


def test_a_sheet_has_all_that_was_made(tmp_path):
    write_grid([("a red circle", np.zeros((8, 8, 3), np.uint8))] * 13, tmp_path / "grid.png")
    write_strips([("a red circle", np.zeros((9, 8, 8, 3), np.uint8))] * 2, tmp_path / "strips.png")
    with Image.open(tmp_path / "grid.png") as grid, Image.open(tmp_path / "strips.png") as strips:
        assert grid.size == (12 * 20, 2 * 56)
        assert strips.size == (8 * 20, 2 * 56)


def _prompts(grid: Grid, asked: list[Case]) -> list[str]:
    return [case.prompt for case in asked]
