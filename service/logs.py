"""Structured logs: one line for each event, as JSON or for a console, with the id of the request that caused it."""

import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import structlog
from structlog.types import Processor


class OnceASecond(logging.Filter):
    """Passes one message of each line of code a second, with the number of those that were held back since.

    Clients can cause the messages about connections as often as they like.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._passed_s: dict[tuple[str, int], float] = {}
        self._held: Counter[tuple[str, int]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        line = record.pathname, record.lineno
        now_s = self._clock()
        if now_s - self._passed_s.get(line, -math.inf) < 1:
            self._held[line] += 1
            return False
        self._passed_s[line] = now_s
        if held := self._held.pop(line, 0):
            record.msg = f"{record.msg} ({held} more like this)"
        return True


def configure_logs(form: Literal["json", "console"], level: str) -> None:
    """Send structlog's and the standard library's records through one renderer to stderr."""
    shared: Sequence[Processor] = (
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    )
    renderer: Processor = (
        structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove_meta, renderer])
    )
    root = logging.getLogger()
    root.handlers = [handler]
    # Libraries tell of headers and messages at `debug`, and keys and answers are in these.
    root.setLevel(max(logging.INFO, logging.getLevelNamesMapping()[level.upper()]))
    for name in ("service", "model_core"):
        logging.getLogger(name).setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = name != "uvicorn.access"  # our own line replaces it
    logging.getLogger("service.http.websockets").setLevel(logging.WARNING)  # as above, for those that open
    for name in ("asyncio", "uvicorn.error", "service.http.connections", "service.http.websockets"):
        logging.getLogger(name).filters = [OnceASecond()]
