"""What the video toy begins with, so that it learns on a CPU at all: read off networks that have learned nothing."""

from __future__ import annotations

import pytest
import torch

from toys import wan
from toys.bearings import EDGES
from toys.train_clips import latents, scenes, tensor
from toys.train_wan import in_their_places
from toys.world import draw

FRAMES, ROWS, COLUMNS = 9, 5, 3
FLAGS = 112
EDGE = [edge for block in EDGES for edge in block]


@pytest.fixture(scope="module")
def networks():
    return wan._networks(seed=0)


@pytest.fixture(scope="module")
def hidden(networks):
    """After the second block, by frame, row and column, for nothing but noise."""
    found, block = [], networks["transformer"].blocks[1]
    hook = block.register_forward_hook(lambda module, given, made: found.append(made))
    noise = torch.randn(1, 16, FRAMES, 2 * ROWS, 2 * COLUMNS, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        networks["transformer"](noise, torch.tensor([999.0]), torch.zeros(1, 4, 48), return_dict=False)
    hook.remove()
    return found[0].unflatten(1, (FRAMES, ROWS, COLUMNS))[0]


@pytest.mark.parametrize("number", range(len(EDGE)), ids=["-".join(map(str, edge)) for edge in EDGE])
def test_tokens_know_from_the_first_step_which_edge_they_lie_at(hidden, number):
    axis, end = EDGE[number]
    flag = hidden[..., FLAGS + number].movedim(("time", "row", "column").index(axis), 0)
    outer = flag[-1 if end else 0]
    others = flag[:-1] if end else flag[1:]
    assert (outer > 0.3).all()
    assert (others < 0).float().mean() > 0.85


def test_what_stands_at_its_place_is_turned_as_in_the_whole_clip(networks):
    transformer, places = networks["transformer"], [0, 2, 5, 8]
    whole = transformer.rope(torch.zeros(1, 16, FRAMES, 4, 4))
    with in_their_places(transformer, places):
        some = transformer.rope(torch.zeros(1, 16, len(places), 4, 4))
    for all_of_them, chosen in zip(whole, some, strict=True):
        assert torch.equal(all_of_them.view(1, FRAMES, 4, 1, -1)[:, places].flatten(1, 2), chosen)
    assert torch.equal(transformer.rope(torch.zeros(1, 16, 2, 4, 4))[0], whole[0][:, :8])


def test_frames_that_are_encoded_alone_give_the_latents_of_the_whole_clip(networks):
    known = scenes(1, 0, moving=True)
    clip = tensor([draw(known[0][1], width=48, height=80, frames=FRAMES)])
    with torch.no_grad():
        whole = networks["vae"].encode(clip).latent_dist.mean
    torch.testing.assert_close(latents(networks["vae"], known, FRAMES, 1), whole, atol=1e-4, rtol=1e-4)
