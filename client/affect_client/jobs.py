"""Jobs: videos that the service analyses after their upload, while no client waits."""

import math
import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from affect_client.connection import Connection, Request, body, understanding
from affect_client.errors import AffectError, problem_error
from affect_client.files import write_whole
from affect_client.numbers import WAIT_S
from affect_client.results import JobStatus


class Job:
    """A job of the service; `id` is enough to find it again.

    job = affect.job("clip.mp4", "text/csv", fps=5)
    job.wait()
    job.save("clip.csv")
    job.delete()

    Every method raises AffectError: `not_found` for a job that there is not, `job_expired` for one whose time is over.
    """

    def __init__(self, connection: Connection, job_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds, for the timeout of `wait`."""
        self.id = job_id
        self._connection = connection
        self._clock = clock

    def status(self) -> JobStatus:
        """Return the job's state now."""
        document = self._connection.document(Request("GET", f"/jobs/{self.id}"))
        with understanding():
            return JobStatus.of(document)

    @property
    def state(self) -> str:
        """`queued`, `running`, `succeeded`, `failed` or `cancelled`."""
        return self.status().state

    @property
    def progress(self) -> float:
        """Share of the video that has been analysed, 0 to 1."""
        return self.status().progress

    def wait(
        self,
        timeout_s: float = math.inf,
        *,
        poll_s: float = 1.0,
        progress: Callable[[float], None] = lambda share: None,
    ) -> JobStatus:
        """Return the job's state when it has succeeded or was cancelled; ask every `poll_s` seconds.

        `progress` is told the share that has been analysed. Raises the job's own problem where it failed, and `timeout`
        after `timeout_s` seconds, while the job goes on. Raises ValueError for times out of range.
        """
        if timeout_s != math.inf:
            WAIT_S.check("timeout_s", timeout_s)
        WAIT_S.check("poll_s", poll_s)
        latest_s = self._clock() + timeout_s
        while True:
            status = self.status()
            progress(status.progress)
            if status.ended:
                break
            if self._clock() + poll_s > latest_s:
                raise AffectError(f"the job is {status.state} after {timeout_s:g} s", "timeout")
            self._connection.sleep(poll_s)
        if status.problem is not None:
            with understanding():
                raise problem_error(status.problem)
        return status

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result of a job that has succeeded to a file, which is whole or not there."""
        response = self._connection.send(Request("GET", f"/jobs/{self.id}/result", headers={"Accept": "*/*"}))
        with closing(body(response)) as pieces:
            write_whole(Path(path), pieces)

    def cancel(self) -> None:
        """Stop a job that is queued or running; one that has ended stays as it is."""
        if not self.status().ended:
            self._delete()

    def delete(self) -> None:
        """Remove the job with its upload and its result, whatever its state."""
        self._delete()
        try:
            self._delete()  # the first may have cancelled it only
        except AffectError as error:
            if error.status not in {404, 410}:
                raise

    def _delete(self) -> None:
        self._connection.send(Request("DELETE", f"/jobs/{self.id}")).close()
