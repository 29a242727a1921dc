"""Jobs against a fake service that follows the contract."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from affect_client import Affect, AffectError
from affect_client.connection import Connection, RetryPolicy
from affect_client.jobs import Job
from tests.client.fake_service import Answer, Seen, document, fake_service, problem, refused


class FakeJobs:
    """One job, which gets on by a quarter whenever its state is asked for."""

    def __init__(self, ends: str = "succeeded") -> None:
        self.ends = ends
        self.state = "queued"
        self.progress = 0.0
        self.problem: dict[str, Any] | None = None
        self.keys: list[str] = []
        self.there = False

    def __call__(self, seen: Seen) -> Answer | None:
        if seen.method == "POST":
            return self._accept(seen)
        if not self.there:
            return refused(410, "job_expired")
        if seen.method == "DELETE":
            self.there = self.state in {"queued", "running"}
            self.state = "cancelled"
            return Answer(204)
        if seen.path.endswith("/result"):
            return Answer(200, {"Content-Type": "text/csv"}, [b"frame\n", b"0\n"])
        self._get_on()
        return document(self._values())

    def _accept(self, seen: Seen) -> Answer | None:
        assert seen.headers["prefer"] == "respond-async"
        self.keys.append(seen.headers["idempotency-key"])
        self.there = True
        if len(self.keys) == 1:
            return None  # the answer is lost, and the upload comes again
        return Answer(202, {"Location": "/jobs/j1"})

    def _get_on(self) -> None:
        if self.state in {"queued", "running"}:
            self.progress += 0.25
            self.state = self.ends if self.progress == 1 else "running"
        if self.state == "failed":
            self.problem = problem(422, "undecodable_media")

    def _values(self) -> dict[str, Any]:
        values = {"id": "j1", "state": self.state, "progress": self.progress, "media_type": "text/csv"}
        return values | ({"problem": self.problem} if self.problem else {})


def test_a_job_from_its_upload_to_its_end(tmp_path: Path) -> None:
    jobs = FakeJobs()
    slept: list[float] = []
    shares: list[float] = []
    with fake_service(jobs) as service, Affect(service.url, sleep=slept.append) as affect:
        job = affect.job(b"clip", "text/csv", fps=5)
        assert jobs.keys == [jobs.keys[0]] * 2  # the same upload, so there is one job
        slept.clear()
        assert job.wait(progress=shares.append).state == "succeeded"
        job.save(tmp_path / "clip.csv")
        job.delete()
        with pytest.raises(AffectError, match="job_expired"):
            job.status()
    assert service.seen[0].query == {"fps": "5"}
    assert service.seen[0].headers["accept"] == "text/csv"
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert slept == [1.0, 1.0, 1.0]
    assert (tmp_path / "clip.csv").read_bytes() == b"frame\n0\n"


def test_a_job_that_fails_raises_its_own_problem() -> None:
    with fake_service(FakeJobs(ends="failed")) as service, Affect(service.url, sleep=lambda _: None) as affect:
        job = affect.job(b"clip")
        with pytest.raises(AffectError) as caught:
            job.wait()
    assert (caught.value.code, caught.value.status) == ("undecodable_media", 422)


def running(job: Job) -> None:
    assert job.state == "running"


def ended(job: Job) -> None:
    job.wait()


@pytest.mark.parametrize(("first", "state"), [(running, "cancelled"), (ended, "succeeded")])
def test_cancelling(first: Callable[[Job], None], state: str) -> None:
    with fake_service(FakeJobs()) as service, Affect(service.url, sleep=lambda _: None) as affect:
        job = affect.job(b"clip")
        first(job)
        job.cancel()
        assert job.state == state
        assert affect.find_job(job.id).state == state


def test_a_running_job_is_deleted_too() -> None:
    with fake_service(FakeJobs()) as service, Affect(service.url, sleep=lambda _: None) as affect:
        job = affect.job(b"clip")
        job.delete()
        with pytest.raises(AffectError, match="job_expired"):
            _ = job.progress
    assert [seen.method for seen in service.seen] == ["POST", "POST", "DELETE", "DELETE", "GET"]


def test_waiting_ends_in_time() -> None:
    now_s = [0.0]

    def sleep(seconds: float) -> None:
        now_s[0] += seconds

    jobs = FakeJobs()
    jobs.there = True
    with fake_service(jobs) as service:
        connection = Connection(service.url, None, timeout_s=10, retry=RetryPolicy(), sleep=sleep)
        with pytest.raises(AffectError, match=r"the job is running after 2.5 s \(timeout\)"):
            Job(connection, "j1", clock=lambda: now_s[0]).wait(2.5)
        connection.close()
    assert now_s == [2.0]


@pytest.mark.parametrize("times", [{"timeout_s": math.nan}, {"timeout_s": -1}, {"poll_s": math.inf}, {"poll_s": -1}])
def test_times_out_of_range_are_refused(times: dict[str, float]) -> None:
    with Affect() as affect, pytest.raises(ValueError, match="must be a finite number of at least 0 and at most 1e"):
        affect.find_job("j1").wait(**times)
