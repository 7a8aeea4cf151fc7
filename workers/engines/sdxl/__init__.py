"""Stable Diffusion XL from one checkpoint file: prompts of any length, three solvers, one seed per image."""

from workers.engines.sdxl.engine import SdxlEngine

__all__ = ["SdxlEngine"]
