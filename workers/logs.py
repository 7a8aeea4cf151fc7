"""One event a line: a name and fields. JSON for machines, a readable line for people; library logs included.

    log.info("delivered", job=job_id, type=job_type, seconds=2.1)

Never a prompt, key or URL query: fields with such names are dropped, and planted secrets are cut out of any text.
"""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import structlog

FORBIDDEN = frozenset(
    {"prompt", "negative_prompt", "enhanced_prompt", "body", "payload", "token", "key", "url", "headers"}
)
NOISY = ("httpx", "httpcore", "urllib3", "PIL", "diffusers", "transformers", "huggingface_hub", "asyncio")
Event = MutableMapping[str, Any]

log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("workers")


def configure(*, fmt: str = "auto", level: str = "info", secrets: Iterable[str] = ()) -> None:
    """Send every log of this process to stdout in one form. `fmt` is "auto", "json" or "text"."""
    as_text = fmt == "text" or (fmt == "auto" and sys.stdout.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _place_of_exception,
        _cleaner(secrets),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _readable if as_text else structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def describe(error: BaseException) -> dict[str, str]:
    """What a log may say of an unexpected error: its type and the place, never its text, which may quote input."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else ""
    return {"error": type(error).__name__, "at": where}


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
    return f"{value:.2f}" if isinstance(value, float) else str(value)
