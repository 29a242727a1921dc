"""Readiness that tells the truth: a real forward pass must have succeeded recently."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from service.errors import NotReady

MAX_AGE_S = 10.0
PROBE_TIMEOUT_S = 5.0


class Readiness:
    """Remembers the last successful probe, and probes again when it is too old."""

    def __init__(self, probe: Callable[[], Awaitable[object]] | None) -> None:
        self._probe = probe
        self._last_success_s = float("-inf")
        self._lock = asyncio.Lock()

    async def require(self) -> None:
        """Return if the service can answer; raises NotReady with the reason."""
        if self._probe is None:
            raise NotReady("no bundle is loaded: AFFECT_BUNDLES is empty")
        async with self._lock:
            if time.monotonic() - self._last_success_s <= MAX_AGE_S:
                return
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    await self._probe()
            except TimeoutError:
                raise NotReady(f"a forward pass took longer than {PROBE_TIMEOUT_S:g} s") from None
            except Exception as error:
                raise NotReady(f"a forward pass failed ({type(error).__name__})") from error
            self._last_success_s = time.monotonic()
