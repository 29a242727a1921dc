from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.media_files import encoded


@pytest.fixture
def predictor() -> FakePredictor:
    return FakePredictor()


@pytest.fixture
def detector() -> FakeDetector:
    return FakeDetector(face_at(8, 8, 32))


@pytest.fixture
def settings() -> Settings:
    return Settings(max_pixels=1_000_000, max_upload_bytes=2_000_000, max_video_s=20)


@pytest.fixture
def client(settings: Settings, detector: FakeDetector, predictor: FakePredictor) -> Iterator[TestClient]:
    with TestClient(create_app(settings, detector, predictor), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def astronaut_png(astronaut: np.ndarray) -> bytes:
    return encoded(astronaut, ".png")
