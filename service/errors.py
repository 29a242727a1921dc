"""All errors that a client can get, as one tree.

    ServiceError
    ├── MalformedRequest       400
    ├── Unauthorized           401  with WWW-Authenticate
    ├── OriginNotAllowed       403
    ├── NotFound               404
    ├── MethodNotAllowed       405
    ├── NotAcceptable          406
    ├── IdempotencyConflict    409
    ├── JobExpired             410
    ├── UploadTooLarge         413  names its limit
    ├── TooManyPixels          413  names its limit
    ├── VideoTooLong           413  names its limit
    ├── UnsupportedMediaType   415
    ├── RangeNotSatisfiable    416  with Content-Range
    ├── UndecodableMedia       422
    ├── NoVideoFrames          422
    ├── InvalidParameter       422
    ├── InvalidBaseline        422
    ├── UpgradeRequired        426  with Upgrade
    ├── Overloaded             429  with Retry-After
    ├── ClientGone             499  which nobody reads
    ├── InternalError          500
    ├── NotReady               503
    ├── Draining               503
    ├── OutOfResources         503
    ├── DeadlineExceeded       504
    └── StorageFull            507

Code below the routes raises these; problems.py alone turns them into responses.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, TypedDict


class Limit(TypedDict):
    """A limit that was exceeded: the variable that sets it, and its value in the unit of that name."""

    name: str
    value: float


class ServiceError(Exception):
    """Base of the tree. `status`, `code` and `title` belong to the class; `detail` is a sentence for the client."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]

    def __init_subclass__(cls, *, status: int, code: str, title: str) -> None:
        cls.status = status
        cls.code = code
        cls.title = title

    def __init__(self, detail: str, *, limit: Limit | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.limit = limit
        self.headers = dict(headers or {})

    def document(self, request_id: str) -> dict[str, object]:
        """Return the RFC 9457 document of the error; it has a `limit` only if one was exceeded."""
        document: dict[str, object] = {
            "type": f"urn:affect:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }
        if self.limit is not None:
            document["limit"] = dict(self.limit)
        return document


class MalformedRequest(ServiceError, status=400, code="malformed_request", title="Malformed request"):
    """The body is not what the route expects: broken multipart, no field `file`, more than one file."""


class Unauthorized(ServiceError, status=401, code="unauthorized", title="Unauthorized"):
    """The request has no API key, or an unknown one."""

    def __init__(
        self, detail: str = "send one of the service's API keys as Authorization: Bearer or as X-API-Key"
    ) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class OriginNotAllowed(ServiceError, status=403, code="origin_not_allowed", title="Origin not allowed"):
    """A page of another site would open a WebSocket in the name of whoever looks at it."""


class NotFound(ServiceError, status=404, code="not_found", title="Not found"):
    """There is no route at this path."""


class MethodNotAllowed(ServiceError, status=405, code="method_not_allowed", title="Method not allowed"):
    """The path exists, but not for this method."""


class NotAcceptable(ServiceError, status=406, code="not_acceptable", title="Not acceptable"):
    """The client accepts none of the media types that are offered."""


class IdempotencyConflict(ServiceError, status=409, code="idempotency_conflict", title="Idempotency conflict"):
    """The request's Idempotency-Key belongs to another request."""


class JobExpired(ServiceError, status=410, code="job_expired", title="Job expired"):
    """There was such a job, and its time is over."""


class UploadTooLarge(ServiceError, status=413, code="upload_too_large", title="Upload too large"):
    """The body has more bytes than the limit."""


class TooManyPixels(ServiceError, status=413, code="too_many_pixels", title="Too many pixels"):
    """A frame has more pixels than the limit."""


class VideoTooLong(ServiceError, status=413, code="video_too_long", title="Video too long"):
    """The requested part of a video has more seconds, or more frames to analyse, than the limit."""


class UnsupportedMediaType(ServiceError, status=415, code="unsupported_media_type", title="Unsupported media type"):
    """The content, whatever the file is called, has no format that the route reads."""


class RangeNotSatisfiable(ServiceError, status=416, code="range_not_satisfiable", title="Range not satisfiable"):
    """The file has none of the bytes that are asked for."""

    def __init__(self, detail: str, *, size: int) -> None:
        """`size`: the file's bytes."""
        super().__init__(detail, headers={"Content-Range": f"bytes */{size}"})


class UndecodableMedia(ServiceError, status=422, code="undecodable_media", title="Undecodable media"):
    """The format is supported, but the file is damaged or incomplete."""


class NoVideoFrames(ServiceError, status=422, code="no_video_frames", title="No video frames"):
    """The container is readable but has no pictures."""


class InvalidParameter(ServiceError, status=422, code="invalid_parameter", title="Invalid parameter"):
    """A parameter is missing, unknown or out of range; the detail begins with its name."""


class InvalidBaseline(ServiceError, status=422, code="invalid_baseline", title="Invalid baseline"):
    """The picture of a person at rest shows no face, or several; the detail tells how many were found."""


class UpgradeRequired(ServiceError, status=426, code="upgrade_required", title="Upgrade required"):
    """The route is a WebSocket, and the request is not the beginning of one (RFC 6455, section 4.1)."""

    def __init__(self, detail: str = "this is a WebSocket: send a GET request that asks for the upgrade") -> None:
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        super().__init__(detail, headers=headers)


class Overloaded(ServiceError, status=429, code="overloaded", title="Overloaded"):
    """The request would wait too long in the queue. `retry_after_s` is rounded up to whole seconds, at least one."""

    def __init__(self, detail: str, *, retry_after_s: float, limit: Limit | None = None) -> None:
        super().__init__(detail, limit=limit, headers={"Retry-After": str(max(1, math.ceil(retry_after_s)))})


class ClientGone(ServiceError, status=499, code="client_gone", title="Client gone"):
    """The client left before its answer was complete. Only logs and metrics tell it; 499 is nginx's number for it."""


class InternalError(ServiceError, status=500, code="internal_error", title="Internal error"):
    """The service has a fault; its cause is in the log, not in the detail."""

    def __init__(self, detail: str = "the service failed; its log has the cause under this request id") -> None:
        super().__init__(detail)


class NotReady(ServiceError, status=503, code="not_ready", title="Not ready"):
    """The service cannot analyse anything now."""


class Draining(ServiceError, status=503, code="draining", title="Draining"):
    """The service is shutting down and accepts no new work."""


class OutOfResources(ServiceError, status=503, code="out_of_resources", title="Out of resources"):
    """The service lacks memory, file descriptors or a folder that it can write; the request is not to blame."""


class DeadlineExceeded(ServiceError, status=504, code="deadline_exceeded", title="Deadline exceeded"):
    """The request's time limit passed before its answer was complete."""


class StorageFull(ServiceError, status=507, code="storage_full", title="Storage full"):
    """There is no disk space for an upload, or for a job."""
