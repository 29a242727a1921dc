"""The messages to a live connection: one JSON object a message."""

from collections.abc import Mapping
from typing import Any

from service.analysis.results import FrameResult
from service.errors import Overloaded, ServiceError
from service.output.document import encoded, frame_values
from service.output.schemas import ModelInfo


class LiveMessages:
    """The messages of one connection, as JSON texts."""

    def __init__(self, model: ModelInfo, request_id: str, limits: Mapping[str, float]) -> None:
        """`limits`: those in force, by the variable that sets them."""
        self._model = model
        self._request_id = request_id
        self._limits = limits

    def ready(self) -> str:
        """Return the first message, after which frames may be sent."""
        model = self._model.model_dump(exclude_none=True)
        return _message("ready", {"request_id": self._request_id, "model": model, "limits": self._limits})

    def frame(self, result: FrameResult, skipped: int) -> str:
        """Return the answer to a frame; `skipped` counts the frames between it and the one answered before it."""
        return _message("frame", {"skipped": skipped} | frame_values(result))

    def error(self, error: ServiceError, frame: int, skipped: int) -> str:
        """Return the answer to a frame that could not be analysed. The problem's own `type` gives way."""
        problem = {name: value for name, value in error.document(self._request_id).items() if name != "type"}
        return _message("error", {"frame": frame, "skipped": skipped} | problem)

    def overloaded(self, error: Overloaded, frame: int, pause_s: float) -> str:
        """Return the notice that a frame is skipped for overload, as are those of the next `pause_s` seconds."""
        return _message(
            "overloaded", {"frame": frame, "pause_s": pause_s, "detail": error.detail, "limit": error.limit}
        )


def _message(kind: str, values: Mapping[str, Any]) -> str:
    return encoded({"type": kind} | dict(values)).decode()
