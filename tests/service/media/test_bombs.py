"""Small files that claim much: each costs one answer, and no more memory than a decoder may have."""

import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Event

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from benchmarks.attacks.bombs import claiming_fragments, claiming_samples, gif_of_one_pixel, png_chunk
from service import app as service_app
from service.media.decoders import DecoderPool
from service.media.limits import DecodeLimits
from service.media.videos import Window
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.media_files import mp4, pillow, png

GIB = 2**30
LIMITS = DecodeLimits(Settings().max_pixels, 600, 6000)


@pytest.fixture
def serving() -> Iterator[TestClient]:
    """The service with its own settings."""
    app = service_app.create_app(Settings(), FakeDetector(face_at(8, 8, 32)), FakePredictor())
    with TestClient(app) as client:
        yield client


@pytest.fixture
def film(tmp_path: Path) -> bytes:
    return mp4(tmp_path / "film.mp4", [50] * 5)


def memory_limit(source: str, content: bytes) -> int:
    """Bytes that a decoder may take while it reads a file."""
    with closing(DecoderPool(1, LIMITS.max_pixels)) as decoders, NamedTemporaryFile() as file:
        file.write(content)
        file.seek(0)
        reading = decoders.picture(file, LIMITS) if source == "picture" else decoders.video(file, LIMITS, Window())
        frames = (timed for timed in reading.frames(Event()) if timed is not None)
        next(frames)
        [decoder] = decoders._used
        limits = Path(f"/proc/{decoder._process.pid}/limits").read_text()
        frames.close()
    [line] = [line for line in limits.splitlines() if line.startswith("Max data size")]
    return int(line.split()[3])


def test_a_decoder_of_a_video_may_have_a_gibibyte_at_most(film: bytes) -> None:
    assert memory_limit("video", film) == 512 * 2**20 + 10 * 50_000_000 < GIB
    assert memory_limit("picture", png(50)) == 512 * 2**20 + 16 * 50_000_000


@pytest.mark.parametrize("runs", [1, 8])
def test_frames_that_a_fragment_only_claims_cost_one_answer(serving: TestClient, film: bytes, runs: int) -> None:
    bomb = claiming_fragments(film, samples=60_000_000 // runs, runs=runs)
    assert len(bomb) < 1700
    answer = serving.post("/analyze/video", files={"file": bomb})
    assert (answer.status_code, answer.json()["code"]) == (422, "undecodable_media")
    assert answer.json()["detail"] == "the file needs more memory to decode than one file may have"
    assert 'affect_decoder_losses_total{reason="memory"} 1.0' in serving.get("/metrics").text
    assert serving.post("/analyze/video", files={"file": film}).status_code == 200


def test_frames_that_an_index_only_claims_cost_one_answer(serving: TestClient, film: bytes) -> None:
    bomb = claiming_samples(film, 60_000_000)
    assert len(bomb) < 1700
    answer = serving.post("/analyze/video", files={"file": bomb})
    assert (answer.status_code, answer.json()["code"]) == (422, "no_video_frames")
    assert serving.post("/analyze/video", files={"file": film}).status_code == 200


def test_a_gif_of_one_pixel_on_a_huge_screen_is_refused_by_its_size(serving: TestClient) -> None:
    answer = serving.post("/analyze/video", files={"file": gif_of_one_pixel(65_535, 65_535)})
    assert (answer.status_code, answer.json()["limit"]["name"]) == (413, "AFFECT_MAX_PIXELS")


def test_an_honest_progressive_jpeg_of_fifty_megapixels_passes(serving: TestClient) -> None:
    small = Image.fromarray(np.random.default_rng(0).integers(0, 256, (145, 215, 3)).astype(np.uint8))
    jpeg = pillow(small.resize((8600, 5800)), "JPEG", progressive=True)
    answer = serving.post("/analyze/frame", files={"file": jpeg})
    assert answer.status_code == 200
    assert answer.json()["image"] == {"width": 8600, "height": 5800}


def test_text_that_unpacks_to_gigabytes_is_not_looked_at(serving: TestClient) -> None:
    text = png_chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(4_000_000)))
    picture = png(204)
    answer = serving.post("/analyze/frame", files={"file": picture[:33] + 1000 * text + picture[33:]})
    assert answer.status_code == 200
