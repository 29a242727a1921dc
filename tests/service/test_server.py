"""The end of the server: how long what still runs may take."""

import asyncio

import pytest
import uvicorn

from service.server import FAREWELL_S, DrainingServer


def test_the_wait_for_balancers_is_a_part_of_the_time_to_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    async def shutdown(server: uvicorn.Server, sockets: object = None) -> None:
        told.append(server.config.timeout_graceful_shutdown)

    monkeypatch.setattr(uvicorn.Server, "shutdown", shutdown)
    drained = []
    server = DrainingServer(uvicorn.Config("service.app:app"), lambda: drained.append(True), grace_s=0.2, drain_s=30)
    asyncio.run(server.shutdown())
    assert drained == [True]
    [left_s] = told
    assert FAREWELL_S < left_s <= 30 - 0.2 + FAREWELL_S
