"""The kernels for cards give what torch's own operations give. Here Triton's interpreter runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from workers.engines.sdxl import ops as sdxl
from workers.engines.wan import ops as wan

pytestmark = pytest.mark.pipelines

TYPES = ("float32", "bfloat16")
CLOSE = {"float32": 1e-5, "bfloat16": 0.05}
"""What one rounding to 16 bits may differ by, of values up to ten."""


@pytest.fixture
def agree(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Asserts that `work` gives the same by kernels and without them."""
    import torch

    def both(work: Callable[[], Any], close: float) -> None:
        with torch.no_grad():
            plain = work()
            with monkeypatch.context() as patched:
                for module in (sdxl, wan):
                    patched.setattr(module, "_own", lambda x: True)
                ours = work()
        for one, other in zip(*(x if isinstance(x, tuple) else (x,) for x in (ours, plain)), strict=True):
            assert one.shape == other.shape
            torch.testing.assert_close(one.float(), other.float(), atol=close, rtol=close)

    return both


def drawn(*shape: int, dtype: str = "float32", seed: int = 3) -> Any:
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(getattr(torch, dtype))


def modulation(samples: int, width: int) -> Any:
    """Views of one tensor, as the video model's time gives them."""
    return drawn(samples, 6, width, seed=5).chunk(6, dim=1)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("tokens", [3, wan.ROWS, 2 * wan.ROWS + 1])
def test_a_layer_norm_is_scaled_and_shifted_for_each_sample(
    dtype: str, samples: int, tokens: int, agree: Callable[..., None]
) -> None:
    x, (shift, scale, *_) = drawn(samples, tokens, 24, dtype=dtype), modulation(samples, 24)
    agree(lambda: wan.add_norm(x, None, None, scale, shift, one=1, eps=1e-6), CLOSE[dtype])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("gated", [False, True])
def test_a_sum_and_its_norm_are_made_at_once(dtype: str, gated: bool, agree: Callable[..., None]) -> None:
    x, y = drawn(2, 5, 24, dtype=dtype), drawn(2, 5, 24, dtype=dtype, seed=4)
    weight, bias, gate = drawn(24), drawn(24, seed=6), modulation(2, 24)[2] if gated else None
    agree(lambda: wan.add_norm(x, y, gate, weight, bias, one=0, eps=1e-6), CLOSE[dtype])
    agree(lambda: wan.add(x, y, gate), CLOSE[dtype])


def test_what_both_texts_share_is_read_from_one_place(agree: Callable[..., None]) -> None:
    x, y, (shift, scale, *_) = drawn(1, 5, 24).expand(2, -1, -1), drawn(2, 5, 24, seed=4), modulation(2, 24)
    agree(lambda: wan.add_norm(x, y, None, scale, shift, one=1, eps=1e-6), 1e-5)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("turned", [False, True])
def test_heads_are_normed_and_turned_where_their_rows_lie_apart(
    dtype: str, turned: bool, agree: Callable[..., None]
) -> None:
    import torch

    norm, rotary = torch.nn.RMSNorm(24, eps=1e-6), (drawn(1, 6, 1, 8), drawn(1, 6, 1, 8, seed=4))
    norm.weight.data = drawn(24, seed=7)
    for part in drawn(2, 6, 72, dtype=dtype).chunk(3, -1):
        agree(lambda x=part: wan.heads(x, norm.to(x.dtype), 3, rotary if turned else None), CLOSE[dtype])


@pytest.mark.parametrize("width", [12, 24])
def test_pixels_get_one_length_and_silu_and_black_ones_stay_black(width: int, agree: Callable[..., None]) -> None:
    rows = drawn(wan.TILE // 16 + 3, width)
    rows[1] = 0
    agree(lambda: wan.norm_silu(rows, drawn(width, seed=4)), 1e-5)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("past", [0, 5])
def test_a_bias_comes_before_the_norm_and_pixels_come_after_the_past(
    dtype: str, past: int, agree: Callable[..., None]
) -> None:
    import torch

    rows, gamma, bias = drawn(37, 24, dtype=dtype), drawn(24, seed=4), drawn(24, dtype=dtype, seed=5)

    def work() -> Any:
        whole = torch.full((past + 37 + 3, 24), 7.0, dtype=rows.dtype)
        wan.norm_silu(rows, gamma.to(rows.dtype), bias, whole[past : past + 37])
        return whole

    agree(work, CLOSE[dtype])


@pytest.mark.parametrize("width", [24, 96])
def test_a_skip_connection_comes_with_a_bias(width: int, agree: Callable[..., None]) -> None:
    rows = wan.TILE // 16 + 3
    agree(lambda: wan.add_bias_(drawn(rows, width), drawn(rows, width, seed=4), drawn(width, seed=5)), 1e-5)


def test_rows_that_do_not_lie_one_after_the_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wan, "_own", lambda x: True)
    with pytest.raises(ValueError, match="one after the other"):
        wan.add(drawn(2, 5, 48)[..., ::2], drawn(2, 5, 24), None)
    with pytest.raises(ValueError, match="one after the other"):
        wan.norm_silu(drawn(5, 24), drawn(24), None, drawn(24, 5).t())
    with pytest.raises(ValueError, match="one after the other"):
        wan.add_bias_(drawn(5, 24), drawn(24, 5).t(), drawn(24))


def image(samples: int, width: int, side: int, dtype: str = "float32", seed: int = 3) -> Any:
    import torch

    return drawn(samples, width, side, side, dtype=dtype, seed=seed).contiguous(memory_format=torch.channels_last)


def group(width: int) -> Any:
    import torch

    norm = torch.nn.GroupNorm(4, width, eps=1e-5)
    norm.weight.data, norm.bias.data = drawn(width, seed=7), drawn(width, seed=8)
    return norm


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("side", [3, 17])
def test_group_norm_reads_images_side_by_side(dtype: str, side: int, agree: Callable[..., None]) -> None:
    parts, norm = [image(2, 8, side, dtype), image(2, 16, side, dtype, seed=4)], group(24)
    agree(lambda: sdxl.group_norm(parts, norm.to(parts[0].dtype)), CLOSE[dtype])
    shift = drawn(2, 24, dtype=dtype, seed=5)
    agree(lambda: sdxl.group_norm(parts, norm.to(parts[0].dtype), shift, silu=False), CLOSE[dtype])


def test_images_are_summed_in_place(agree: Callable[..., None]) -> None:
    agree(lambda: sdxl.add_(image(2, 24, 7), image(2, 24, 7, seed=4), drawn(24)), 1e-5)


@pytest.mark.parametrize("added", [False, True])
def test_a_layer_norm_may_add_first(added: bool, agree: Callable[..., None]) -> None:
    import torch

    norm, y = torch.nn.LayerNorm(24), drawn(2, 5, 24, seed=4) if added else None
    norm.weight.data, norm.bias.data = drawn(24, seed=7), drawn(24, seed=8)
    agree(lambda: sdxl.add_norm(drawn(2, 5, 24), y, norm), 1e-5)


def test_a_gate_is_the_gelu_of_the_second_half(agree: Callable[..., None]) -> None:
    agree(lambda: sdxl.gate(drawn(37, 48)), 1e-5)
