"""The HTTP server: what happens from SIGTERM to the end, in an order that loses no request."""

import asyncio
import signal
import socket
from collections.abc import Callable

import uvicorn

FAREWELL_S = 5.0
"""Seconds in which requests that are cut off are told so."""

_LOOK_S = 0.1
"""Seconds between two looks whether somebody is in a hurry."""


class DrainingServer(uvicorn.Server):
    """Stops in steps: readiness falls, the port closes, running requests finish or are told that they cannot.

    A balancer needs the time between the first two to notice; meanwhile requests are answered as ever.
    """

    def __init__(self, config: uvicorn.Config, on_drain: Callable[[], None], grace_s: float, drain_s: float) -> None:
        """`on_drain`: makes readiness fall. `grace_s` of `drain_s` seconds pass before the port closes."""
        super().__init__(config)
        self._on_drain = on_drain
        self._grace_s = min(grace_s, drain_s)
        self._drain_s = drain_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See the class; a person who stops it from a terminal is not made to wait for a balancer."""
        self._on_drain()
        loop = asyncio.get_running_loop()
        end_s = loop.time() + self._drain_s
        cutting_off = asyncio.create_task(self._cut_off())
        try:
            await self._wait_for_balancers()
            left_s = end_s - loop.time() + FAREWELL_S
            self.config.timeout_graceful_shutdown = left_s  # type: ignore[assignment]  # it waits for a float too
            await super().shutdown(sockets)
        finally:
            cutting_off.cancel()

    async def _wait_for_balancers(self) -> None:
        end_s = asyncio.get_running_loop().time() + self._grace_s
        while asyncio.get_running_loop().time() < end_s and signal.SIGINT not in self._captured_signals:
            await asyncio.sleep(_LOOK_S)

    async def _cut_off(self) -> None:
        """Cancel what still runs at the end; a cancelled request is answered with 503 (see problems.py)."""
        await asyncio.sleep(self._drain_s)
        for task in self.server_state.tasks:
            task.cancel()
