"""Reference pictures in the size of a job, as arrays and as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from workers.job import Picture, Size


def filling(picture: Picture, size: Size) -> NDArray[np.uint8]:
    """(frames, height, width, 3): scaled until it covers `size`, and cut off evenly where it stands out."""
    import numpy as np

    if picture.size == size:
        return frames_of(picture)
    from PIL import ImageOps

    return np.asarray(ImageOps.fit(_image(picture), size, _lanczos()))[None]


def inside(picture: Picture, size: Size) -> NDArray[np.uint8]:
    """(1, height, width, 3): scaled until it fits into `size`, in the middle of white."""
    import numpy as np
    from PIL import ImageOps

    return np.asarray(ImageOps.pad(_image(picture), size, _lanczos(), color="white"))[None]


def frames_of(picture: Picture) -> NDArray[np.uint8]:
    import numpy as np

    width, height = picture.size
    return np.frombuffer(picture.pixels, np.uint8).reshape(picture.frames, height, width, 3)


def tensor(frames: NDArray[np.uint8]) -> torch.Tensor:
    """(frames, 3, height, width) in [-1, 1], float32."""
    import torch

    return torch.from_numpy(frames.copy()).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def _image(picture: Picture) -> Any:
    from PIL import Image

    return Image.frombytes("RGB", picture.size, picture.pixels)


def _lanczos() -> Any:
    from PIL import Image

    return Image.Resampling.LANCZOS
