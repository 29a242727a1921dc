"""The SQL table that is the truth about jobs: each change of a state is one atomic statement.

The statements are the same on SQLite and PostgreSQL. A worker's statements are fenced by its name and attempt: one
whose lease ran out, and whose job another has taken up, changes nothing. Times come from the caller, so several
machines must agree on theirs to within a small part of a lease.
"""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import (
    URL,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    case,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Engine, Row, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.schema import CreateIndex, CreateTable

from service.jobs.job import ENDED, LIVE, Job, State

MAX_DEATHS = 3
"""Deaths of its worker after which a job is failed instead of claimed again."""

BUSY_S = 30.0
"""Longest time in seconds that a statement waits for SQLite's lock."""

IDS_AT_ONCE = 10_000
"""Ids in one statement at most: SQLite takes 32,766 parameters, and PostgreSQL 65,535."""

_metadata = MetaData()
_jobs = Table(
    "affect_jobs",
    _metadata,
    Column("id", String(32), primary_key=True),
    Column("caller", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("media_type", String(64), nullable=False),
    Column("options", Text, nullable=False),
    Column("created_s", Double, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("idempotency_key", String(255)),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    Column("worker", String(64)),
    Column("lease_s", Double),
    Column("heartbeat_s", Double),
    Column("not_before_s", Double, nullable=False),
    Column("progress", Double, nullable=False),
    Column("truncated", Boolean),
    Column("problem", Text),
    Column("started_s", Double),
    Column("finished_s", Double),
    Column("expires_s", Double),
    UniqueConstraint("caller", "idempotency_key"),
    Index("affect_jobs_by_state", "state", "created_s"),
)
_c = _jobs.c


class JobTable:
    """The jobs of all workers that share a database; safe to call from several threads."""

    def __init__(self, url: str | URL, max_deaths: int = MAX_DEATHS) -> None:
        """Connect, and make the table where there is none. Raises SQLAlchemyError.

        url: in SQLAlchemy's form, such as `sqlite:////var/lib/affect/jobs.sqlite3` or `postgresql://user@host/name`.
        max_deaths: deaths of its worker after which a job is failed.
        """
        self._max_deaths = max_deaths
        self._engine = _engine(make_url(url))
        try:
            self._create()
        except DBAPIError:  # another process was just making it
            self._create()

    def close(self) -> None:
        """Close all connections; one that a thread still uses is closed when the thread is done with it."""
        event.listen(self._engine, "checkin", lambda _, entry: entry.close())
        self._engine.dispose()

    def add(self, job: Job) -> Job:
        """Insert a new job, and return it; or return the one that has its caller's idempotency key already."""
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_jobs).values(asdict(job)))
        except IntegrityError:
            known = self._select(_c.caller == job.caller, _c.idempotency_key == job.idempotency_key)
            return known[0] if known else self.add(job)  # it was just removed
        return job

    def find(self, job_id: str, caller: str) -> Job | None:
        """Return a job of a caller; None where there is none, or it is another's."""
        return next(iter(self._select(_c.id == job_id, _c.caller == caller)), None)

    def of_key(self, caller: str, idempotency_key: str) -> Job | None:
        """Return the job of a caller's idempotency key; None where there is none."""
        return next(iter(self._select(_c.caller == caller, _c.idempotency_key == idempotency_key)), None)

    def queued(self) -> int:
        """Return the number of jobs that wait."""
        with self._engine.connect() as connection:
            return int(connection.scalar(select(func.count()).where(_c.state == State.QUEUED)) or 0)

    def running(self) -> list[Job]:
        """Return the jobs that workers have, dead ones among them."""
        return self._select(_c.state == State.RUNNING)

    def oldest_queued_s(self) -> float | None:
        """Return since when the job waits that has waited longest; None where none waits.

        One that was put back waits since its last sign of life, not since it was accepted.
        """
        since_s = case((_c.heartbeat_s > _c.created_s, _c.heartbeat_s), else_=_c.created_s)
        with self._engine.connect() as connection:
            oldest_s: float | None = connection.scalar(select(func.min(since_s)).where(_c.state == State.QUEUED))
            return oldest_s

    def claim(self, worker: str, now_s: float, lease_s: float) -> Job | None:
        """Take up the oldest job that waits, or whose worker died, until `lease_s`; None where there is none."""
        waits = and_(_c.state == State.QUEUED, _c.not_before_s <= now_s)
        orphaned = and_(_abandoned(now_s), _c.deaths < self._max_deaths - 1)
        next_id = (
            select(_c.id)
            .where(or_(waits, orphaned))
            .order_by(_c.created_s, _c.id)
            .limit(1)
            .with_for_update(skip_locked=True)  # which SQLite, where writers take turns, leaves out
        )
        claimed = self._update(
            [_c.id == next_id.scalar_subquery()],
            state=State.RUNNING,
            worker=worker,
            attempt=_c.attempt + 1,
            deaths=_c.deaths + case((_c.state == State.RUNNING, 1), else_=0),
            lease_s=lease_s,
            heartbeat_s=now_s,
            progress=0.0,
            started_s=func.coalesce(_c.started_s, now_s),
        )
        return claimed[0] if claimed else None

    def give_up(self, now_s: float, expires_s: float, problem: str) -> list[Job]:
        """Fail the jobs whose worker has died too often, and return them."""
        return self._update(
            [_abandoned(now_s), _c.deaths >= self._max_deaths - 1],
            deaths=_c.deaths + 1,
            **_ending(State.FAILED, now_s, expires_s),
            problem=problem,
        )

    def beat(self, job: Job, progress: float, now_s: float, lease_s: float) -> bool:
        """Renew the lease of a claimed job, and note its progress; False where the job is no longer this worker's."""
        return bool(self._update(_held(job), lease_s=lease_s, heartbeat_s=now_s, progress=progress))

    def end_lease(self, job: Job, now_s: float) -> bool:
        """End the lease of a worker that has died; False where the job is no longer that worker's."""
        return bool(self._update(_held(job), lease_s=now_s))

    def succeed(self, job: Job, now_s: float, expires_s: float, *, truncated: bool = False) -> bool:
        """End a claimed job whose result is on disk; False where the job is no longer this worker's."""
        ending = _ending(State.SUCCEEDED, now_s, expires_s)
        return bool(self._update(_held(job), **ending, progress=1.0, truncated=truncated, problem=None))

    def fail(self, job: Job, now_s: float, expires_s: float, problem: str) -> bool:
        """End a claimed job with a problem; False where the job is no longer this worker's."""
        return bool(self._update(_held(job), **_ending(State.FAILED, now_s, expires_s), problem=problem))

    def release(self, job: Job, not_before_s: float) -> bool:
        """Put a claimed job back into the queue; that is no death. False where it is no longer this worker's."""
        return bool(
            self._update(
                _held(job), state=State.QUEUED, worker=None, lease_s=None, progress=0.0, not_before_s=not_before_s
            )
        )

    def cancel(self, job_id: str, caller: str, now_s: float, expires_s: float) -> bool:
        """End a job that has not ended; False where there is no such job of the caller."""
        own = [_c.id == job_id, _c.caller == caller, _c.state.in_(LIVE)]
        return bool(self._update(own, **_ending(State.CANCELLED, now_s, expires_s)))

    def delete(self, job_id: str, caller: str) -> bool:
        """Remove the row of a job that has ended; False where there is no such job of the caller."""
        own = delete(_jobs).where(_c.id == job_id, _c.caller == caller, _c.state.in_(ENDED))
        with self._engine.begin() as connection:
            return connection.execute(own).rowcount > 0

    def expire(self, now_s: float) -> list[Job]:
        """Empty the rows of jobs that have expired, and return them; they tell only that there was a job."""
        ended = [_c.state.in_(ENDED), _c.expires_s <= now_s]
        nothing = {"options": "", "problem": None, "fingerprint": "", "idempotency_key": None, "request_id": ""}
        return self._update(ended, state=State.EXPIRED, **nothing)

    def forget(self, before_s: float) -> None:
        """Remove the rows of jobs that had expired before a time."""
        with self._engine.begin() as connection:
            connection.execute(delete(_jobs).where(_c.state == State.EXPIRED, _c.expires_s < before_s))

    def of_ids(self, ids: Sequence[str]) -> list[Job]:
        """Return those of some jobs that have rows."""
        parts = [ids[start : start + IDS_AT_ONCE] for start in range(0, len(ids), IDS_AT_ONCE)]
        return [job for part in parts for job in self._select(_c.id.in_(part))]

    def counts(self) -> dict[str, int]:
        """Return the number of jobs in each state but `expired`."""
        counting = select(_c.state, func.count()).group_by(_c.state)
        with self._engine.connect() as connection:
            found = {State(state): number for state, number in connection.execute(counting)}
        return {state: found.get(state, 0) for state in (*LIVE, *ENDED)}

    def _create(self) -> None:
        with self._engine.begin() as connection:
            connection.execute(CreateTable(_jobs, if_not_exists=True))
            known = {column["name"] for column in inspect(connection).get_columns(_jobs.name)}
            for column in (column for column in _jobs.columns if column.name not in known):  # of an older version
                kind = column.type.compile(connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {_jobs.name} ADD COLUMN {column.name} {kind}")
            for index in _jobs.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))

    def _select(self, *conditions: ColumnElement[bool]) -> list[Job]:
        with self._engine.connect() as connection:
            return [_job(row) for row in connection.execute(select(_jobs).where(*conditions))]

    def _update(self, conditions: Sequence[ColumnElement[bool]], **values: Any) -> list[Job]:
        """Change the rows that meet all conditions, in one statement, and return them as they are then."""
        statement = update(_jobs).where(*conditions).values(values).returning(*_c)
        with self._engine.begin() as connection:
            return [_job(row) for row in connection.execute(statement).all()]


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        # psycopg 3 is the driver that the extra `postgres` installs; a connection that the server has dropped is seen.
        return create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_S})
    event.listen(engine, "connect", _make_durable)
    return engine


def _make_durable(connection: Any, record: ConnectionPoolEntry) -> None:
    """Have SQLite write a commit to the disk before it returns, and let readers go on meanwhile."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _held(job: Job) -> list[ColumnElement[bool]]:
    """Return the fence: the job is running, and this attempt's worker has it."""
    return [_c.id == job.id, _c.state == State.RUNNING, _c.worker == job.worker, _c.attempt == job.attempt]


def _abandoned(now_s: float) -> ColumnElement[bool]:
    return and_(_c.state == State.RUNNING, _c.lease_s <= literal(now_s))


def _ending(state: State, now_s: float, expires_s: float) -> dict[str, Any]:
    return {"state": state, "finished_s": now_s, "expires_s": expires_s, "worker": None, "lease_s": None}


def _job(row: Row[Any]) -> Job:
    values = row._mapping
    known = {field.name: values[field.name] for field in fields(Job)}
    return Job(**known | {"state": State(known["state"])})
