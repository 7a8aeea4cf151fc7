"""Small ONNX models that stand for scorers: one number from the mean of what they are shown."""

from __future__ import annotations

import hashlib
from pathlib import Path

PICTURE = [1, 3, 224, 224]


def write_scorer(path: Path, *, slope: float = 0.0, offset: float = 40.0, shape: list[int] | None = None) -> str:
    """`offset` plus `slope` times the mean of the input. Returns the file's SHA-256."""
    from onnx import TensorProto, helper

    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["picture"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "slope"], ["scaled"]),
            helper.make_node("Add", ["scaled", "offset"], ["years"]),
        ],
        "scorer",
        [helper.make_tensor_value_info("picture", kind, shape or PICTURE)],
        [helper.make_tensor_value_info("years", kind, [1])],
        [helper.make_tensor(name, kind, [1], [value]) for name, value in (("slope", slope), ("offset", offset))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_manifest(folder: Path, **tables: dict[str, object]) -> Path:
    """The shipped manifest with further tables."""
    from workers.safety.staged import MANIFEST

    lines = [MANIFEST.read_text()]
    for name, values in tables.items():
        lines += [f"[{name}]", *(f"{key} = {value!r}" for key, value in values.items())]
    path = folder / "manifest.toml"
    path.write_text("\n".join(lines).replace("'", '"'))
    return path
