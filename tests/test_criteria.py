"""Which steps of a clip take their work from earlier ones: what each criterion decides, by itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from tests.test_turbo import counted
from workers.engines.wan.criteria import BySpectrum, content, unchanged, weights
from workers.engines.wan.turbo import reusing

SHOWN = torch.randn(4, 6, 5, 3, generator=torch.Generator().manual_seed(7))


def steps(kept: Sequence[bool]) -> list[int]:
    return [step for step, left_out in enumerate(kept) if left_out]


# By magnitude


def test_a_step_is_left_out_while_the_errors_together_stay_below_the_limit():
    falling = [1.0] * 4 + [0.97, 0.94, 0.91, 0.88, 0.85, 0.82, 0.79, 0.76]
    assert steps(unchanged(falling, most=0.1)) == [3, 4, 5, 7, 8, 10]
    assert steps(unchanged(falling, most=0.05)) == [3, 4, 6, 8, 10]
    assert steps(unchanged(falling, most=0.0)) == [3]


def test_the_first_fifth_and_the_last_step_are_always_computed_and_never_more_than_three_are_not():
    assert steps(unchanged([1.0] * 15, most=1.0)) == [3, 4, 5, 7, 8, 9, 11, 12, 13]
    assert not any(unchanged([1.0], most=1.0) + unchanged([1.0, 1.0], most=1.0))


def test_growing_counts_as_shrinking_does():
    assert steps(unchanged([1.0, 1.0, 1.2, 1.2, 1.2], most=0.1)) == [1, 3]


# By spectrum


def test_the_filter_keeps_low_frequencies_among_noise_and_more_of_the_others_as_it_goes():
    noisy, clear = weights((1, 1, 16), 0.9).flatten(), weights((1, 1, 16), 0.1).flatten()
    assert (noisy[1:9].diff() < 0).all()
    assert noisy[0] / noisy[8] > 10 * (clear[0] / clear[8])
    assert noisy.mean() == pytest.approx(1.0) == clear.mean()


def test_without_noise_all_of_it_is_content_and_with_nothing_else_there_are_still_numbers():
    assert torch.allclose(content(SHOWN, 0.0), SHOWN, atol=1e-6)
    assert content(SHOWN, 1.0).isfinite().all()


def test_new_noise_changes_the_content_less_than_the_values():
    before, after = 3 + SHOWN, 3 + SHOWN.flip(0)
    assert change(content(after, 0.9), content(before, 0.9)) < 0.5 * change(after, before)


def change(after: torch.Tensor, before: torch.Tensor) -> float:
    return float((after - before).abs().mean() / before.abs().mean())


def answers(shown: Sequence[torch.Tensor], most: float, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    monkeypatch.setattr("workers.engines.wan.criteria.modulated", lambda block, hidden, time: hidden)
    criterion = BySpectrum(None, SHOWN.shape[:3], [0.5] * len(shown), most)
    found = []
    for hidden in shown:
        criterion.step()
        wanted, unwanted = (criterion.alike(text, hidden, hidden, hidden) for text in (1, 2))
        assert wanted == unwanted, "both texts are shown the same"
        found.append(wanted)
    return found


def test_changes_add_up_until_all_blocks_are_computed_again(monkeypatch):
    growing = [SHOWN * 1.1**step for step in range(8)]
    assert steps(answers(growing, 0.25, monkeypatch)) == [1, 2, 4, 5]


def test_the_first_step_and_the_last_are_computed_where_nothing_changes_at_all(monkeypatch):
    assert steps(answers([SHOWN] * 5, 0.25, monkeypatch)) == [1, 2, 3]


# Each text's own memory


class Passes(torch.nn.Module):
    """A transformer whose only block adds what the text says."""

    def __init__(self) -> None:
        super().__init__()
        block = torch.nn.Module()
        block.forward = lambda hidden, text, *more: hidden + text
        self.blocks = torch.nn.ModuleList([block])

    def forward(self, latents: torch.Tensor, time: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        (block,) = self.blocks
        return block(latents, text, time, None)


class Always:
    head = 0

    def step(self) -> None:
        pass

    def alike(self, *_: object) -> bool:
        return True


def test_each_text_has_a_memory_of_its_own_and_one_that_comes_late_is_computed():
    passes, wanted, unwanted = Passes(), torch.tensor([3.0]), torch.tensor([50.0])
    read = [[wanted], [wanted, unwanted], [wanted, unwanted]]

    def velocity(latents: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return torch.cat([passes(latents, time, text) for text in read.pop(0)])

    with reusing(passes, Always(), velocity) as stepping, counted(passes.blocks[0].blocks[0]) as computed:
        found = [stepping(torch.tensor([latents]), torch.tensor([1.0])) for latents in (0.0, 100.0, 200.0)]
    assert [each.tolist() for each in found] == [[3.0], [103.0, 150.0], [203.0, 250.0]]
    assert len(computed) == 2
