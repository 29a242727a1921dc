"""Readiness: every encoder must recently have completed a forward pass on every device."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from service.errors import Draining, NotReady
from service.scheduling.watchdog import WorkerStalled

MAX_AGE_S = 10.0
"""Seconds for which a successful forward pass counts as recent."""

PROBE_TIMEOUT_S = 5.0
"""Seconds that a new forward pass may take."""


class Probed(Protocol):
    """A part that must work for the service to be ready."""

    @property
    def last_success_s(self) -> float:
        """Time of its last success, by time.monotonic."""
        ...

    @property
    def stalled(self) -> bool:
        """True if it is known to hang."""
        ...

    async def probe(self) -> None:
        """Try whether it works; a success sets `last_success_s`."""
        ...


class Readiness:
    """Asks each of its parts for a forward pass if the last one is too long ago. Without parts it is never ready."""

    def __init__(self, parts: Sequence[Probed], locating_stalled: Callable[[], bool] = lambda: False) -> None:
        """`locating_stalled` returns whether face detection is known to hang."""
        self._parts = tuple(parts)
        self._locating_stalled = locating_stalled
        self._lock = asyncio.Lock()
        self._draining = False
        self._why_unwritable: Callable[[], str | None] = lambda: None

    def require_storage(self, why_unwritable: Callable[[], str | None]) -> None:
        """Be ready only while uploads can be stored. `why_unwritable` returns why they cannot, or None."""
        self._why_unwritable = why_unwritable

    def drain(self) -> None:
        """Be ready no more: the service is shutting down."""
        self._draining = True

    @property
    def draining(self) -> bool:
        """True once the service shuts down."""
        return self._draining

    async def require(self) -> None:
        """Return if the service can answer. Raises NotReady with the reason otherwise, or Draining."""
        if self._draining:
            raise Draining("the service is shutting down")
        if not self._parts:
            raise NotReady("no model is loaded")
        if self._locating_stalled():
            raise NotReady("a decoding or a face detection has not ended in time")
        if (reason := self._why_unwritable()) is not None:
            raise NotReady(reason)
        async with self._lock:
            for part in self._parts:
                if part.stalled or time.monotonic() - part.last_success_s > MAX_AGE_S:
                    await self._try(part)

    async def _try(self, part: Probed) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await part.probe()
        except TimeoutError:
            raise NotReady(f"no forward pass succeeded for {MAX_AGE_S:g} s, nor within {PROBE_TIMEOUT_S:g} s") from None
        except WorkerStalled:
            raise NotReady("a forward pass has not ended in time") from None
        except Exception as error:
            raise NotReady(f"a forward pass failed ({type(error).__name__})") from error
