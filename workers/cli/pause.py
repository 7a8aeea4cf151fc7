"""Stop serving a queue, and go on. What is in work is finished and delivered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from workers.cli.run import Kind, known_kind
from workers.cli.screen import out

if TYPE_CHECKING:
    from workers.cli.queues import QueueView


def pause(kind: Kind) -> None:
    """Have no worker claim jobs from one queue, on any machine, until it is resumed."""
    with _view(kind) as view:
        view.queue.pause()
        out().print(f"{view.name} is paused; its jobs wait for: resume {kind}")


def resume(kind: Kind) -> None:
    """Have a paused queue served again."""
    with _view(kind) as view:
        was_paused = view.queue.resume()
        out().print(f"{view.name} is served again" if was_paused else f"{view.name} was not paused")


@contextmanager
def _view(kind: str) -> Iterator[QueueView]:
    from workers.cli.queues import views
    from workers.settings import load_settings

    with views(load_settings(), known_kind(kind)) as (view,):
        yield view
