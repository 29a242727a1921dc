"""The answer to an upload: received, analysed and sent under a time limit, for as long as the client waits."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from itertools import chain

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.analysis.pipeline import Pipeline
from service.analysis.results import AnalysisOptions
from service.errors import DeadlineExceeded, Draining, InternalError
from service.http.negotiation import TimeLimits
from service.http.problems import classified
from service.http.uploads import Upload, receive
from service.media.sources import Source
from service.output.sink import Ending, Sink, made_in_threads, milliseconds
from service.scheduling.admission import Ticket
from service.telemetry import StageClock, Telemetry

FAREWELL_S = 5.0
"""Seconds that a client gets to take the last piece of an answer whose time has run out."""

logger = logging.getLogger(__name__)


class AnalysisResponse(Response):
    """Receives an upload, analyses it, and sends each piece of the answer as soon as its sink gives it.

    The time limit, a client that leaves and errors are dealt with here, so every sink has them. What goes wrong before
    the first piece is raised, and becomes a problem document; what goes wrong after it is the sink's last piece.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        telemetry: Telemetry,
        upload: Upload,
        options: AnalysisOptions,
        sink: Sink,
        limits: TimeLimits,
    ) -> None:
        """`limits`: the seconds that all of it may take, and those for which it may wait."""
        self.status_code = 200
        self.media_type = sink.media_type
        self.background = None
        self.init_headers()
        self._pipeline = pipeline
        self._telemetry = telemetry
        self._upload = upload
        self._options = options
        self._sink = sink
        self._limit = limits.answer
        self._wait = limits.wait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        request = Request(scope, receive)
        body = _Body(send, self.headers)
        try:
            await self._in_time(request, body)
        except ClientDisconnect as error:
            if not body.started:
                raise
            classified(request, error)  # for the metrics; nobody reads an end
        except Exception as error:
            if not body.started:
                raise
            await self._farewell(request, body, error)

    async def _in_time(self, request: Request, body: "_Body") -> None:
        """Answer before the limit; what a shutdown cuts off fails as Draining."""
        try:
            async with asyncio.timeout(self._limit["value"]) as scope:
                await self._answer(request, body)
                await body.close()
        except TimeoutError:
            if not scope.expired():
                raise  # somebody else's
            detail = f"the answer was not complete within {self._limit['value']:g} s"
            raise DeadlineExceeded(detail, limit=self._limit) from None
        except asyncio.CancelledError:
            # The server cancels what has outlasted the time to drain; a client that leaves is a ClientDisconnect.
            raise Draining("the service is shutting down") from None

    async def _answer(self, request: Request, body: "_Body") -> None:
        # Who would wait too long is turned away before the upload is read.
        with self._pipeline.admitted(self._upload.lane, self._wait) as ticket, self._upload.files() as files:
            received = await receive(request, files, self._upload)
            async with while_client_waits(request):
                clock = StageClock(self._telemetry, request.state.route)
                options = self._options
                if "baseline" in received:
                    picture = self._upload.source(files["baseline"])
                    options = replace(options, baseline=await self._pipeline.at_rest(picture, options, ticket, clock))
                await self._analyze(self._upload.source(files["file"]), options, ticket, clock, body)

    async def _analyze(
        self, source: Source, options: AnalysisOptions, ticket: Ticket, clock: StageClock, body: "_Body"
    ) -> None:
        begun = False
        async with aclosing(self._pipeline.stream(source, options, ticket, clock)) as results:
            async for result in results:
                with clock.stage("render"):
                    piece = self._sink.add(result) if begun else self._sink.begin(source.info) + self._sink.add(result)
                begun = True
                if piece and not body.started:
                    body.announce(clock.timings())
                await body.write(piece)
        start = [] if begun else [self._sink.begin(source.info)]
        timings_s = clock.timings()
        body.announce(timings_s)
        await body.write_rest(chain(start, self._sink.end(Ending(source.truncated, timings_s))))

    async def _farewell(self, request: Request, body: "_Body", error: Exception) -> None:
        """Tell an error in an answer that has begun, if its end has not, and its media type has words for that.

        Otherwise the server breaks the connection, for the answer has no end.
        """
        found = classified(request, error)
        request_id = request.state.request_id
        logger.warning("answer %s was cut off: %s", request_id, found.code)
        if isinstance(found, InternalError):
            logger.error("request %s failed", request_id, exc_info=error)
        piece = None if body.ending else self._sink.failure(found.document(request_id))
        if piece is not None:
            # A client that has stopped reading is not waited for.
            with suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await body.write(piece)
                    await body.close()


class _Body:
    """Sends an answer's pieces; its head goes out with the first of them."""

    def __init__(self, send: Send, headers: MutableHeaders) -> None:
        self._send = send
        self._headers = headers
        self.started = False
        self.ending = False
        """Whether the last pieces are being sent, after which no error can be told."""

    def announce(self, timings_s: Mapping[str, float]) -> None:
        """Put the seconds of the stages so far into the head, where browsers and proxies look for them."""
        stages = milliseconds(timings_s).items()
        self._headers["Server-Timing"] = ", ".join(f"{stage};dur={spent_ms}" for stage, spent_ms in stages)

    async def write(self, piece: bytes) -> None:
        """Send a piece, if it is not empty."""
        if not piece:
            return
        if not self.started:
            await self._start()
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def write_rest(self, pieces: Iterable[bytes]) -> None:
        """Send the last pieces; an answer that is one piece altogether tells its length."""
        self.ending = True
        remaining = filter(None, pieces)
        first = next(remaining, b"")
        second = next(remaining, b"")
        if not self.started and not second:
            self._headers["Content-Length"] = str(len(first))
        await self.write(first)
        await self.write(second)
        # Only what follows is long: the first two are a picture's document and nothing, or the beginning of a video's.
        async for piece in made_in_threads(remaining):
            await self.write(piece)

    async def close(self) -> None:
        """End the answer."""
        self.ending = True
        if not self.started:
            await self._start()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": self._headers.raw})


@asynccontextmanager
async def while_client_waits(request: Request) -> AsyncIterator[None]:
    """End the block with ClientDisconnect when the client leaves. The body must have been received before."""
    task = asyncio.current_task()
    gone = False

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
