"""Wan 2.1 T2V 1.3B: one frame or a clip from text, out of the authors' own files or the diffusers layout."""

from workers.engines.wan.engine import WanEngine

__all__ = ["WanEngine"]
