"""A live connection between its handshake and its close: who may open it, its key, and its conversation."""

import asyncio
import io
import logging
from contextlib import ExitStack, suppress

from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from service.analysis.results import FramePlace, FrameResult
from service.errors import Draining, OriginNotAllowed, Overloaded, UndecodableMedia
from service.http.dependencies import Context, Model
from service.http.queries import LiveQuery
from service.http.security import ApiKeys
from service.http.websockets import PATH
from service.live.conversation import ClientLeft, Code, Conversation, Ending, LiveLimits, ServerStops
from service.live.frames import Arrival, NewestFrame
from service.output.live import LiveMessages
from service.output.schemas import LiveKey
from service.scheduling.lanes import Lane
from service.telemetry import StageClock

KEY_S = 5.0
"""Seconds in which a client that has sent no key with its handshake must send it as its first message."""

CLOSE_S = 5.0
"""Seconds in which there must be room for the last message."""

KEY_CHARACTERS = 4096
"""Longest text that is looked at for a key."""

UNAUTHORIZED = Ending(Code.UNAUTHORIZED, 'send {"authorization": "Bearer KEY"} first, with one of the service\'s keys')
STOPPING = Ending(Code.SERVICE_RESTART, "the service is shutting down")
FAILED = Ending(Code.INTERNAL_ERROR, "the service failed; its log has the cause")

logger = logging.getLogger(__name__)


class SocketChannel:
    """The messages of a WebSocket that is open; see Channel."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> bytes | str:
        """See Channel."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise ServerStops if message.get("code") == Code.SERVICE_RESTART else ClientLeft
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    async def send(self, text: str) -> None:
        """See Channel."""
        try:
            await self._websocket.send_text(text)
        except WebSocketDisconnect:
            raise ClientLeft from None


class LiveConnection:
    """One WebSocket of a client, from its handshake on."""

    def __init__(self, websocket: WebSocket, query: LiveQuery, context: Context, model: Model, request_id: str) -> None:
        self._websocket = websocket
        self._channel = SocketChannel(websocket)
        self._query = query
        self._context = context
        self._model = model
        self._request_id = request_id

    async def serve(self) -> None:
        """Serve it to its end. What keeps it from being opened is raised, and becomes a problem document.

        Raises OriginNotAllowed, Draining and Overloaded.
        """
        live = self._context.live
        if not live.origins.allow(self._websocket.scope["headers"]):
            raise OriginNotAllowed("pages of this origin may not connect; AFFECT_ALLOWED_ORIGINS names those that may")
        if self._context.readiness.draining:
            raise Draining("the service is shutting down")
        known = live.keys is None or bool(getattr(self._websocket.state, "caller", ""))
        with ExitStack() as place:
            place.enter_context((live.open if known else live.unidentified).taken())
            with suppress(ClientLeft):
                await self._accept()
                await self._close(await self._ending(None if known else live.keys, place))

    async def _accept(self) -> None:
        """Complete the handshake. Raises ClientLeft where the client is gone."""
        try:
            await self._websocket.accept()
        except OSError:
            raise ClientLeft from None

    async def _ending(self, keys: ApiKeys | None, place: ExitStack) -> Ending:
        """Talk to the client, after its key has come where one is missing, and return how the connection is closed."""
        try:
            if keys is not None:
                if not await self._brings_a_key(keys):
                    return UNAUTHORIZED
                place.close()
                place.enter_context(self._context.live.open.taken())
            return await self._conversation().run()
        except Overloaded as error:
            return Ending(Code.TRY_AGAIN_LATER, error.detail)
        except (ServerStops, asyncio.CancelledError):  # the server cancels what has outlasted the time to drain
            return STOPPING
        except ClientLeft:
            raise
        except Exception as error:
            logger.error("live connection %s failed", self._request_id, exc_info=error)
            return FAILED

    async def _brings_a_key(self, keys: ApiKeys) -> bool:
        try:
            async with asyncio.timeout(KEY_S):
                message = await self._channel.receive()
        except TimeoutError:
            return False
        key = _offered_key(message)
        return key is not None and keys.caller([(b"authorization", key.encode())]) is not None

    def _conversation(self) -> Conversation:
        settings = self._context.settings
        telemetry = self._context.telemetry
        pipeline = self._model.pipeline
        clock = StageClock(telemetry, PATH)
        session = pipeline.session(self._query.options(), clock)

        async def analyse(arrival: Arrival) -> FrameResult:
            if not arrival.picture:
                raise UndecodableMedia("the frame is empty")
            picture = self._context.decoders.picture(io.BytesIO(arrival.picture), self._context.limits)
            with pipeline.admitted(Lane.LIVE) as ticket:
                place = FramePlace(arrival.time_s, arrival.frame)
                return await pipeline.next_result(session, picture, place, ticket, clock)

        limits = {name: value for name, value in settings.limits().items() if "_LIVE_" in name or "_PIXELS" in name}
        model = self._model.info if self._query.temporal == "auto" else self._model.framewise
        return Conversation(
            self._channel,
            NewestFrame(settings.live_fps, telemetry.live_frame_skipped),
            analyse,
            LiveMessages(model, self._request_id, limits),
            LiveLimits(settings.limit("live_idle_s"), settings.limit("live_max_s"), settings.limit("deadline_s")),
            telemetry,
            lambda text: _offered_key(text) is not None,
        )

    async def _close(self, ending: Ending) -> None:
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            return
        # A client that reads nothing does not read this either; the server breaks its connection.
        with suppress(WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._websocket.close(ending.code, ending.reason)


def _offered_key(message: bytes | str) -> str | None:
    """Return the value of `authorization` in a client's first message; None where it has none."""
    if not isinstance(message, str) or len(message) > KEY_CHARACTERS:
        return None
    try:
        return LiveKey.model_validate_json(message).authorization
    except ValidationError:
        return None
