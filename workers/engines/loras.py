"""LoRAs merged into a model's weights, and the weights exactly as they were without them.

Weights are changed in place, so whatever reads them, joined matrices and recorded graphs included, goes on as before
at its own speed. What is changed is copied to host memory first; every merge begins from the copies, so the result
depends on nothing but the base and the LoRAs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.card import gpu
from workers.engines.lora_file import Change, Unfit, read
from workers.errors import Rejected
from workers.job import Lora
from workers.logs import log
from workers.loras import Offered
from workers.watch import Watch

if TYPE_CHECKING:
    import torch

MISSING = "This LoRA is not available at the moment."
DOES_NOT_FIT = "This LoRA does not fit the model."

Names = Callable[[str], tuple[str, ...]]
"""A module's path in its model -> how LoRA files spell it."""
TEXT_MODEL = "text_model."


@dataclass(frozen=True, slots=True)
class Shelf:
    """The files that a deployment offers, below `root`."""

    root: Path
    offered: Offered

    def take(self, name: str) -> dict[str, Change]:
        """Raises `Rejected` where the file is missing, is another one than was meant, or cannot be read."""
        file = self.offered[name]
        try:
            data = (self.root / file.file).read_bytes()
        except OSError as error:
            raise _refused(MISSING, name, f"{file.file}: {error.strerror}") from None
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise _refused(MISSING, name, f"{file.file} is not the file whose hash is in models.toml")
        try:
            return read(data)
        except Unfit as error:
            raise _refused(DOES_NOT_FIT, name, str(error)) from None


EMPTY = Shelf(Path(), {})


class Merged:
    """The weights of a model's networks, and the LoRAs that are in them."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.over({})

    def over(self, networks: Mapping[Any, Names], changed: Callable[[], None] = lambda: None) -> None:
        """Work on these networks, each with its way of spelling names, as they are now. `changed` is called whenever
        weights have changed, for whoever keeps what was computed from them."""
        self._networks, self._changed = networks, changed
        self._modules: dict[str, Any] = {}
        self._pristine: dict[torch.nn.Parameter, torch.Tensor] = {}
        self.worn: tuple[Lora, ...] = ()

    def wear(self, wanted: tuple[Lora, ...], watch: Watch) -> None:
        """Merge these and no others. What is raised leaves the base alone: `Rejected`, `EngineBroken`, or what stops
        the watch."""
        wanted = tuple(lora for lora in wanted if lora.strength)
        if wanted != self.worn:
            with watch.phase("lora"):
                gpu.with_one_retry(lambda: self._change(wanted, watch), lambda: self._change(wanted, watch))

    def _change(self, wanted: tuple[Lora, ...], watch: Watch) -> None:
        try:
            self._restore()
            for lora in wanted:
                self._merge(lora, watch)
            self.worn = wanted
        except BaseException:
            self._restore()
            raise
        finally:
            self._changed()

    def _merge(self, lora: Lora, watch: Watch) -> None:
        changes = self._shelf.take(lora.name)
        try:
            found = [(self._module(stem), change) for stem, change in changes.items()]
            for done, (module, change) in enumerate(found, start=1):
                for parameter, delta in _deltas(module, change):
                    self._add(parameter, delta, lora.strength)
                watch.step(done, len(found))
        except Unfit as error:
            raise _refused(DOES_NOT_FIT, lora.name, str(error)) from None

    def _add(self, parameter: torch.nn.Parameter, delta: torch.Tensor, strength: float) -> None:
        import torch

        if delta.shape != parameter.shape:
            raise Unfit(f"a change of {tuple(delta.shape)} meets weights of {tuple(parameter.shape)}")
        with torch.no_grad():
            if parameter not in self._pristine:
                self._pristine[parameter] = parameter.detach().to("cpu", copy=True)
            parameter.copy_(parameter.float() + strength * delta.to(parameter.device, torch.float32))

    def _restore(self) -> None:
        import torch

        with torch.no_grad():
            for parameter, pristine in self._pristine.items():
                parameter.copy_(pristine)
        self._pristine.clear()
        self.worn = ()

    def _module(self, stem: str) -> Any:
        if not self._modules:
            self._modules = dict(self._spelled())
        if stem not in self._modules:
            raise Unfit(f"the model has no {stem[:120]}")
        return self._modules[stem]

    def _spelled(self) -> Iterator[tuple[str, Any]]:
        for network, names in self._networks.items():
            for path, module in network.named_modules():
                if getattr(module, "weight", None) is not None:
                    yield from ((name, module) for name in names(path))


def text_encoder_names(component: str, short: str) -> Names:
    """diffusers' and kohya's names; releases of transformers differ in whether `text_model` is part of a path."""

    def names(path: str) -> tuple[str, ...]:
        bare = path.removeprefix(TEXT_MODEL)
        kohya = (TEXT_MODEL + bare).replace(".", "_")
        return f"{component}.{bare}", f"{component}.{TEXT_MODEL}{bare}", f"lora_{short}_{kohya}"

    return names


def _deltas(module: Any, change: Change) -> Iterator[tuple[torch.nn.Parameter, torch.Tensor]]:
    try:
        weight, bias = change.of_weight(module.weight), change.of_bias()
    except RuntimeError as error:
        raise Unfit(f"its sizes are other ones: {error}") from None
    if weight is not None:
        yield module.weight, weight
    if bias is not None and getattr(module, "bias", None) is None:
        raise Unfit("it changes a bias where the model has none")
    if bias is not None:
        yield module.bias, bias


def _refused(sentence: str, name: str, reason: str) -> Rejected:
    log.error("lora refused", lora=name, reason=reason)
    return Rejected(sentence, field="loras", code="failed")
