"""Torch asks the implementation of attention first that was fastest here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from workers.card import attention

pytestmark = pytest.mark.pipelines


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    attention._chosen.close()


def order() -> list[str]:
    """Of those that are allowed at all."""
    import torch
    from torch.nn.attention import SDPBackend

    allowed = {
        "CUDNN_ATTENTION": torch.backends.cuda.cudnn_sdp_enabled(),
        "FLASH_ATTENTION": torch.backends.cuda.flash_sdp_enabled(),
        "EFFICIENT_ATTENTION": torch.backends.cuda.mem_efficient_sdp_enabled(),
        "MATH": torch.backends.cuda.math_sdp_enabled(),
    }
    numbers = {int(getattr(SDPBackend, name)): name for name in allowed}
    asked = [numbers.get(number, "") for number in torch._C._get_sdp_priority_order()]
    return [name for name in asked if allowed.get(name)]


def test_the_fastest_comes_first_and_what_always_works_last() -> None:
    attention.choose({"CUDNN_ATTENTION": 2.0, "FLASH_ATTENTION": 1.0, "EFFICIENT_ATTENTION": 3.0}.get)
    assert order() == ["FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION", "MATH"]


def test_what_cannot_do_the_work_is_not_asked() -> None:
    attention.choose({"EFFICIENT_ATTENTION": 1.0}.get)
    assert order() == ["EFFICIENT_ATTENTION", "MATH"]


def test_a_later_choice_replaces_an_earlier_one() -> None:
    before = order()
    attention.choose({"EFFICIENT_ATTENTION": 1.0}.get)
    attention.choose(dict.fromkeys(attention.BACKENDS, 1.0).get)
    assert set(order()) == {*attention.BACKENDS, "MATH"}
    attention._chosen.close()
    assert order() == before


def test_attention_is_computed_by_whatever_was_chosen() -> None:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    inputs = [torch.randn(1, 2, 16, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    plain = scaled_dot_product_attention(*inputs)
    attention.choose({"EFFICIENT_ATTENTION": 1.0}.get)
    assert torch.allclose(scaled_dot_product_attention(*inputs), plain, atol=1e-6)
