"""What the tests of the video model share."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workers.engines.wan import WanEngine
from workers.job import SamplingParams
from workers.watch import Watch

PICTURE = SamplingParams(
    type="image_fast",
    media="image",
    width=64,
    height=112,
    frames=1,
    steps=4,
    guidance=6.5,
    seeds=(7,),
    solver="unipc",
    shift=5.0,
    quality="fast",
    prompt="a red bicycle leaning on a white wall",
    negative_prompt="blurry, low quality",
)


def forbid_network(patch: Callable[[object, str, Any], None]) -> None:
    """Any attempt to resolve a name or to connect fails, other than to this machine. `patch` is setattr or like it."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"), f"connects to {address}"
        connect(self, address)

    def no_names(*args: Any, **_: Any) -> None:
        raise AssertionError(f"resolves {args[0]}")

    patch(socket.socket, "connect", local_only)
    patch(socket, "getaddrinfo", no_names)


def loaded(root: Path, **options: Any) -> WanEngine:
    engine = WanEngine(root, device="cpu", **options)
    engine.load(Watch())
    return engine
