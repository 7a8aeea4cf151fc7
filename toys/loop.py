"""The training loop that all toys share: warm-up and cosine, a running mean of the weights, checkpoints."""

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

from toys.steps import adam, set_rate, stepper

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

WARM_STEPS = 100
MEAN_DECAY = 0.998
SAVE_EVERY, SAY_EVERY = 60.0, 5.0
"""Seconds."""
READ_EVERY = 20
"""Steps after which the loss is read and the clock counts: a card has done what it was given by then."""
SMOOTH = 0.98


@dataclass(frozen=True, slots=True)
class Plan:
    """`steps` of `batch` examples, while `rate` falls to nothing; `minutes`, where given, may end it sooner. Where all
    stages must be through by `deadline`, of the monotonic clock, this one takes `share` of what is left when it
    begins. A card's step is `recorded` where its batches have few shapes and nothing asks what is in a tensor."""

    name: str
    steps: int
    rate: float
    batch: int
    minutes: float | None = None
    recorded: bool = True
    deadline: float | None = None
    share: float = 1.0

    def begun(self, seconds: float) -> Plan:
        """With the minutes it has, counted with the seconds that it took before an interruption."""
        if self.deadline is None:
            return self
        left = max(0.0, self.deadline - time.monotonic())
        return replace(self, minutes=(seconds + self.share * left) / 60)


def load_plans(device: str) -> dict[str, Plan]:
    """Stage -> plan, for "cpu" or "cuda"."""
    tables = tomllib.loads(Path(__file__).with_name("plans.toml").read_text(encoding="utf-8"))[device]
    return {name: Plan(name, **table) for name, table in tables.items()}


def within(minutes: float, plans: Mapping[str, Plan]) -> dict[str, Plan]:
    """Stages that are through together in these minutes from now, whatever comes between them: each has its part by
    the minutes of its plan, or else by what it does in steps and examples."""
    deadline, weights = time.monotonic() + 60 * minutes, [p.minutes or p.steps * p.batch for p in plans.values()]
    shares = [weight / sum(weights[number:]) for number, weight in enumerate(weights)]
    return {
        name: replace(plan, deadline=deadline, share=share)
        for (name, plan), share in zip(plans.items(), shares, strict=True)
    }


@dataclass(frozen=True, slots=True)
class Chance:
    """Where one step's randomness comes from: the same step draws the same, also after an interruption."""

    words: random.Random
    noise: torch.Generator


Feed = Callable[[Chance], "tuple[Tensor, ...]"]
"""What one step learns from."""
Loss = Callable[..., "Tensor"]
"""Of what was fed, and of nothing else that changes from step to step: a card repeats it without asking again."""
Report = dict[str, float]


@dataclass(frozen=True, slots=True)
class Task:
    feed: Feed
    loss: Loss


@dataclass(frozen=True, slots=True)
class _At:
    """How far a plan is."""

    step: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    done: bool = False

    def part(self, plan: Plan) -> float:
        by_time = 0.0 if plan.minutes is None else self.seconds / 60 / max(plan.minutes, 1e-9)
        return min(1.0, max(self.step / plan.steps, by_time))

    def next(self, seconds: float, plan: Plan) -> _At:
        now = replace(self, step=self.step + 1, seconds=seconds)
        return replace(now, done=now.part(plan) >= 1)


def fit(modules: Mapping[str, nn.Module], task: Task, plan: Plan, folder: Path, seed: int = 0) -> Report:
    """Train in place until the plan is through, from the last checkpoint on where `folder` has one; what is left in
    `modules` is the running mean of their weights. The answer says steps, minutes and the last loss."""
    import torch

    parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    optimizer, mean = adam(parameters, plan.rate), [p.detach().clone() for p in parameters]
    state = _State(folder / f"{plan.name}.pt", parameters, mean, optimizer)
    at, device = state.restore(), parameters[0].device
    plan, step = (
        plan.begun(at.seconds),
        stepper(task.loss, optimizer, parameters, recorded=device.type == "cuda" and plan.recorded),
    )
    smooth = torch.tensor(at.loss, device=device)
    began, saved, said = time.monotonic() - at.seconds, time.monotonic(), at
    while not at.done:
        falling = 0.5 * (1 + math.cos(math.pi * at.part(plan)))
        set_rate(optimizer, plan.rate * min(1, (at.step + 1) / WARM_STEPS) * falling)
        value = step(task.feed(chance(seed, at.step, device)))
        smooth.lerp_(value, 1 - SMOOTH if at.step else 1.0)
        at = at.next(time.monotonic() - began, plan)
        torch._foreach_lerp_(mean, [p.detach() for p in parameters], 1 - min(MEAN_DECAY, at.step / (at.step + 10)))
        if at.done or at.step % READ_EVERY == 0:
            at = replace(at, loss=float(smooth))
            said = _said(plan, at, said)
        if at.done or time.monotonic() - saved > SAVE_EVERY:
            saved = time.monotonic()
            state.save(at)
    for parameter, average in zip(parameters, mean, strict=True):
        parameter.data.copy_(average)
    return {"steps": at.step, "minutes": round(at.seconds / 60, 1), "loss": round(at.loss, 5)}


def chance(seed: int, step: int, device: torch.device | str = "cpu") -> Chance:
    import torch

    return Chance(random.Random(f"{seed} {step}"), torch.Generator(device).manual_seed(seed * 10_000_019 + step))


@contextmanager
def half(device: str) -> Iterator[None]:
    """Matrix products in bfloat16, the rest in float32."""
    import torch

    with torch.autocast(device, torch.bfloat16):
        yield


def _said(plan: Plan, at: _At, before: _At) -> _At:
    """Says how far it is every few seconds; where that was said last."""
    passed = at.seconds - before.seconds
    if passed < SAY_EVERY and not at.done:
        return before
    rate = (at.step - before.step) / max(passed, 1e-9)
    done = f"{plan.name} {at.step} {at.part(plan):.3f}"
    print(f"{done} loss {at.loss:.5f} {at.seconds:.0f}s {rate:.1f}/s", flush=True)
    return at


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
        rates = [group["lr"] for group in self._optimizer.param_groups]
        self._optimizer.load_state_dict(known["optimizer"])
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        return _At(**known["at"])
