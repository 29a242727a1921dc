"""All errors that a client can get, as one tree.

    ServiceError
    ├── MalformedRequest       400
    ├── Unauthorized           401  with WWW-Authenticate
    ├── NotFound               404
    ├── MethodNotAllowed       405
    ├── NotAcceptable          406
    ├── UploadTooLarge         413  names its limit
    ├── TooManyPixels          413  names its limit
    ├── VideoTooLong           413  names its limit
    ├── UnsupportedMediaType   415
    ├── UndecodableMedia       422
    ├── NoVideoFrames          422
    ├── InvalidParameter       422
    ├── Overloaded             429  with Retry-After
    ├── InternalError          500
    ├── NotReady               503
    ├── Draining               503
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

    def __init__(self, detail: str, *, limit: Limit | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.limit = limit
        self.headers = dict(headers or {})


class MalformedRequest(ServiceError):
    """The body is not what the route expects: broken multipart, no field `file`, more than one file."""

    status, code, title = 400, "malformed_request", "Malformed request"


class Unauthorized(ServiceError):
    """The request has no API key, or an unknown one."""

    status, code, title = 401, "unauthorized", "Unauthorized"

    def __init__(
        self, detail: str = "send one of the service's API keys as Authorization: Bearer or as X-API-Key"
    ) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class NotFound(ServiceError):
    """There is no route at this path."""

    status, code, title = 404, "not_found", "Not found"


class MethodNotAllowed(ServiceError):
    """The path exists, but not for this method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class NotAcceptable(ServiceError):
    """The client accepts none of the media types that are offered."""

    status, code, title = 406, "not_acceptable", "Not acceptable"


class UploadTooLarge(ServiceError):
    """The body has more bytes than the limit."""

    status, code, title = 413, "upload_too_large", "Upload too large"


class TooManyPixels(ServiceError):
    """A frame has more pixels than the limit."""

    status, code, title = 413, "too_many_pixels", "Too many pixels"


class VideoTooLong(ServiceError):
    """The requested part of a video has more seconds, or more frames to analyse, than the limit."""

    status, code, title = 413, "video_too_long", "Video too long"


class UnsupportedMediaType(ServiceError):
    """The content, whatever the file is called, has no format that the route reads."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class UndecodableMedia(ServiceError):
    """The format is supported, but the file is damaged or incomplete."""

    status, code, title = 422, "undecodable_media", "Undecodable media"


class NoVideoFrames(ServiceError):
    """The container is readable but has no pictures."""

    status, code, title = 422, "no_video_frames", "No video frames"


class InvalidParameter(ServiceError):
    """A parameter is missing, unknown or out of range; the detail begins with its name."""

    status, code, title = 422, "invalid_parameter", "Invalid parameter"


class Overloaded(ServiceError):
    """The request would wait too long in the queue. `retry_after_s` is rounded up to whole seconds, at least one."""

    status, code, title = 429, "overloaded", "Overloaded"

    def __init__(self, detail: str, *, retry_after_s: float, limit: Limit | None = None) -> None:
        super().__init__(detail, limit=limit, headers={"Retry-After": str(max(1, math.ceil(retry_after_s)))})


class InternalError(ServiceError):
    """The service has a fault; its cause is in the log, not in the detail."""

    status, code, title = 500, "internal_error", "Internal error"

    def __init__(self, detail: str = "the service failed; its log has the cause under this request id") -> None:
        super().__init__(detail)


class NotReady(ServiceError):
    """The service cannot analyse anything now."""

    status, code, title = 503, "not_ready", "Not ready"


class Draining(ServiceError):
    """The service is shutting down and accepts no new work."""

    status, code, title = 503, "draining", "Draining"


class DeadlineExceeded(ServiceError):
    """The request's time limit passed before its answer was complete."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"


class StorageFull(ServiceError):
    """There is no disk space for an upload."""

    status, code, title = 507, "storage_full", "Storage full"
