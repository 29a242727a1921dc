"""The journal of a job: what attempts leave to one another, whatever a crash has left of it."""

import tracemalloc
from pathlib import Path

import pytest

from service.jobs.job import Job
from service.jobs.journal import JobJournal
from service.jobs.store import JobStore
from tests.service.jobs.fakes import Clock, accepted

RECORDS = [b"one", b"", b"three" * 1000]


def written(path: Path, records: list[bytes] = RECORDS) -> Path:
    with JobJournal(path, []) as journal:
        for record in records:
            journal.append(record)
    return path


def read(path: Path) -> list[bytes]:
    with JobJournal(path.with_name("next"), [path]) as journal:
        return list(journal.records())


def test_records_come_back_in_their_order_from_a_private_file(tmp_path: Path) -> None:
    path = written(tmp_path / "journal")
    assert read(path) == RECORDS
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_journal_ends_with_its_last_whole_record_wherever_it_was_cut(tmp_path: Path) -> None:
    content = written(tmp_path / "journal").read_bytes()
    lengths = [len(written(tmp_path / f"first {count}", RECORDS[:count]).read_bytes()) for count in (1, 2, 3)]
    for length in range(len(content) + 1):
        (tmp_path / "cut").write_bytes(content[:length])
        assert read(tmp_path / "cut") == RECORDS[: sum(length >= each for each in lengths)]


def test_a_byte_that_was_changed_ends_a_journal(tmp_path: Path) -> None:
    content = bytearray(written(tmp_path / "journal").read_bytes())
    content[-8] ^= 1
    (tmp_path / "journal").write_bytes(content)
    assert read(tmp_path / "journal") == RECORDS[:2]


def test_a_length_that_was_changed_ends_a_journal_and_takes_no_memory(tmp_path: Path) -> None:
    content = written(tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(content + b"\xff\xff\xff\xff" + content)
    tracemalloc.start()
    try:
        assert read(tmp_path / "journal") == RECORDS
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_journal_without_records_leaves_no_file(tmp_path: Path) -> None:
    written(tmp_path / "journal", [])
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def claims(store: JobStore, clock: Clock) -> list[Job]:
    """The first three attempts at a job."""
    accepted(store)
    claimed = []
    for _ in range(3):
        job = store.claim("w")
        assert job is not None
        claimed.append(job)
        clock.now_s += 11
    return claimed


def journal_of(store: JobStore, job: Job) -> JobJournal:
    return store.files.journal(job, store.files.earlier_journals(job))


def test_an_attempt_takes_the_records_of_the_one_before_over(store: JobStore, claims: list[Job]) -> None:
    first, second, third = claims
    with journal_of(store, first) as lost:
        lost.append(b"one")
        with journal_of(store, second) as journal:
            assert list(journal.records()) == [b"one"]
            journal.append(b"one", lasting=False)
            journal.take_over()
            journal.append(b"two")
        lost.append(b"too late")  # its job is another's, who does not see this
    with journal_of(store, third) as journal:
        assert list(journal.records()) == [b"one", b"two"]


def test_an_attempt_that_died_while_it_took_over_loses_nothing(store: JobStore, claims: list[Job]) -> None:
    first, second, third = claims
    with journal_of(store, first) as journal:
        journal.append(b"one")
        journal.append(b"two")
    with journal_of(store, second) as journal:
        journal.append(b"one", lasting=False)
    with journal_of(store, third) as journal:
        assert list(journal.records()) == [b"one", b"two"]
        journal.take_over()
        journal.append(b"three")
    assert store.files.result(third).with_name(f"{third.id}.3.journal").exists()
    store.remove(third.id, "me")
    assert not list(store.files.result(third).parent.iterdir())
