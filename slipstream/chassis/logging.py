"""Structured logs: one JSON object in each line of standard output.

Each has the service's name, and the request id that an event keeps from its HTTP call through Kafka
to every consumer. Lines of a request that is traced also have the id of its trace.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from slipstream.chassis.settings import LogSettings

if TYPE_CHECKING:
    from slipstream.chassis.tracing import RecordedSpan


class TracedId(str):
    """The request id of a traced request, with the span that later spans are children of.

    It is used like any request id: in the context variable, on records, in calls to other services.

    Attributes:
        traceparent: The span's position in its trace, as W3C's header of this name has it.
        recorded: The span; None where this service does not record it.
    """

    __slots__ = ("recorded", "traceparent")

    traceparent: str
    recorded: "RecordedSpan | None"

    def __new__(
        cls, rid: str, traceparent: str, recorded: "RecordedSpan | None" = None
    ) -> "TracedId":
        made = super().__new__(cls, rid)
        made.traceparent, made.recorded = traceparent, recorded
        return made

    @property
    def trace_id(self) -> str:
        return self.traceparent[3:35]


# The id of the request or record that is being handled, else "".
request_id: ContextVar[str] = ContextVar("request_id", default="")


@contextmanager
def carrying(rid: str) -> Iterator[None]:
    """Set the request id of log lines, calls to other services and events within the block.

    "" sets none.
    """
    token = request_id.set(rid)
    try:
        yield
    finally:
        request_id.reset(token)


# Seconds for which repeats of a client library's line are left out.
REPEATED_AFTER_S = 60.0


class _Repetitions(logging.Filter):
    """Drops lines that the Kafka client repeats while no broker answers, and warns with the others.

    It writes errors twice a second, for each connection. What an outage means is in the service's
    readiness and in our own lines.
    """

    def __init__(self) -> None:
        super().__init__()
        # When each line was last let through.
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("kafka"):
            return True
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        line, now = record.getMessage(), monotonic()
        self._passed = {
            passed: at for passed, at in self._passed.items() if now - at < REPEATED_AFTER_S
        }
        if line in self._passed:
            return False
        self._passed[line] = now
        return True


def _add_request_id(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    rid = event.get("request_id") or request_id.get()
    if rid:
        event["request_id"] = rid
    if type(rid) is TracedId:
        event["trace_id"] = rid.trace_id
    return event


def _orjson(value: Any, default: Any = None) -> str:
    return orjson.dumps(value, default=default or str).decode()


def log_to_stderr() -> None:
    """Have a command's lines go to standard error: its results are on standard output."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def configure_logging(settings: LogSettings, service: str) -> None:
    """Set up this process's logs, those of libraries included. Called once, at the entry point."""
    level = getattr(logging, settings.level.upper())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: structlog.typing.Processor
    if settings.format == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer(serializer=_orjson)
    else:
        # rich, where it is installed, would print all locals: seconds for a model, and keys.
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(_is_news)
    handler.addFilter(_Repetitions())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Clients log every reconnect and fetch; our own code logs the important ones.
    for chatty, at_least in (
        ("alembic", logging.WARNING),
        ("kafka", logging.ERROR),
        ("httpx", logging.WARNING),
        ("httpcore", logging.WARNING),
        ("opentelemetry", logging.CRITICAL),
        ("uvicorn.access", logging.ERROR),
    ):
        logging.getLogger(chatty).setLevel(at_least)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(service=service)
    _service_everywhere(service, handler)


def _is_news(record: logging.LogRecord) -> bool:
    """False for the Kafka client's failure to read from a socket that it has closed itself.

    A read that was waiting wakes up after the close, and finds no socket.
    """
    error = record.exc_info[1] if record.exc_info else None
    closed = isinstance(error, AttributeError) and error.obj is None and error.name == "recv"
    return not (closed and record.name.startswith("kafka."))


def _service_everywhere(service: str, handler: logging.Handler) -> None:
    """Put the service's name on each record as well: threads start without context variables."""
    formatter = handler.formatter
    assert isinstance(formatter, structlog.stdlib.ProcessorFormatter)  # noqa: S101

    def add_service(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event.setdefault("service", service)
        return event

    formatter.processors = (add_service, *formatter.processors)


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger for a module; safe at import, since it binds to the configuration on first use."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger
