"""One event a line: a name and fields. JSON for machines, a readable line for people; library logs included.

    log.info("delivered", job=job_id, type=job_type, seconds=2.1)

Never a prompt, key or URL query: fields with such names are dropped, planted secrets are cut out of any text, and of
what libraries and exceptions say only the kind and the place are kept, since both quote what they were given.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
import warnings
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO

import structlog

FORBIDDEN = frozenset(
    {"prompt", "negative_prompt", "enhanced_prompt", "body", "payload", "token", "key", "url", "headers"}
)
NOISY = ("httpx", "httpcore", "urllib3", "PIL", "diffusers", "transformers", "huggingface_hub", "asyncio")
FILE_BYTES = 10 * 2**20
FILES_KEPT = 5
OURS = "workers"
Event = MutableMapping[str, Any]

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(OURS)


def configure(
    *,
    fmt: str = "auto",
    level: str = "info",
    secrets: Iterable[str] = (),
    file: Path | None = None,
    counters: Sequence[structlog.typing.Processor] = (),
) -> None:
    """Send every log of this process to stdout in one form, and as JSON to a rotated `file` of its own.

    `fmt` is "auto", "json" or "text". `counters` are given every event of ours, whatever the level, and give it back.
    Raises `OSError` where the file cannot be written.
    """
    as_text = fmt == "text" or (fmt == "auto" and sys.stdout.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _place_of_exception,
        _cleaner(secrets),
    ]
    structlog.configure(
        processors=[*shared, *counters, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    as_json = structlog.processors.JSONRenderer()
    handlers = [_formatted(logging.StreamHandler(sys.stdout), shared, _readable if as_text else as_json)]
    if file is not None:
        handlers.append(_formatted(_rotated(file), shared, as_json))
    root = logging.getLogger()
    root.handlers[:] = handlers
    root.setLevel(level.upper())
    logging.setLogRecordFactory(_Record)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def catch_the_rest() -> None:
    """Make events of what would print itself: warnings, and exceptions that nobody caught. For a whole process."""

    warnings.showwarning = _warned
    sys.excepthook = lambda _kind, error, _trace: log.error("unhandled", **describe(error))
    threading.excepthook = lambda thrown: log.error("unhandled", **describe(thrown.exc_value or SystemExit()))
    sys.unraisablehook = lambda thrown: log.error("unhandled", **describe(thrown.exc_value or SystemExit()))
    logging.raiseExceptions = False  # the standard handler prints the event that it could not write


def describe(error: BaseException) -> dict[str, str]:
    """What a log may say of an unexpected error: its type and the place, never its text, which may quote input."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = _place(trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else ""
    return {"error": type(error).__name__, "at": where}


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    log.warning("library warning", category=category.__name__, at=_place(filename, lineno))


class _Record(logging.LogRecord):
    """A library's message by its place, and by its constant part where it has one: the rest may quote a prompt.

    Every handler gets it like this, also those that libraries bring along.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.facts: dict[str, str] = {}
        if self.name == OURS:
            return
        self.facts = {"library": self.name, "at": _place(self.pathname, self.lineno)}
        if self.exc_info and self.exc_info[1]:
            self.facts |= describe(self.exc_info[1])
        self.msg = str(self.msg) if self.args else "library message"
        self.args, self.exc_info, self.stack_info = (), None, None


def _formatted(
    handler: logging.Handler, shared: list[structlog.typing.Processor], renderer: structlog.typing.Processor
) -> logging.Handler:
    last = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=[_facts, *shared], processors=last))
    return handler


def _rotated(file: Path) -> logging.Handler:
    file.parent.mkdir(parents=True, exist_ok=True)
    return RotatingFileHandler(file, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8")


def _place(filename: str, line: int) -> str:
    return f"{filename.rpartition('/')[2]}:{line}"


def _facts(_logger: Any, _name: str, event: Event) -> Event:
    record = event.get("_record")
    return {**event, **record.facts} if isinstance(record, _Record) else event


def _place_of_exception(_logger: Any, _name: str, event: Event) -> Event:
    info = event.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else sys.exception() if info is True else info
    return {**event, **describe(error)} if isinstance(error, BaseException) else event


def _cleaner(secrets: Iterable[str]) -> structlog.typing.Processor:
    """Drops private fields and cuts secrets out of texts, at any depth."""
    planted = [secret for secret in secrets if len(secret) >= 8]

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return functools.reduce(lambda text, secret: text.replace(secret, "•••"), planted, value)
        if isinstance(value, Mapping):
            return {clean(key): clean(item) for key, item in value.items() if str(key).lower() not in FORBIDDEN}
        return [clean(item) for item in value] if isinstance(value, (list, tuple)) else value

    return lambda _logger, _name, event: clean(event)


def _readable(_logger: Any, _name: str, event: Event) -> str:
    """`03:12:44 info  delivered  job=… type=… seconds=2.1`, one line whatever the values hold."""
    stamp = str(event.pop("timestamp", ""))[11:19]
    level, name = str(event.pop("level", "")), str(event.pop("event", ""))
    fields = " ".join(f"{key}={_short(value)}" for key, value in event.items() if value not in (None, ""))
    return " ".join(f"{stamp} {level:<7} {name:<16} {fields}".splitlines()).rstrip()


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({' '.join(f'{key}={_short(item)}' for key, item in value.items() if item not in (None, ''))})"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
