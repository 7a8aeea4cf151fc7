"""The training loop that all toys share: AdamW, warm-up and cosine, a running mean of the weights, checkpoints."""

from __future__ import annotations

import math
import random
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

WARM_STEPS = 100
MEAN_DECAY = 0.998
CLIP = 1.0
SAVE_EVERY = 60.0
SAY_EVERY = 50
SMOOTH = 0.98


@dataclass(frozen=True, slots=True)
class Plan:
    """`steps` of `batch` examples, while `rate` falls to nothing; `minutes`, where given, may end it sooner."""

    name: str
    steps: int
    rate: float
    batch: int
    minutes: float | None = None


def load_plans(device: str) -> dict[str, Plan]:
    """Stage -> plan, for "cpu" or "cuda"."""
    tables = tomllib.loads(Path(__file__).with_name("plans.toml").read_text(encoding="utf-8"))[device]
    return {name: Plan(name, **table) for name, table in tables.items()}


@dataclass(frozen=True, slots=True)
class Chance:
    """Where one step's randomness comes from: the same step draws the same, also after an interruption."""

    words: random.Random
    noise: torch.Generator


Loss = Callable[[Chance], "Tensor"]
Report = dict[str, float]


@dataclass(frozen=True, slots=True)
class _At:
    """How far a plan is."""

    step: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    done: bool = False

    def part(self, plan: Plan) -> float:
        by_time = self.seconds / 60 / plan.minutes if plan.minutes else 0.0
        return min(1.0, max(self.step / plan.steps, by_time))

    def next(self, loss: float, seconds: float, plan: Plan) -> _At:
        smooth = SMOOTH * self.loss + (1 - SMOOTH) * loss if self.step else loss
        now = _At(self.step + 1, seconds, smooth)
        return replace(now, done=now.part(plan) >= 1)


def fit(modules: Mapping[str, nn.Module], loss: Loss, plan: Plan, folder: Path, seed: int = 0) -> Report:
    """Train in place until the plan is through, from the last checkpoint on where `folder` has one; what is left in
    `modules` is the running mean of their weights. The answer says steps, minutes and the last loss."""
    import torch

    parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=plan.rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    mean = [p.detach().clone() for p in parameters]
    state = _State(folder / f"{plan.name}.pt", parameters, mean, optimizer)
    at = state.restore()
    began, saved = time.monotonic() - at.seconds, time.monotonic()
    while not at.done:
        rate = plan.rate * min(1, (at.step + 1) / WARM_STEPS) * 0.5 * (1 + math.cos(math.pi * at.part(plan)))
        value = _step(loss(chance(seed, at.step)), optimizer, parameters, rate)
        at = at.next(value, time.monotonic() - began, plan)
        torch._foreach_lerp_(mean, [p.detach() for p in parameters], 1 - min(MEAN_DECAY, at.step / (at.step + 10)))
        if at.step % SAY_EVERY == 0:
            print(f"{plan.name} {at.step} {at.part(plan):.3f} loss {at.loss:.5f} {at.seconds:.0f}s", flush=True)
        if at.done or time.monotonic() - saved > SAVE_EVERY:
            saved = time.monotonic()
            state.save(at)
    for parameter, average in zip(parameters, mean, strict=True):
        parameter.data.copy_(average)
    return {"steps": at.step, "minutes": round(at.seconds / 60, 1), "loss": round(at.loss, 5)}


def chance(seed: int, step: int) -> Chance:
    import torch

    return Chance(random.Random(f"{seed} {step}"), torch.Generator().manual_seed(seed * 10_000_019 + step))


@contextmanager
def half(device: str) -> Iterator[None]:
    """Matrix products in bfloat16, the rest in float32."""
    import torch

    with torch.autocast(device, torch.bfloat16):
        yield


def _step(loss: Any, optimizer: Any, parameters: Sequence[Tensor], rate: float) -> float:
    import torch

    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, CLIP)
    optimizer.step()
    return float(loss.detach())


class _State:
    """Everything a stage needs to go on where it stopped, in one file that is always whole."""

    def __init__(self, file: Path, parameters: Sequence[Tensor], mean: Sequence[Tensor], optimizer: Any) -> None:
        self._file, self._parameters, self._mean, self._optimizer = file, parameters, mean, optimizer

    def save(self, at: _At) -> None:
        import torch

        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        weights = {"weights": list(self._parameters), "mean": self._mean, "optimizer": self._optimizer.state_dict()}
        torch.save({"at": asdict(at), **weights}, new)
        new.rename(self._file)

    def restore(self) -> _At:
        import torch

        if not self._file.is_file():
            return _At()
        known = torch.load(self._file, map_location="cpu", weights_only=True)
        with torch.no_grad():
            for name, tensors in (("weights", self._parameters), ("mean", self._mean)):
                for tensor, value in zip(tensors, known[name], strict=True):
                    tensor.copy_(value)
        self._optimizer.load_state_dict(known["optimizer"])
        return _At(**known["at"])
