"""What a request may ask of its answer: media type, time, and that somebody is still waiting for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.errors import DeadlineExceeded, InvalidParameter, Limit, NotAcceptable
from service.settings import Settings, variable


@asynccontextmanager
async def negotiated(request: Request, deadline: str, settings: Settings) -> AsyncIterator[None]:
    """Refuse what is not built, before anything is read; then bound the time by the setting `deadline`."""
    accepted = _listed(request, "accept")
    if accepted and not {"*/*", "application/*", "application/json"} & set(accepted):
        raise NotAcceptable("answers are application/json; other types are not available")
    if "respond-async" in _listed(request, "prefer"):
        raise InvalidParameter("Prefer: respond-async is not available")
    limit = _time_limit(request, Limit(name=variable(deadline), value=getattr(settings, deadline)))
    try:
        async with asyncio.timeout(limit["value"]):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"no answer within {limit['value']:g} s", limit=limit) from None


@asynccontextmanager
async def while_client_waits(request: Request) -> AsyncIterator[None]:
    """End the block with ClientDisconnect when the client leaves. The body must have been received before."""
    task, gone = asyncio.current_task(), False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        if task is not None:
            task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        raise ClientDisconnect from None
    finally:
        watcher.cancel()


def _listed(request: Request, header: str) -> list[str]:
    """The elements of a header that may be given several times, without their parameters."""
    parts = ",".join(request.headers.getlist(header)).lower().split(",")
    return [name for part in parts if (name := part.split(";")[0].strip())]


def _time_limit(request: Request, configured: Limit) -> Limit:
    """The client's X-Request-Timeout-Ms where it is shorter than the configured limit, in seconds."""
    asked = request.headers.get("x-request-timeout-ms")
    if asked is None:
        return configured
    if not asked.isdecimal() or not int(asked[:10]) > 0:
        raise InvalidParameter("X-Request-Timeout-Ms: must be a positive whole number of milliseconds")
    asked_s = int(asked[:10]) / 1000
    return Limit(name="X-Request-Timeout-Ms", value=asked_s) if asked_s < configured["value"] else configured
