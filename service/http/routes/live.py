"""GET /live: a WebSocket that answers the frames of a camera."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response, WebSocket

from service.errors import UpgradeRequired
from service.http.dependencies import ContextDep, ModelDep, RequestId
from service.http.live import LiveConnection
from service.http.negotiation import parameters_once
from service.http.openapi import problems
from service.http.queries import LiveQuery
from service.http.websockets import PATH

router = APIRouter(dependencies=[Depends(parameters_once)])


@router.websocket(PATH)
async def live(
    websocket: WebSocket,
    query: Annotated[LiveQuery, Query()],
    context: ContextDep,
    model: ModelDep,
    request_id: RequestId,
) -> None:
    """Pictures in, one JSON object for each that is analysed; see docs/live.md."""
    await LiveConnection(websocket, query, context, model, request_id).serve()


@router.get(PATH, status_code=101, response_class=Response, responses=problems(403, 422, 426, 429, 503))
async def live_handshake(query: Annotated[LiveQuery, Query()]) -> Response:
    """Open a WebSocket: binary messages with a picture each in, one JSON object for each that is analysed out.

    The newest frame wins; `skipped` counts those between two answers. A request without the upgrade gets 426.
    """
    raise UpgradeRequired
