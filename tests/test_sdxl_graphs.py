"""What is recorded, and that a recording shows what launching would. The recordings here compute anew when replayed,
over the same memory, as a card's do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from sdxl_support import asked, networks_in
from torch.utils import _pytree as pytree

from workers.engines.sdxl import graphs
from workers.engines.sdxl.denoiser import Denoiser
from workers.engines.sdxl.graphs import Graphed, Texts

pytestmark = pytest.mark.pipelines


class Replays(list[str]):
    """Stands in for `captured`; counts recordings."""

    def __call__(self, function: Callable[[], Any]) -> tuple[Any, Any]:
        self.append("recorded")
        return Replay(function, result := function()), result


class Replay:
    def __init__(self, function: Callable[[], Any], result: Any) -> None:
        self._function, self._result = function, result

    def replay(self) -> None:
        pytree.tree_map(lambda kept, new: kept.copy_(new), self._result, self._function())


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> Replays:
    made = Replays()
    monkeypatch.setattr(graphs, "captured", made)
    return made


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    return networks_in(tmp_path_factory.mktemp("config"))


def recorded(networks: Mapping[str, Any], *jobs: Mapping[str, Any]) -> Graphed:
    denoiser = Graphed(Denoiser(networks["unet"]))
    with torch.no_grad(), denoiser.recording():
        for job in jobs:
            denoiser.forward(**job)
    return denoiser


@torch.no_grad()
def test_replays_show_what_launching_shows_for_job_after_job(replays: Replays, networks: Mapping[str, Any]) -> None:
    denoiser, plain = recorded(networks, asked(3), asked(1)), Denoiser(networks["unet"])
    for images, seed in ((3, 1), (1, 2), (3, 3), (6, 4), (1, 3), (6, 3)):
        for time in (900, 100):
            job = asked(images, seed=seed, time=time)
            torch.testing.assert_close(denoiser.forward(**job)[0], plain.forward(**job)[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_an_answer_outlives_the_next_replay(replays: Replays, networks: Mapping[str, Any]) -> None:
    denoiser, job = recorded(networks, asked(1)), asked(1)
    first = denoiser.forward(**job)[0]
    kept = first.clone()
    denoiser.forward(**{**job, "timestep": torch.tensor(100)})
    assert first.equal(kept)


@torch.no_grad()
def test_unknown_sizes_and_overlong_texts_are_launched(replays: Replays, networks: Mapping[str, Any]) -> None:
    denoiser, plain = recorded(networks, asked(1)), Denoiser(networks["unet"])
    before = len(replays)
    for other in (asked(1, height=12, width=12), asked(3), asked(1, tokens=5 * 77)):
        assert denoiser.forward(**other)[0].equal(plain.forward(**other)[0])
    assert len(replays) == before


@torch.no_grad()
@pytest.mark.parametrize("images", [1, 3, 6])
def test_a_longer_text_of_a_known_size_is_recorded_with_its_first_job(
    images: int, replays: Replays, networks: Mapping[str, Any]
) -> None:
    denoiser, plain = recorded(networks, asked(6), asked(1)), Denoiser(networks["unet"])
    before = len(replays)
    for tokens, seed in ((154, 1), (308, 2), (154, 3), (77, 4)):
        for time in (900, 100):
            job = asked(images, tokens=tokens, seed=seed, time=time)
            torch.testing.assert_close(denoiser.forward(**job)[0], plain.forward(**job)[0], rtol=0, atol=1e-5)
    assert len(replays) == before + 2, "one for each new length"


@torch.no_grad()
def test_texts_of_all_lengths_share_memory(networks: Mapping[str, Any]) -> None:
    texts = Texts(Denoiser(networks["unet"]))
    short, long = (texts.places(asked(1, tokens=tokens)["encoder_hidden_states"]) for tokens in (77, 308))
    assert {key.data_ptr() for key, _ in short[0]} == {key.data_ptr() for key, _ in long[0]}
    with pytest.raises(RuntimeError):
        texts.places(asked(1, tokens=5 * 77)["encoder_hidden_states"])


@torch.no_grad()
def test_six_pictures_are_twice_three_with_the_same_bits(replays: Replays, networks: Mapping[str, Any]) -> None:
    denoiser, job = recorded(networks, asked(3), asked(6)), asked(6)
    assert len(replays) == 1
    whole = denoiser.forward(**job)[0]
    for first in (0, 3):
        three = asked(3)
        rows = [*range(first, first + 3), *range(first + 6, first + 9)]
        three |= {"sample": job["sample"][rows], "encoder_hidden_states": job["encoder_hidden_states"][rows]}
        three["added_cond_kwargs"] = {name: tensor[rows] for name, tensor in job["added_cond_kwargs"].items()}
        assert denoiser.forward(**three)[0].equal(whole[rows])


@torch.no_grad()
def test_unguided_pictures_replay_what_half_as_many_guided_ones_recorded(
    replays: Replays, networks: Mapping[str, Any]
) -> None:
    denoiser, plain, job = recorded(networks, asked(3)), Denoiser(networks["unet"]), asked(6)
    job = {"sample": job["sample"][6:], "timestep": job["timestep"]} | {
        "encoder_hidden_states": job["encoder_hidden_states"][6:],
        "added_cond_kwargs": {name: tensor[6:] for name, tensor in job["added_cond_kwargs"].items()},
    }
    torch.testing.assert_close(denoiser.forward(**job)[0], plain.forward(**job)[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_text_is_read_again_once_weights_have_changed(replays: Replays, networks: Mapping[str, Any]) -> None:
    denoiser, job = recorded(networks, asked(1)), asked(1)
    denoiser.forward(**job)
    reader = networks["unet"].mid_block.attentions[0].transformer_blocks[0].attn2.to_k
    before = reader.weight.clone()
    try:
        reader.weight.mul_(3)
        denoiser.refresh()
        assert denoiser.forward(**job)[0].equal(Denoiser(networks["unet"]).forward(**job)[0])
    finally:
        reader.weight.copy_(before)
