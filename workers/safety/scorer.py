"""What judges a picture, as the gates see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Frame = NDArray[np.uint8]
    """(height, width, 3), sRGB."""


class Scorer(Protocol):
    """Any number of threads may call it. Raises anything; an answer that is no number counts as an error."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    def __call__(self, frame: Frame) -> float: ...
