"""A SQLite table, and one in a PostgreSQL server that the tests start."""

import grp
import os
import pwd
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from service.jobs.store import JobStore
from tests.service.jobs.fakes import Clock

USER = "nobody"
"""PostgreSQL does not run as root; where the tests do, it runs as this one."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[JobStore]:
    """With a SQLite table; ended jobs stay for 100 s."""
    with closing(JobStore(tmp_path / "jobs", ttl_s=100, lease_s=10, clock=clock)) as store:
        yield store


def _programs() -> Path:
    [*_, newest] = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return newest


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The address of a server of the tests' own, on a socket in a private folder."""
    user = {"user": USER, "group": "nogroup"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as name:
        if user:
            os.chown(name, *_ids())
        data = f"{name}/data"
        quiet = {"stdout": subprocess.DEVNULL, "cwd": name, **user}
        programs = _programs()
        initdb = [programs / "initdb", "-D", data, "-U", "affect", "-A", "trust", "-N", "--no-instructions"]
        subprocess.run(initdb, check=True, **quiet)
        options = f"-F -h '' -k {name} -c max_connections=60"
        subprocess.run(
            [programs / "pg_ctl", "-D", data, "-l", f"{name}/log", "-w", "-o", options, "start"], check=True, **quiet
        )
        try:
            yield f"postgresql://affect@/postgres?host={name}"
        finally:
            subprocess.run([programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"], check=True, **quiet)


def _ids() -> tuple[int, int]:
    return pwd.getpwnam(USER).pw_uid, grp.getgrnam("nogroup").gr_gid


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.system("pg_ctlcluster"))])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of either kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/table.sqlite3"
        return
    server = request.getfixturevalue("postgresql_server")
    name = f"d{uuid.uuid4().hex}"
    with closing(_Administrator(server)) as administrator:
        administrator.run(f"CREATE DATABASE {name}")
        yield server.replace("/postgres?", f"/{name}?")
        administrator.run(f"DROP DATABASE {name} WITH (FORCE)")


class _Administrator:
    def __init__(self, url: str) -> None:
        self._engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")

    def run(self, statement: str) -> None:
        with self._engine.connect() as connection:
            connection.execute(text(statement))

    def close(self) -> None:
        self._engine.dispose()
