"""Clients that attack: uploads one after another, bytes on sockets, and connections that are held open."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Final

import httpx2

from benchmarks.attacks.answers import Answer, Part, fault_of, judged
from benchmarks.attacks.framing import BOUNDARY, request
from benchmarks.attacks.seeds import FRAME_ROUTE, VIDEO_ROUTE, Media

RETRIES: Final = 20
"""Times that a request is sent again where it is told to come back."""

PATIENCE_S: Final = 2.0
"""Seconds in which a broken request gets an answer, before its client ends its side of the connection."""

HANG_S: Final = 15.0
"""Seconds beyond which a connection whose client has ended its side must not be open."""

_CODE: Final = re.compile(rb'"code":"(\w+)"')

Address = tuple[str, int]


class Uploads:
    """Sends files to a service, and counts its answers."""

    def __init__(self, http: httpx2.AsyncClient, part: Part, keep: Path | None = None) -> None:
        """keep: a folder for files whose answers are faults."""
        self._http = http
        self._part = part
        self._keep = keep

    async def send(self, media: Media, rng: Random | None = None, retries: int = RETRIES) -> Answer:
        """Send a file and count the answer. With a generator, the route, the form and the parameters vary."""
        for attempt in range(retries + 1):
            response = await self._post(media, rng)
            if isinstance(response, Answer):
                answer = response
                break
            answer = judged(response.status_code, response.headers.get("content-type", ""), response.content)
            if answer.status != 429 or attempt == retries:
                break
            self._part.retried += 1
            await asyncio.sleep(float(response.headers.get("retry-after", 1)))
        self._part.count(answer, media.name)
        if answer.fault and self._keep is not None:
            self._keep.mkdir(parents=True, exist_ok=True)
            (self._keep / re.sub(r"[^\w.-]+", "-", media.name)).write_bytes(media.content)
        return answer

    async def _post(self, media: Media, rng: Random | None) -> httpx2.Response | Answer:
        try:
            return await self._http.send(self._request(media, rng))
        except httpx2.TransportError as error:
            return Answer(None, f"no answer ({type(error).__name__})", "it got no answer")

    def _request(self, media: Media, rng: Random | None) -> httpx2.Request:
        if rng is None:
            return self._http.build_request("POST", media.route, files={"file": media.content})
        route = media.route
        if rng.random() < 0.1:
            route = FRAME_ROUTE if route == VIDEO_ROUTE else VIDEO_ROUTE
        if rng.random() < 0.2:
            kind = "image/jpeg" if route == FRAME_ROUTE else "video/mp4"
            return self._http.build_request("POST", route, content=media.content, headers={"Content-Type": kind})
        files = {"file": media.content}
        if route == FRAME_ROUTE:
            baseline = {"baseline": media.content} if rng.random() < 0.1 else {}
            return self._http.build_request("POST", route, files=files | baseline)
        query = rng.choice(("", "?fps=30", "?start_s=0.3", "?fps=5&end_s=0.5", "?smoothing=offline", "?baseline=auto"))
        accept = {"Accept": "application/x-ndjson"} if rng.random() < 0.2 and "auto" not in query else {}
        return self._http.build_request("POST", route + query, files=files, headers=accept)


async def in_turns(count: int, clients: int, send: Callable[[int], object]) -> None:
    """Call a coroutine function for each number below `count`, so many at a time."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await send(number)  # type: ignore[misc]

    await asyncio.gather(*(work() for _ in range(clients)))


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection for the length of the block."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def exchange(address: Address, content: bytes) -> list[Answer]:
    """Send bytes on a connection of their own; return the answers until it is closed, at most HANG_S later."""
    received, hangs = await exchanged(address, content)
    answers = [framed(part) for part in received.split(b"HTTP/1.1 ")[1:]]
    if hangs:
        return [*answers, Answer(None, "held open", f"the connection is open {HANG_S:g} s after its client's end")]
    return answers or [Answer(None, "closed")]


async def exchanged(address: Address, content: bytes, further: bytes = b"") -> tuple[bytes, bool]:
    """Send bytes on a connection of their own, and further ones once the headers of an answer are there.

    Returns what came back, and True if the connection was still open HANG_S after its client's end.
    """
    received = bytearray()
    async with connected(address) as (reader, writer):
        answered = asyncio.Event()

        async def read() -> None:
            while part := await reader.read(65536):
                received.extend(part)
                if b"\r\n\r\n" in received:
                    answered.set()

        async def write() -> None:
            with suppress(ConnectionError):
                writer.write(content)
                await writer.drain()
                if further:
                    await answered.wait()
                    writer.write(further)
                    await writer.drain()

        reading = asyncio.create_task(read())
        writing = asyncio.create_task(write())
        await asyncio.wait({reading}, timeout=PATIENCE_S)
        with suppress(OSError, RuntimeError):  # it is closed already
            writer.write_eof()
        await asyncio.wait({reading}, timeout=HANG_S)
        hangs = not reading.done()
        for task in (reading, writing):
            task.cancel()
        with suppress(ConnectionError, asyncio.CancelledError):
            await reading
    return bytes(received), hangs


def framed(answer: bytes) -> Answer:
    """Return what an answer is, from its status on."""
    status = int(answer[:3])
    found = _CODE.search(answer)
    code = found[1].decode() if found else ""
    return Answer(status, f"{status} {code}".strip(), fault_of(status, code))


async def leave_early(address: Address, content: bytes, rng: Random) -> None:
    """Send a part of a request and break the connection."""
    async with connected(address) as (_, writer):
        writer.write(content[: rng.randrange(len(content))])
        await asyncio.sleep(rng.random() / 50)


async def hold(address: Address, way: str, content: bytes, hold_s: float) -> str:
    """Hold a connection open in one of SLOW_WAYS; return `closed` if the service ends it meanwhile, else `open`."""
    beginning, drips = _slow(way, content)
    async with connected(address) as (reader, writer):
        end_s = time.monotonic() + hold_s
        with suppress(ConnectionError):
            writer.write(beginning)
            while time.monotonic() < end_s and not writer.transport.is_closing():
                await asyncio.sleep(min(1.0, hold_s / 4))
                if drips:
                    writer.write(b"x")
        # What is not read is not seen to end: only those who read can tell that the service has closed.
        ended = writer.transport.is_closing() or reader.at_eof()
    return "closed" if ended else "open"


SLOW_WAYS: Final = ("silent", "slow head", "slow body", "half a body", "reads nothing")


def _slow(way: str, content: bytes) -> tuple[bytes, bool]:
    """Return what a slow client sends at first, and whether it goes on a byte at a time."""
    head, _, body = request(content, boundary=BOUNDARY).partition(b"\r\n\r\n")
    match way:
        case "silent":
            return b"", False
        case "slow head":
            return head + b"\r\nX: ", True
        case "slow body":
            return head + b"\r\n\r\n" + body[:100], True
        case "half a body":
            return head + b"\r\n\r\n" + body[: len(body) // 2], False
    return 2000 * b"GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n", False
