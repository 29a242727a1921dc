"""Readiness that tells the truth: a real forward pass must have succeeded recently."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from service.batch_contract import QueueFull, WorkerStalled
from service.errors import NotReady

MAX_AGE_S = 10.0
PROBE_TIMEOUT_S = 5.0


class Readiness:
    """Knows when a forward pass last succeeded, and makes one when that is too long ago.

    probe: makes a forward pass; None where no model is loaded. stalled: whether one is known to hang.
    locating_stalled: whether a decoding or a face detection is.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[object]] | None,
        stalled: Callable[[], bool] = lambda: False,
        locating_stalled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._probe = probe
        self._stalled = stalled
        self._locating_stalled = locating_stalled
        self._last_success_s = float("-inf")
        self._lock = asyncio.Lock()

    def succeeded(self) -> None:
        """A forward pass has just succeeded; may be called from any thread."""
        self._last_success_s = time.monotonic()

    async def require(self) -> None:
        """Return if the service can answer; raises NotReady with the reason."""
        if self._probe is None:
            raise NotReady("no model is loaded")
        if self._locating_stalled():
            raise NotReady("a decoding or a face detection has not ended in time")
        async with self._lock:
            if self._stalled() or time.monotonic() - self._last_success_s > MAX_AGE_S:
                await self._try(self._probe)

    async def _try(self, probe: Callable[[], Awaitable[object]]) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await probe()
        except TimeoutError:
            raise NotReady(f"no forward pass succeeded for {MAX_AGE_S:g} s, nor within {PROBE_TIMEOUT_S:g} s") from None
        except WorkerStalled:
            raise NotReady("a forward pass has not ended in time") from None
        except QueueFull:
            raise NotReady(f"no forward pass succeeded for {MAX_AGE_S:g} s, and the queue is full") from None
        except Exception as error:
            raise NotReady(f"a forward pass failed ({type(error).__name__})") from error
        self.succeeded()
