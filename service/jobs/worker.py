"""Works on jobs in the service's event loop: claims them, writes their results, and gives signs of life."""

import asyncio
from asyncio import to_thread
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import IO, Protocol, TypeAlias, TypeVar

import structlog
from sqlalchemy.exc import SQLAlchemyError

from service.errors import (
    DeadlineExceeded,
    Draining,
    InternalError,
    Limit,
    NotReady,
    OutOfResources,
    Overloaded,
    ServiceError,
    StorageFull,
)
from service.jobs.files import ResultWriter, telling_what_storage_lacks
from service.jobs.job import ENDED, Job, State
from service.jobs.journal import JobJournal
from service.jobs.liveness import alive, worker_name
from service.jobs.store import JobStore

BEAT_S = 1.0
"""Seconds between two signs of life, a small part of a lease; a job's progress is as old as this at most."""

LOOK_S = 2.0
"""Seconds between two looks for jobs that another process has accepted, or another's death has left."""

HOUSE_S = 10.0
"""Seconds between two removals of what has expired, and two counts of jobs."""

PAUSE_S = 5.0
"""Seconds before a statement is tried again that the table did not take."""

RETRY_S = 60.0
"""Seconds after which a job is tried again that failed for want of room or of the network, not by its own fault."""

FAULT = "the service failed; its log has the cause under this job's id"
"""What the client is told where the service itself failed."""

TRANSIENT = (NotReady, Draining, OutOfResources, Overloaded, StorageFull)
"""Errors that a job may not have at another time."""

Attempt: TypeAlias = tuple[str, int]
"""The id of a job, and the number of an attempt at it: a worker may begin another before it sees that one is lost."""

R = TypeVar("R")

logger = structlog.get_logger("service.jobs")


@dataclass
class Report:
    """Progress of an attempt at a job, and what it has found out about the file."""

    share: float = 0.0
    """Share of the work that is done, in [0, 1]."""
    truncated: bool = False
    """True once the file has turned out to end early because it is damaged."""

    def progress(self, share: float) -> None:
        """Note a share that is done; it never falls."""
        self.share = max(self.share, min(1.0, share))


class Analysis(Protocol):
    """Computes the results of jobs."""

    def pieces(self, job: Job, upload: IO[bytes], journal: JobJournal, report: Report) -> AsyncGenerator[bytes, None]:
        """Give a result in pieces, and report on it; closing the generator ends the work.

        The journal has what earlier attempts have left. Raises ServiceErrors; those of TRANSIENT have the job tried
        again later.
        """
        ...


class JobObserver(Protocol):
    """Told about jobs, on the event loop."""

    def jobs_counted(self, counts: Mapping[str, int]) -> None:
        """There are so many jobs in each state."""
        ...

    def jobs_waited(self, seconds: float) -> None:
        """The oldest job that waits has done so for so long; 0 where none waits."""
        ...

    def job_ended(self, state: State, seconds: float) -> None:
        """This process has ended a job, so many seconds after its claim."""
        ...


class JobWorker:
    """Runs up to `most` jobs at the same time. Belongs to one event loop.

    >>> async with JobWorker(store, analysis, observer, limit):
    ...     await serve()
    """

    def __init__(
        self,
        store: JobStore,
        analysis: Analysis,
        observer: JobObserver,
        time_limit: Limit,
        most: int = 1,
        may_claim: Callable[[], bool] = lambda: True,
    ) -> None:
        """`time_limit`: the seconds that one attempt may take. `may_claim` returns False while no job may begin."""
        self._store = store
        self._analysis = analysis
        self._observer = observer
        self._time_limit = time_limit
        self._most = most
        self._may_claim = may_claim
        self.name = worker_name()
        self._working: dict[Attempt, asyncio.Task[None]] = {}
        self._lost: set[Attempt] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._waiting = asyncio.Event()
        self._alive = ExitStack()

    async def __aenter__(self) -> "JobWorker":
        try:
            self._alive.enter_context(alive(self._store.folder, self.name))
        except OSError as error:
            logger.warning("others will see the death of this worker late", error=error.strerror)
        loops = [*(self._serve() for _ in range(self._most)), self._keep_house()]
        self._loops = [asyncio.create_task(each) for each in loops]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop; running jobs go back into the queue, where another start, or another worker, takes them up."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._alive.close()

    def wake(self) -> None:
        """Tell that a job has been accepted."""
        self._waiting.set()

    def stop(self, job_id: str) -> None:
        """End the work on a job that is no longer this worker's, if it is running here."""
        for attempt in [each for each in self._working if each[0] == job_id]:
            self._stop(attempt)

    def _stop(self, attempt: Attempt) -> None:
        if attempt in self._working:
            self._lost.add(attempt)
            self._working[attempt].cancel()

    async def work_once(self) -> bool:
        """Claim a job and work on it to the end of this attempt; False where none waits."""
        job = await self._claimed()
        if job is None:
            return False
        logger.info("job started", job=job.id, attempt=job.attempt, deaths=job.deaths)
        report = Report()
        work = self._working[_attempt(job)] = asyncio.create_task(self._write_result(job, report))
        beat = asyncio.create_task(self._beat(job, report))
        try:
            await self._settled(job, work, report)
        finally:
            beat.cancel()
            del self._working[_attempt(job)]
            self._lost.discard(_attempt(job))
        return True

    async def keep_house(self) -> None:
        """Give up jobs whose worker died too often, remove what has expired, and count what there is."""
        for job in await to_thread(self._store.sweep):
            logger.error("job given up: its worker died each time", job=job.id, attempts=job.attempt)
            self._observer.job_ended(State.FAILED, 0.0)
        self._observer.jobs_counted(await to_thread(self._store.table.counts))
        self._observer.jobs_waited(await to_thread(self._store.oldest_wait_s))

    async def _claimed(self) -> Job | None:
        """Claim a job; None where none waits. One that is claimed while the service stops is put back."""
        claiming = asyncio.ensure_future(to_thread(self._store.claim, self.name))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            await asyncio.wait([claiming])
            if claiming.exception() is None and (job := claiming.result()) is not None:
                await self._put_back(job)
            raise

    async def _put_back(self, job: Job) -> None:
        """Release a job since the service stops; where the table cannot be written, its lease runs out instead."""
        try:
            await to_thread(self._store.release, job)
        except (SQLAlchemyError, OSError) as error:
            logger.error("a job cannot be released", job=job.id, error=type(error).__name__)
        else:
            logger.info("job released, since the service stops", job=job.id)

    async def _settled(self, job: Job, work: "asyncio.Task[None]", report: Report) -> None:
        """Wait for the end of the work, and put down what has become of the job."""
        started_s = asyncio.get_running_loop().time()
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await self._put_back(job)
            raise
        state = await self._end(job, work, report)
        seconds = asyncio.get_running_loop().time() - started_s
        logger.info("job attempt ended", job=job.id, attempt=job.attempt, state=state, seconds=round(seconds, 3))
        if state in ENDED:
            self._observer.job_ended(state, seconds)
            self._observer.jobs_counted(await to_thread(self._store.table.counts))

    async def _end(self, job: Job, work: "asyncio.Task[None]", report: Report) -> State | None:
        """Write the new state of a job into the table, and return it; None where it is no longer this worker's."""
        if work.cancelled():
            if _attempt(job) not in self._lost:  # something that it waited for was
                await self._written(partial(self._store.release, job, RETRY_S))
            return None
        cause = work.exception()
        if cause is None:
            ended = await self._written(partial(self._store.succeed, job, truncated=report.truncated))
            return State.SUCCEEDED if ended else None
        error = cause if isinstance(cause, ServiceError) else InternalError(FAULT)
        again = isinstance(error, TRANSIENT) and not self._store.too_old(job)
        store = self._store
        if not await self._written(partial(store.release, job, RETRY_S) if again else partial(store.fail, job, error)):
            return None  # whoever cancelled it has removed the files that it worked with
        if error is not cause:
            logger.error("the service failed on a job", job=job.id, exc_info=cause)
        logger.warning("job failed", job=job.id, attempt=job.attempt, code=error.code)
        return State.QUEUED if again else State.FAILED

    async def _written(self, statement: Callable[[], bool]) -> bool:
        """Run a statement that must not be lost, again and again where the table cannot be written."""
        while True:
            writing = asyncio.ensure_future(to_thread(statement))
            try:
                return await asyncio.shield(writing)
            except (SQLAlchemyError, OSError) as error:
                logger.error("the table of jobs cannot be written", error=type(error).__name__)
            except asyncio.CancelledError:  # the service stops, after this statement
                await asyncio.gather(writing, return_exceptions=True)
                raise
            await asyncio.sleep(PAUSE_S)

    async def _write_result(self, job: Job, report: Report) -> None:
        """Compute a result and publish it. Raises ServiceErrors and whatever else goes wrong."""
        try:
            async with asyncio.timeout(self._time_limit["value"]) as scope:
                with telling_what_storage_lacks():
                    await self._publish(job, report)
        except TimeoutError:
            if not scope.expired():
                raise  # somebody else's
            detail = f"the job was not complete within {self._time_limit['value']:g} s"
            raise DeadlineExceeded(detail, limit=self._time_limit) from None

    async def _publish(self, job: Job, report: Report) -> None:
        files = self._store.files
        earlier = await to_thread(files.earlier_journals, job)
        # Not in a thread: a cancellation while it is opened would leave the file open.
        with files.upload(job.id).open("rb") as upload, files.journal(job, earlier) as journal:
            async with ResultWriter(files.result(job)) as result:
                async with aclosing(self._analysis.pieces(job, upload, journal, report)) as pieces:
                    async for piece in pieces:
                        await result.write(piece)
                await result.publish()

    async def _beat(self, job: Job, report: Report) -> None:
        """Give signs of life, and end the work once the job is no longer this worker's."""
        held = True
        while held:
            await asyncio.sleep(BEAT_S)
            try:
                held = await to_thread(self._store.beat, job, report.share)
            except SQLAlchemyError as error:
                logger.warning("no sign of life can be given", job=job.id, error=type(error).__name__)
        self._stop(_attempt(job))

    async def _serve(self) -> None:
        while True:
            if not await self._careful(self._work_if_allowed):
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._waiting.wait()
                self._waiting.clear()

    async def _work_if_allowed(self) -> bool:
        return self._may_claim() and await self.work_once()

    async def _keep_house(self) -> None:
        while True:
            await self._careful(self.keep_house)
            await asyncio.sleep(HOUSE_S)

    async def _careful(self, step: Callable[[], Awaitable[R]]) -> R | None:
        """Make one step of a loop that must go on whatever happens."""
        try:
            return await step()
        except Exception as error:
            logger.error("the worker of jobs failed", exc_info=error)
            return None


def _attempt(job: Job) -> Attempt:
    return job.id, job.attempt
