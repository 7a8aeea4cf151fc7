"""The control room of a machine: put together by the supervisor's process, around the supervisor and never in its way.

Whatever fails here costs sight of the work, not the work: it is said in one sentence, and the workers run on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.kinds import queue_of
from workers.logs import describe, log
from workers.ops import events
from workers.ops.access import Access
from workers.ops.board import Board
from workers.ops.feed import Feed
from workers.ops.history import Archive, Ring, sweep
from workers.ops.recorder import Books, Recorder
from workers.ops.routes import Desk, application
from workers.ops.terms import Terms, terms_of
from workers.ops.web import HttpServer
from workers.queue.upstash import UpstashQueue
from workers.settings import Settings, is_loopback
from workers.supervision.keeper import View
from workers.tables import load_presets

ADDRESS = "ops.address"
"""A file in the run folder with the address of the server, for tools on this machine."""


@dataclass(frozen=True, slots=True)
class Room:
    """`show` is given all slots each second, `died` a slot whose worker ended; `close` once when all is over."""

    show: Callable[[Sequence[View]], None]
    died: Callable[[str], None]
    close: Callable[[], None]


def count_here(run_dir: Path, kinds: Sequence[str]) -> None:
    """Have this process, and the workers that it will start, count into files. Before anything is logged."""
    os.environ[events.VARIABLE] = str(events.prepare(run_dir, [*kinds, "supervisor"]))


def open_room(settings: Settings, run_dir: Path, queues: Mapping[str, UpstashQueue]) -> Room:
    """Start recording and serving; `queues` by kind of worker. Never raises for the disk or the network."""
    board = Board({kind: queue_of(kind) for kind in queues})
    folder = Path(os.environ[events.VARIABLE])
    books = _books(terms_of(settings, load_presets()), board, run_dir)
    if books is None:
        return Room(board.see, lambda slot: events.forget_live(folder, slot), lambda: None)
    recorder = Recorder(books, run_dir, look=lambda kind: queues[kind].sight())
    recorder.start()
    server = _serve(settings, run_dir, Desk(settings, books, recorder, _access(settings), folder))

    def close() -> None:
        recorder.stop()
        if server is not None:
            server.shutdown()
            server.server_close()
            (run_dir / ADDRESS).unlink(missing_ok=True)

    return Room(board.see, lambda slot: events.forget_live(folder, slot), close)


def place_of(address: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:8090` or `[::1]:8090`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _books(terms: Terms, board: Board, run_dir: Path) -> Books | None:
    """On the volume, so that a new pod knows what the last one learned; in memory where that is not to be written."""
    for folder in (terms.folder, run_dir):
        ring, archive = folder / f"{terms.host}.ring", folder / f"{terms.host}.jobs"
        try:
            books = Books(terms, board, Archive(archive), Ring(ring), Feed())
        except OSError as error:
            log.warning("history not kept", folder=str(folder), **describe(error))
        else:
            if folder == terms.folder:
                sweep(folder, keep=(ring, archive))
            return books
    return None


def _access(settings: Settings) -> Access:
    token = settings.ops_token
    host, _ = place_of(settings.ops_address or "127.0.0.1:0")
    return Access(token.get_secret_value() if token else None, loopback=is_loopback(host))


def _serve(settings: Settings, run_dir: Path, desk: Desk) -> HttpServer | None:
    if not settings.ops_address:
        return None
    host, port = place_of(settings.ops_address)
    try:
        server = HttpServer(host, port, application(desk))
        (run_dir / ADDRESS).write_text(f"{host}:{server.port}")
    except OSError as error:
        log.error(
            "page not served",
            address=settings.ops_address,
            reason=error.strerror,
            hint="Set OPS_ADDRESS to a free port, or leave it empty; the workers run on.",
        )
        return None
    server.start()
    log.info("page served", address=f"http://{host}:{server.port}")
    return server
