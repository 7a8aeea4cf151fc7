"""Several lanes, so that trials can wait for the ends of their leases together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue
from types import TracebackType
from typing import TypeVar

from bench.chaos.lane import Lane
from bench.chaos.nursery import Nursery

Task = TypeVar("Task")
Result = TypeVar("Result")


class Lanes:
    """Main thread only: redis and the nursery die with the thread that starts them. Without a nursery they have one
    of their own."""

    def __init__(self, count: int, nursery: Nursery | None = None) -> None:
        self._count, self._nursery = count, nursery

    def __enter__(self) -> Lanes:
        with ExitStack() as opened:
            nursery = self._nursery or opened.enter_context(Nursery())
            self._free: SimpleQueue[Lane] = SimpleQueue()
            for _ in range(self._count):
                self._free.put(opened.enter_context(Lane(nursery)))
            self._pool = opened.enter_context(ThreadPoolExecutor(self._count))
            opened.callback(self._pool.shutdown, cancel_futures=True)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.close()

    def run(self, trial: Callable[[Lane, Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Every trial has a lane to itself; results come in the order of the tasks."""

        def one(task: Task) -> Result:
            lane = self._free.get()
            try:
                return trial(lane, task)
            finally:
                self._free.put(lane)

        for future in [self._pool.submit(one, task) for task in tasks]:
            yield future.result()
