"""Annotated videos, played by a real browser from the service itself."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from service.app import create_app
from service.output.annotation.drawing import COLOURS
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor, face_at
from tests.service.http.serving import running
from tests.service.http.test_annotated_jobs import has_colour
from tests.service.http.test_jobs import ASYNC
from tests.service.media_files import grey, video

pytestmark = pytest.mark.system("chromium")

PLAYED = """
async video => {
    video.muted = true;
    await video.play();
    await new Promise(resolve => video.addEventListener("ended", resolve));
    return [video.duration, video.videoWidth, video.videoHeight, video.webkitDecodedFrameCount,
            video.webkitAudioDecodedByteCount];
}
"""

SOUGHT = """
async video => {
    video.currentTime = 0.5;
    await new Promise(resolve => video.addEventListener("seeked", resolve));
    return [video.currentTime, video.seekable.end(0)];
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service that keeps jobs, and finds two people in every frame."""
    detector = FakeDetector(face_at(40, 60, 60), face_at(200, 60, 40))
    app = create_app(Settings(jobs_dir=tmp_path_factory.mktemp("jobs") / "jobs"), detector, FakePredictor())
    with running(app) as url:
        yield url


def made(url: str, clip: Path, media_type: str) -> str:
    """Have a clip annotated, and return the address of the result."""
    with clip.open("rb") as file, httpx2.Client(timeout=60) as client:
        headers = ASYNC | {"Accept": media_type}
        location = client.post(f"{url}/analyze/video", files={"file": file}, headers=headers).headers["location"]
        while (state := client.get(url + location).json()["state"]) in ("queued", "running"):
            threading.Event().wait(0.05)
        assert state == "succeeded"
    return f"{url}{location}/result"


@pytest.mark.parametrize("media_type", ["video/mp4", "video/webm"])
def test_a_browser_plays_the_result(browser: Browser, url: str, tmp_path: Path, media_type: str) -> None:
    clip = video(tmp_path / "clip.mp4", [grey(200, (320, 240))] * 20, fps=10, sound_s=2)
    address = made(url, clip, media_type)
    page: Page = browser.new_page()
    statuses: list[int] = []
    page.on("response", lambda response: statuses.append(response.status))
    page.set_content(f'<body style="margin: 0"><video src="{address}" width="320" height="240"></video>')
    duration_s, width, height, frames, sound_bytes = page.locator("video").evaluate(PLAYED)
    assert duration_s == pytest.approx(2, abs=0.12)
    assert (width, height) == (320, 240)
    assert frames >= 10  # a busy machine may skip some
    assert sound_bytes > 0
    assert page.locator("video").evaluate(SOUGHT) == pytest.approx([0.5, duration_s], abs=0.06)
    picture = np.frombuffer(page.locator("video").screenshot(), np.uint8)
    shown = cv2.imdecode(picture, cv2.IMREAD_COLOR)[..., ::-1]
    assert has_colour(shown[40:140, 30:150], COLOURS[0])
    assert has_colour(shown[40:140, 190:280], COLOURS[1])
    assert set(statuses) == {206}
    page.close()
