"""The table's statements, on both databases: who gets a job, who may end it, and that each ends once."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from sqlalchemy import create_engine, text

from service.jobs.job import ENDED, LIVE, Job, State
from service.jobs.table import JobTable

NOW_S = 1000.0


def new(number: int = 0, key: str | None = None) -> Job:
    return Job(f"{number:032x}", "me", "r", "text/csv", "{}", created_s=number, idempotency_key=key)


@pytest.fixture
def table(url: str) -> Iterator[JobTable]:
    with closing(JobTable(url)) as table:
        yield table


def claimed(table: JobTable, worker: str = "w", now_s: float = NOW_S) -> Job:
    job = table.claim(worker, now_s, now_s + 10)
    assert job is not None
    return job


def test_a_job_comes_back_as_it_was_added(table: JobTable) -> None:
    job = replace(new(3, "k"), options='{"fps":5}', fingerprint="f")
    assert table.add(job) == job
    assert table.find(job.id, "me") == job
    assert table.find(job.id, "you") is table.find("none", "me") is None


def test_more_ids_than_a_statement_takes_are_looked_up(table: JobTable) -> None:
    for number in (0, 69_999):
        table.add(new(number))
    found = table.of_ids([new(number).id for number in range(70_000)])
    assert [job.id for job in found] == [new(0).id, new(69_999).id]
    assert table.of_ids([]) == []


def test_a_key_whose_job_is_removed_meanwhile_is_free(table: JobTable, monkeypatch: pytest.MonkeyPatch) -> None:
    table.add(new(1, "k"))
    table.cancel(new(1).id, "me", NOW_S, NOW_S)
    select = table._select

    def removed_before(*conditions: Any) -> list[Job]:
        table.delete(new(1).id, "me")
        return select(*conditions)

    monkeypatch.setattr(table, "_select", removed_before)
    assert table.add(new(2, "k")).id == new(2).id


def test_the_table_of_an_older_version_gets_the_columns_that_it_lacks(url: str) -> None:
    with closing(JobTable(url)) as table:
        table.add(new(3))
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE affect_jobs DROP COLUMN truncated"))
    engine.dispose()
    for _ in range(2):
        with closing(JobTable(url)) as table:
            assert table.find(new(3).id, "me") == new(3)
    with closing(JobTable(url)) as table:
        assert table.succeed(claimed(table), NOW_S, NOW_S, truncated=True)
        ended = table.find(new(3).id, "me")
    assert ended is not None
    assert ended.truncated is True


def test_the_oldest_job_is_claimed_and_held_until_its_lease_runs_out(table: JobTable) -> None:
    for number in (2, 1):
        table.add(new(number))
    first = claimed(table)
    assert (first.id, first.state, first.attempt, first.worker) == (new(1).id, State.RUNNING, 1, "w")
    assert (first.started_s, first.heartbeat_s, first.lease_s) == (NOW_S, NOW_S, NOW_S + 10)
    assert claimed(table).id == new(2).id
    assert table.claim("x", NOW_S + 9.9, NOW_S + 20) is None
    assert table.beat(first, 0.5, NOW_S + 9, NOW_S + 19)
    again = claimed(table, "x", NOW_S + 10)  # the second one's
    assert (again.id, again.attempt, again.deaths, again.started_s) == (new(2).id, 2, 1, NOW_S)
    assert table.find(first.id, "me") == replace(first, progress=0.5, heartbeat_s=NOW_S + 9, lease_s=NOW_S + 19)


def test_a_connection_in_use_is_closed_when_it_is_given_back(tmp_path: Path) -> None:
    table = JobTable(f"sqlite:///{tmp_path}/table.sqlite3")
    with table._engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        table.close()
        assert raw.execute("SELECT 1").fetchall() == [(1,)]  # the thread that has it goes on
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        raw.execute("SELECT 1")


def test_who_has_lost_a_job_changes_nothing(table: JobTable) -> None:
    table.add(new())
    lost = claimed(table)
    held = claimed(table, "x", NOW_S + 10)
    for attempt in (
        table.beat(lost, 1, NOW_S, NOW_S + 99),
        table.succeed(lost, NOW_S, NOW_S),
        table.fail(lost, NOW_S, NOW_S, "{}"),
        table.release(lost, NOW_S),
        table.succeed(replace(held, worker="w"), NOW_S, NOW_S),
        table.succeed(replace(held, attempt=1), NOW_S, NOW_S),
    ):
        assert not attempt
    assert table.find(held.id, "me") == held
    assert table.succeed(held, NOW_S + 11, NOW_S + 99)
    assert not table.fail(held, NOW_S + 12, NOW_S + 99, "{}")
    ended = table.find(held.id, "me")
    assert ended is not None
    assert (ended.state, ended.progress, ended.finished_s, ended.expires_s) == (
        State.SUCCEEDED,
        1.0,
        NOW_S + 11,
        NOW_S + 99,
    )


def test_a_released_job_waits_and_has_no_death(table: JobTable) -> None:
    table.add(new())
    assert table.release(claimed(table), NOW_S + 60)
    assert table.claim("w", NOW_S + 59, NOW_S + 99) is None
    again = claimed(table, now_s=NOW_S + 60)
    assert (again.attempt, again.deaths) == (2, 0)


def test_the_third_death_of_its_worker_fails_a_job(table: JobTable) -> None:
    table.add(new())
    for death in range(3):
        assert table.give_up(NOW_S + 10 * death, 9999, "{}") == []
        assert claimed(table, now_s=NOW_S + 10 * death).deaths == death
    assert table.claim("w", NOW_S + 30, NOW_S + 99) is None
    [failed] = table.give_up(NOW_S + 30, 9999, '{"code":"internal_error"}')
    assert (failed.state, failed.deaths, failed.document) == (State.FAILED, 3, {"code": "internal_error"})
    assert table.give_up(NOW_S + 30, 9999, "{}") == []


def test_a_cancelled_job_is_no_longer_its_workers(table: JobTable) -> None:
    table.add(new())
    job = claimed(table)
    assert not table.cancel(job.id, "you", NOW_S, NOW_S)
    assert not table.delete(job.id, "me")  # it runs
    assert table.cancel(job.id, "me", NOW_S + 1, NOW_S + 99)
    assert not table.beat(job, 0.5, NOW_S, NOW_S + 99)
    assert not table.cancel(job.id, "me", NOW_S + 2, NOW_S + 99)
    assert table.delete(job.id, "me")
    assert table.find(job.id, "me") is None


def test_an_expired_job_leaves_a_row_without_content_for_a_while(table: JobTable) -> None:
    table.add(new(1, "k"))
    table.add(new(2))
    assert table.fail(claimed(table), NOW_S, NOW_S + 100, '{"detail":"about the video"}')
    assert table.expire(NOW_S + 99) == []
    [expired] = table.expire(NOW_S + 100)
    assert (expired.id, expired.state, expired.problem, expired.options) == (new(1).id, State.EXPIRED, None, "")
    assert table.counts() == dict.fromkeys((*LIVE, *ENDED), 0) | {State.QUEUED: 1}
    assert table.add(new(3, "k")).id == new(3).id  # the key is free again
    table.forget(NOW_S + 100)
    assert table.find(expired.id, "me") is not None
    table.forget(NOW_S + 101)
    assert table.find(expired.id, "me") is None


def test_of_many_that_add_the_same_key_one_does(url: str) -> None:
    with closing(JobTable(url)) as one, closing(JobTable(url)) as other, ThreadPoolExecutor(6) as threads:
        added = [threads.submit((one, other)[n % 2].add, new(n, "k")) for n in range(12)]
        assert len({each.result(30).id for each in added}) == 1
        assert one.counts()[State.QUEUED] == 1
        assert one.add(replace(new(20, "k"), caller="you")).id == new(20).id


def test_no_job_is_claimed_twice_and_none_is_left(url: str) -> None:
    with closing(JobTable(url)) as one, closing(JobTable(url)) as other, ThreadPoolExecutor(6) as threads:
        for number in range(30):
            one.add(new(number))
        claims = [threads.submit((one, other)[n % 2].claim, f"w{n}", NOW_S, NOW_S + 10) for n in range(40)]
        found = Counter(job.id for each in claims if (job := each.result(30)) is not None)
        left = []
        while (job := one.claim("late", NOW_S, NOW_S + 10)) is not None:
            left.append(job.id)
        assert max(found.values()) == 1
        assert found.keys() | set(left) == {new(number).id for number in range(30)}
        assert not found.keys() & set(left)


class Life(RuleBasedStateMachine):
    """Anything may happen to jobs in any order: each ends at most once, by whoever held it, and none is lost."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.table = JobTable("sqlite://")
        self.now_s = NOW_S
        self.ends: Counter[str] = Counter()
        self.states: dict[str, State] = {}
        self.holders: dict[str, Job] = {}
        self.deaths: Counter[str] = Counter()

    def teardown(self) -> None:
        self.table.close()

    @rule()
    def add(self) -> None:
        job = self.table.add(new(len(self.ends)))
        self.ends[job.id] = 0
        self.states[job.id] = State.QUEUED

    @rule(seconds=st.sampled_from([1.0, 6.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(target=claims, worker=st.sampled_from(["a", "b"]))
    def claim(self, worker: str) -> object:
        job = self.table.claim(worker, self.now_s, self.now_s + 10)
        if job is None:
            assert State.QUEUED not in self.states.values()
            return multiple()
        if self.states[job.id] is State.RUNNING:
            assert (self.holders[job.id].lease_s or 0) <= self.now_s
            self.deaths[job.id] += 1
        assert self.states[job.id] in LIVE
        assert job.deaths == self.deaths[job.id] < 3
        self.states[job.id] = State.RUNNING
        self.holders[job.id] = job
        return job

    def held(self, job: Job) -> bool:
        holder = self.holders[job.id]
        return self.states[job.id] is State.RUNNING and (holder.worker, holder.attempt) == (job.worker, job.attempt)

    @rule(job=claims)
    def beat(self, job: Job) -> None:
        held = self.held(job)
        assert self.table.beat(job, 0.5, self.now_s, self.now_s + 10) is held
        if held:
            self.holders[job.id] = replace(job, lease_s=self.now_s + 10)

    @rule(job=consumes(claims), end=st.sampled_from([State.SUCCEEDED, State.FAILED, State.QUEUED]))
    def finish(self, job: Job, end: State) -> None:
        held = self.held(job)
        match end:
            case State.SUCCEEDED:
                done = self.table.succeed(job, self.now_s, self.now_s + 1000)
            case State.FAILED:
                done = self.table.fail(job, self.now_s, self.now_s + 1000, "{}")
            case _:
                done = self.table.release(job, self.now_s)
        assert done is held
        if held:
            self.states[job.id] = end
            self.ends[job.id] += end in ENDED

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if not self.states:
            return
        job_id = data.draw(st.sampled_from(sorted(self.states)))
        live = self.states[job_id] in LIVE
        assert self.table.cancel(job_id, "me", self.now_s, self.now_s + 1000) is live
        if live:
            self.states[job_id] = State.CANCELLED
            self.ends[job_id] += 1

    @rule()
    def give_up(self) -> None:
        for job in self.table.give_up(self.now_s, self.now_s + 1000, "{}"):
            assert self.states[job.id] is State.RUNNING
            assert self.deaths[job.id] == 2
            self.states[job.id] = State.FAILED
            self.ends[job.id] += 1

    @invariant()
    def the_table_is_the_truth(self) -> None:
        counted = Counter(self.states.values())
        assert self.table.counts() == {state: counted[state] for state in (*LIVE, *ENDED)}
        assert all(times <= 1 for times in self.ends.values())
        assert all(bool(self.ends[job_id]) is (state in ENDED) for job_id, state in self.states.items())


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
