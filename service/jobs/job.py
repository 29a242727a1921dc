"""A job as its table holds it.

queued ──claim──> running ──finish──> succeeded | failed
  ^                  │
  └─release, death───┘        queued | running ──cancel──> cancelled

succeeded | failed | cancelled ──expire──> expired ──forget──> (no row)
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Its content is gone; only the row tells that there was a job."""


LIVE = (State.QUEUED, State.RUNNING)
"""States of jobs that will still be worked on."""

ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
"""States that last until the job expires."""


@dataclass(frozen=True)
class Job:
    """A row of the table. Times are seconds since 1970 (UTC)."""

    id: str
    """32 hexadecimal digits that nobody can guess."""
    caller: str
    """Digest of the API key that made the job; empty where no key is required."""
    request_id: str
    """Id of the request that made the job."""
    media_type: str
    """Media type of the result."""
    options: str
    """The request's parameters as a JSON object."""
    created_s: float
    fingerprint: str = ""
    """Digest of the upload, the options and the media type; only where there is an idempotency key."""
    idempotency_key: str | None = None
    state: State = State.QUEUED
    attempt: int = 0
    """Number of times that a worker has claimed the job."""
    deaths: int = 0
    """Number of these attempts whose worker died, that is, let its lease run out."""
    worker: str | None = None
    """Name of the worker that holds the lease, while the job is running."""
    lease_s: float | None = None
    """Time at which the lease runs out."""
    heartbeat_s: float | None = None
    """Time of the worker's last sign of life."""
    not_before_s: float = 0.0
    """Time before which a queued job is not claimed."""
    progress: float = 0.0
    """Share that has been analysed, in [0, 1]."""
    truncated: bool | None = None
    """Of a job that has succeeded: whether its file ended early because it is damaged."""
    problem: str | None = None
    """RFC 9457 document of a failed job, as JSON."""
    started_s: float | None = None
    """Time of the first claim."""
    finished_s: float | None = None
    expires_s: float | None = None
    """Time at which an ended job expires."""

    @property
    def document(self) -> dict[str, Any] | None:
        """The RFC 9457 document of a failed job; None of any other."""
        return None if self.problem is None else dict(json.loads(self.problem))
