"""One token more: Qwen2's decoder for a single token over fixed buffers, and the draw of the next one.

Everything stays on the device and keeps its place in memory, so that the whole step can be replayed as one CUDA
graph. At one token a step the weights are read once and nothing else matters: 15.2 GB in bf16 are 3.5 ms on an H200.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LENGTH = 2048
"""Tokens of question and answer together; longer ones are answered without a graph."""

GROUP = 512
"""Scores that are searched together."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """As `generate` means them. Temperature 0 takes the likeliest token, top_k 0 all of them."""

    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float


class Layer(NamedTuple):
    """One layer's weights: those that read the same input lie in one tensor, and so does their product."""

    before_attention: Tensor
    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    before_mlp: Tensor
    gate_up: Tensor
    down: Tensor
    epsilon: float
    heads: int


class Place(NamedTuple):
    """Where the step is: its index in the buffers, the rotation there, and what it may look at (0 or -inf)."""

    position: Tensor
    cosine: Tensor
    sine: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class State:
    """What changes from token to token. `noise` holds a row of Gumbel noise per new token, `said` those tokens;
    `seen` marks every token of question and answer."""

    keys: Tensor
    values: Tensor
    token: Tensor
    position: Tensor
    count: Tensor
    seen: Tensor
    noise: Tensor
    said: Tensor


def layers_of(model: Any) -> list[Layer]:
    """The weights of every layer, put together. The model goes on with views of them: nothing is held twice."""
    heads = model.config.num_attention_heads + 2 * model.config.num_key_value_heads
    return [_layer(layer, model.config.rms_norm_eps, heads) for layer in model.model.layers]


def new_state(model: Any, most_new: int, choices: int) -> State:
    import torch

    config, device = model.config, model.device
    head = config.hidden_size // config.num_attention_heads
    room = (config.num_hidden_layers, config.num_key_value_heads, LENGTH, head)

    def one() -> Tensor:
        return torch.zeros(1, dtype=torch.long, device=device)

    return State(
        keys=torch.zeros(room, dtype=model.dtype, device=device),
        values=torch.zeros(room, dtype=model.dtype, device=device),
        token=one(),
        position=one(),
        count=one(),
        seen=torch.zeros(config.vocab_size, dtype=torch.bool, device=device),
        noise=torch.zeros(most_new, choices, device=device),
        said=torch.zeros(most_new, dtype=torch.long, device=device),
    )


def block(x: Tensor, layer: Layer, keys: Tensor, values: Tensor, place: Place) -> Tensor:
    """One layer for one token; `x` is (1, width), `keys` and `values` (key heads, LENGTH, head) take the token in.

    Scores are written as sums, in float32: for a single query there is nothing for matrix units to do.
    """
    import torch
    import torch.nn.functional as F

    shared, _, size = keys.shape
    heads = F.linear(norm(x, layer.before_attention, layer.epsilon), layer.qkv, layer.qkv_bias).view(layer.heads, size)
    turned = rotated(heads[:-shared], place)
    keys.index_copy_(1, place.position, turned[-shared:, None])
    values.index_copy_(1, place.position, heads[-shared:, None])
    query = turned[:-shared].view(shared, -1, 1, size).float()
    scores = (query * keys[:, None].float()).sum(-1) * size**-0.5 + place.mask
    mixed = scores.softmax(-1).to(x.dtype) @ values
    x = x + F.linear(mixed.view(1, -1), layer.out)
    gate, up = F.linear(norm(x, layer.before_mlp, layer.epsilon), layer.gate_up).chunk(2, -1)
    return torch.addmm(x, F.silu(gate) * up, layer.down.t())  # cuBLAS reads this shape faster than compiled code


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    wide = x.float()
    return weight * (wide * (wide.square().mean(-1, keepdim=True) + epsilon).rsqrt()).to(x.dtype)


def rotated(heads: Tensor, place: Place) -> Tensor:
    import torch

    first, second = heads.chunk(2, -1)
    return heads * place.cosine + torch.cat((-second, first), -1) * place.sine


def likeliest(logits: Tensor, seen: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The tokens that may come next, best first: their scores (-inf where top_p leaves them out) and their ids."""
    import torch

    scores = logits.float()
    penalty = sampling.repetition_penalty
    scores = torch.where(seen, torch.where(scores > 0, scores / penalty, scores * penalty), scores)
    if sampling.temperature == 0:
        return scores.topk(1)
    best, ids = top(scores / sampling.temperature, sampling.top_k or len(scores))
    share = best.softmax(-1)
    return best.where(share.cumsum(-1) - share < sampling.top_p, -torch.inf), ids


def top(scores: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    """As `topk`; a few of many are found in two rounds, which a card does several times faster."""
    import torch.nn.functional as F

    if wanted > GROUP // 4 or len(scores) < GROUP * wanted:
        return scores.topk(wanted)
    groups = F.pad(scores, (0, -len(scores) % GROUP), value=-float("inf")).view(-1, GROUP)
    best, ids = groups.topk(wanted)
    best, at = best.flatten().topk(wanted)
    return best, ids.flatten().index_select(0, at) + at // wanted * GROUP


def choose(logits: Tensor, state: State, sampling: Sampling) -> None:
    """Draw the next token and write it down. The largest of scores plus Gumbel noise is a draw by their softmax."""
    scores, ids = likeliest(logits, state.seen, sampling)
    noise = state.noise.index_select(0, state.count)[0]
    token = ids.index_select(0, (scores + noise).argmax(-1, keepdim=True))
    state.token.copy_(token)
    state.seen.index_fill_(0, token, True)
    state.said.index_copy_(0, state.count, token)
    state.count.add_(1)


def make_step(
    model: Any, layers: Sequence[Layer], state: State, sampling: Sampling, block: Callable[..., Tensor]
) -> Callable[[], None]:
    """A function that takes `state.token` in and chooses the one after it. `block` computes one layer."""
    import torch
    import torch.nn.functional as F

    head, eps = model.lm_head.weight, model.config.rms_norm_eps
    positions = torch.arange(LENGTH, device=model.device)
    cosines, sines = model.model.rotary_emb(head, positions[None])
    nowhere = torch.full((LENGTH,), -torch.inf, device=model.device)

    def step() -> None:
        at = state.position
        mask = nowhere.where(positions > at, 0.0)
        place = Place(at, cosines[0].index_select(0, at), sines[0].index_select(0, at), mask)
        x = F.embedding(state.token, model.model.embed_tokens.weight)
        for index, layer in enumerate(layers):
            x = block(x, layer, state.keys[index], state.values[index], place)
        logits = F.linear(norm(x, model.model.norm.weight, eps), head)[0]
        choose(logits, state, sampling)
        state.position.add_(1)

    return step


def _layer(layer: Any, epsilon: float, heads: int) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    readers = (attention.q_proj, attention.k_proj, attention.v_proj)
    return Layer(
        before_attention=layer.input_layernorm.weight,
        qkv=_joined(readers, "weight"),
        qkv_bias=_joined(readers, "bias"),
        out=attention.o_proj.weight,
        before_mlp=layer.post_attention_layernorm.weight,
        gate_up=_joined((mlp.gate_proj, mlp.up_proj), "weight"),
        down=mlp.down_proj.weight,
        epsilon=epsilon,
        heads=heads,
    )


def _joined(readers: tuple[Any, ...], name: str) -> torch.Tensor:
    """Their parameters in one tensor, of which each keeps a view."""
    import torch

    parts = [getattr(reader, name) for reader in readers]
    whole = torch.cat([part.data for part in parts])
    start = 0
    for part in parts:
        part.data = whole[start : start + len(part)]
        start += len(part)
    return whole
