"""The real application with stand-ins for its networks, and files to send to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_core.faces.geometry import Face
from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.http.serving import running
from tests.service.media_files import mp4, png


@contextmanager
def running_app(*faces: Face) -> Iterator[str]:
    """Address of an application that finds these faces in every frame that is not black."""
    with running(create_app(Settings(), FakeDetector(*faces), FakePredictor())) as address:
        yield address


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Address of an application that finds two faces."""
    with running_app(face_at(8, 8, 32), face_at(60, 20, 24)) as address:
        yield address


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video whose last frame is black, a picture of another size with one face inside, and a damaged video."""
    folder = tmp_path_factory.mktemp("clips")
    mp4(folder / "clip.mp4", [60, 120, 200, 0])
    (folder / "grey.png").write_bytes(png(102, 96, 64))
    (folder / "broken.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(50))
    return folder
