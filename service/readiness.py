"""Readiness that tells the truth: a real forward pass must have succeeded recently, on every replica of the network."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from service.batch_contract import WorkerStalled
from service.errors import NotReady

MAX_AGE_S = 10.0
PROBE_TIMEOUT_S = 5.0


class Readiness:
    """Knows when a forward pass last succeeded on each replica, and makes one on all when that is too long ago.

    probe: makes a forward pass on every replica; None where no model is loaded. stalled: whether one is known to hang.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[object]] | None,
        stalled: Callable[[], bool] = lambda: False,
        replicas: int = 1,
    ) -> None:
        self._probe = probe
        self._stalled = stalled
        self._last_success_s = [float("-inf")] * replicas
        self._lock = asyncio.Lock()

    def succeeded(self, replica: int = 0) -> None:
        """A forward pass has just succeeded on a replica; may be called from any thread."""
        self._last_success_s[replica] = time.monotonic()

    async def require(self) -> None:
        """Return if the service can answer; raises NotReady with the reason."""
        if self._probe is None:
            raise NotReady("no model is loaded")
        async with self._lock:
            if self._stalled() or time.monotonic() - min(self._last_success_s) > MAX_AGE_S:
                await self._try(self._probe)

    async def _try(self, probe: Callable[[], Awaitable[object]]) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await probe()
        except TimeoutError:
            raise NotReady(f"no forward pass succeeded for {MAX_AGE_S:g} s, nor within {PROBE_TIMEOUT_S:g} s") from None
        except WorkerStalled:
            raise NotReady("a forward pass has not ended in time") from None
        except Exception as error:
            raise NotReady(f"a forward pass failed ({type(error).__name__})") from error
        self._last_success_s = [time.monotonic()] * len(self._last_success_s)
