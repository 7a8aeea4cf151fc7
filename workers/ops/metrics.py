"""The text that Prometheus reads: counts from the processes' files, the rest from what is known right now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from workers.ops.board import Board, QueueNow, WorkerNow
from workers.ops.card import CardNow
from workers.supervision.slot import State

WINDOW = 300.0
Rows = Iterable[tuple[tuple[str, ...], float | None]]


def exposition(folder: Path, board: Board, card: CardNow | None) -> bytes:
    """Reads files and memory only: no request leaves the machine for it."""
    registry = CollectorRegistry(auto_describe=False)
    MultiProcessCollector(registry, str(folder))
    registry.register(_Now(board, card))
    return bytes(generate_latest(registry))


class _Now:
    def __init__(self, board: Board, card: CardNow | None) -> None:
        self._board, self._card = board, card

    def collect(self) -> Iterator[Metric]:
        yield from _of_queues(self._board.queues())
        yield from _of_workers(self._board.workers())
        yield from _of_time(self._board)
        if self._card is not None:
            yield from _of_card(self._card)


def _of_queues(queues: list[QueueNow]) -> Iterator[Metric]:
    def gauge(name: str, text: str, value: str) -> Metric:
        return _gauge(name, text, ("queue",), (((q.name,), getattr(q, value)) for q in queues))

    yield gauge("ourvidz_queue_waiting", "Jobs that wait.", "waiting")
    yield gauge("ourvidz_queue_oldest_seconds", "How long the first of them has waited, where it says.", "oldest")
    yield gauge("ourvidz_queue_seen_seconds", "How long ago a worker saw the queue.", "age")
    yield gauge("ourvidz_queue_paused", "1 while no job is served.", "paused")


def _of_workers(workers: list[WorkerNow]) -> Iterator[Metric]:
    def gauge(name: str, text: str, value: str) -> Metric:
        return _gauge(name, text, ("kind",), (((w.kind,), getattr(w, value)) for w in workers))

    yield gauge("ourvidz_worker_ready", "1 while the worker takes jobs.", "ready")
    yield gauge("ourvidz_worker_vram_bytes", "Bytes of the card that its tensors hold.", "vram")
    yield gauge("ourvidz_worker_memory_bytes", "Bytes of the host that no file backs.", "memory")
    yield gauge("ourvidz_worker_claims", "Jobs in its hands.", "claims")
    yield gauge("ourvidz_worker_heartbeat_seconds", "Age of its last sign of life.", "age")
    states = (((w.kind, str(state)), float(w.state == state)) for w in workers for state in State)
    yield _gauge("ourvidz_worker_state", "1 for the state that its slot is in.", ("kind", "state"), states)
    restarts = (((w.kind,), float(w.restarts)) for w in workers)
    yield _counter("ourvidz_worker_restarts", "Starts beyond the first.", restarts)


def _of_time(board: Board) -> Iterator[Metric]:
    sums = board.sums.items()
    yield _counter(
        "ourvidz_gpu_busy_seconds", "Seconds for which a worker had the card.", (((k,), s.busy.total) for k, s in sums)
    )
    commands = (((kind,), each.commands.total) for kind, each in sums)
    yield _counter("ourvidz_commands", "Commands sent to redis, each of which is billed.", commands)
    share = board.idle_share(WINDOW)
    yield _gauge("ourvidz_gpu_idle_share", "Idle share of the last five minutes.", (), [((), share)])
    yield _gauge("ourvidz_supervisor_stuck", "1 while the supervisor does not go on.", (), [((), float(board.stuck))])


def _of_card(card: CardNow) -> Iterator[Metric]:
    memory: Rows = ((("used",), float(card.used)), (("total",), float(card.total)))
    yield _gauge("ourvidz_card_memory_bytes", "Memory of the card, all processes.", ("state",), memory)
    yield _gauge("ourvidz_card_utilization", "Share of time with work on the card.", (), [((), card.utilization / 100)])
    yield _gauge("ourvidz_card_celsius", "Temperature of the card.", (), [((), float(card.temperature))])
    yield _gauge("ourvidz_card_watts", "Power that the card draws.", (), [((), card.watts)])


def _gauge(name: str, text: str, labels: tuple[str, ...], rows: Rows) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in rows:
        if value is not None:
            family.add_metric(values, float(value))
    return family


def _counter(name: str, text: str, rows: Rows) -> Metric:
    family = CounterMetricFamily(name, text, labels=("kind",))
    for values, value in rows:
        family.add_metric(values, float(value or 0.0))
    return family
