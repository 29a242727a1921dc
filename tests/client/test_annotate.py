"""`affect annotate` against a fake service, and against the real one."""

from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from affect_client.__main__ import main
from service.app import create_app
from service.settings import Settings
from tests.client.fake_service import Answer, Seen, document, fake_service, problem
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.http.serving import running
from tests.service.media_files import grey, video


class OneJob:
    """A job that has ended whenever it is looked at."""

    def __init__(self, state: str, **more: object) -> None:
        self.state = state
        self.more = more

    def __call__(self, seen: Seen) -> Answer:
        if seen.method == "POST":
            return Answer(202, {"Location": "/jobs/j1"})
        if seen.method == "DELETE":
            return Answer(204)
        if seen.path.endswith("/result"):
            return Answer(200, {"Content-Type": "video/mp4"}, [b"a vi", b"deo"])
        values = {"id": "j1", "state": self.state, "progress": 1.0, "media_type": "video/mp4"}
        failed = {"problem": problem(422, "undecodable_media")} if self.state == "failed" else {}
        return document(values | failed | self.more)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return video(tmp_path / "clip.mp4", [grey(200, (160, 120))] * 6, fps=10)


@pytest.mark.parametrize(
    ("out", "words", "query", "accept"),
    [
        ("a.mp4", [], {"blur": "none", "boxes": "on"}, "video/mp4"),
        ("a.webm", ["--blur", "--no-boxes"], {"blur": "faces", "boxes": "off"}, "video/webm"),
    ],
)
def test_the_result_is_saved_and_the_job_deleted(
    tmp_path: Path, clip: Path, out: str, words: list[str], query: dict[str, str], accept: str
) -> None:
    with fake_service(OneJob("succeeded")) as service:
        assert main(["annotate", str(clip), "--out", str(tmp_path / out), "--url", service.url, *words]) == 0
    assert (tmp_path / out).read_bytes() == b"a video"
    upload = service.seen[0]
    assert (upload.query, upload.headers["accept"], upload.part("file")) == (query, accept, clip.read_bytes())
    assert service.seen[-1].method == "DELETE"


@pytest.mark.parametrize(("state", "told"), [("failed", "undecodable_media"), ("cancelled", "the job was cancelled")])
def test_a_job_that_gives_no_result_is_told(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str], state: str, told: str
) -> None:
    with fake_service(OneJob(state)) as service:
        assert main(["annotate", str(clip), "--out", str(tmp_path / "a.mp4"), "--url", service.url]) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "a.mp4").exists()
    assert service.seen[-1].method == "DELETE"


@pytest.mark.parametrize("truncated", [True, False])
def test_a_file_that_ended_early_is_told(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str], truncated: bool
) -> None:
    with fake_service(OneJob("succeeded", truncated=truncated)) as service:
        assert main(["annotate", str(clip), "--out", str(tmp_path / "a.mp4"), "--url", service.url]) == 0
    told = capsys.readouterr().err
    assert ("a.mp4: the file is damaged and ended early" in told) is truncated


def broken() -> Iterator[bytes]:
    yield b"a vi"
    raise BrokenPipeError


class Restarted(OneJob):
    """The service is away for the first looks at the job, and for `unsaved` attempts to fetch its result."""

    def __init__(self, unsaved: int = 0, away: int = 2) -> None:
        super().__init__("succeeded")
        self.away = away
        self.unsaved = unsaved

    def __call__(self, seen: Seen) -> Answer:
        if seen.method == "GET" and self.away:
            self.away -= 1
            return Answer(503, {"Retry-After": "0"}, [b"{}"])
        if seen.path.endswith("/result") and self.unsaved:
            self.unsaved -= 1
            return Answer(200, {"Content-Type": "video/mp4"}, broken())
        return super().__call__(seen)


def test_a_service_that_is_started_again_is_waited_for(tmp_path: Path, clip: Path) -> None:
    with fake_service(Restarted()) as service:
        assert main(["annotate", str(clip), "--out", str(tmp_path / "a.mp4"), "--url", service.url]) == 0
    assert (tmp_path / "a.mp4").read_bytes() == b"a video"


@pytest.mark.parametrize("service_of", [Restarted(unsaved=99), Restarted(away=99)])
def test_a_result_that_cannot_be_fetched_stays_with_the_service_and_its_id_is_told(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str], service_of: Restarted
) -> None:
    with fake_service(service_of) as service:
        assert main(["annotate", str(clip), "--out", str(tmp_path / "a.mp4"), "--url", service.url]) == 1
    assert "find_job('j1').save(FILE)" in capsys.readouterr().err
    assert not (tmp_path / "a.mp4").exists()
    assert "DELETE" not in [seen.method for seen in service.seen]


def test_the_source_is_not_replaced(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = clip.read_bytes()
    assert main(["annotate", str(clip), "--out", str(clip), "--blur"]) == 1
    assert "is the file that the result is made from" in capsys.readouterr().err
    assert clip.read_bytes() == before


def test_the_name_tells_the_form(tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["annotate", str(clip), "--out", str(tmp_path / "a.avi")]) == 1
    assert ".mp4 or .webm" in capsys.readouterr().err


def test_the_real_service_makes_the_video(tmp_path: Path, clip: Path) -> None:
    settings = Settings(jobs_dir=tmp_path / "jobs")
    app = create_app(settings, FakeDetector(face_at(20, 20, 60)), FakePredictor())
    with running(app) as url:
        assert main(["annotate", str(clip), "--out", str(tmp_path / "a.mp4"), "--blur", "--url", url]) == 0
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert len(list(container.decode(video=0))) == 6
    assert list((tmp_path / "jobs").rglob("*/*")) == []
