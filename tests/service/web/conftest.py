"""A service on a port, and Chromium with a camera that shows a file."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Request, expect, sync_playwright

from tests.service.fakes import FakePredictor
from tests.service.media_files import encoded, grey, video
from tests.service.web.serving import served

LONGEST_MS = 20_000
"""Longest wait for something to be shown, in milliseconds; nothing waits for longer than it takes."""


class Watched:
    """What a page did that it must not do."""

    def __init__(self, page: Page, address: str) -> None:
        self.faults: list[str] = []
        self._address = address
        page.on("request", self._requested)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda told: self._said(told.type, told.text))

    def _requested(self, request: Request) -> None:
        if not request.url.startswith((self._address, "blob:", "data:")):
            self.faults.append(f"asked for {request.url}")

    def _said(self, kind: str, text: str) -> None:
        # Answers of 4xx are told there, too; what is looked for are faults, and refusals by the policy.
        expected = ("Failed to load resource", "WebSocket connection to")
        if kind in ("error", "warning") and not text.startswith(expected):
            self.faults.append(text)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of a service with the settings' defaults, for all tests of a module that ask for no others."""
    with served(FakePredictor()) as address:
        yield address


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds at ten frames a second, which grow brighter from 60 to 118 of 255."""
    frames = [grey(60 + 2 * number, (96, 64)) for number in range(30)]
    return video(tmp_path_factory.mktemp("clips") / "clip.webm", frames, "libvpx", fps=10)


@pytest.fixture(scope="module")
def context(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """Chromium, for the tests of one module: while it is open its thread has an event loop, which other tests mind.

    The pages of all of them have one process, which a first page keeps alive, so that plotly is compiled once.
    """
    camera = tmp_path_factory.mktemp("camera") / "grey.mjpeg"
    camera.write_bytes(encoded(grey(204, (640, 480)), ".jpg") * 10)
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--process-per-site",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    ]
    expect.set_options(timeout=LONGEST_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(LONGEST_MS)
        context.new_page().goto(f"{address}/page/icon.svg")
        yield context
        browser.close()


@pytest.fixture
def open_page(context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Callable[..., Page]]:
    """Opens a page of a service, and fails at the end if it broke its policy or asked another host for something.

    It takes the path, the width in pixels, and the settings of a service of its own or the predictor behind it.
    """
    watched: list[Watched] = []
    with ExitStack() as stack:

        def opened(
            path: str = "/", *, width: int = 1280, predictor: FakePredictor | None = None, **settings: object
        ) -> Page:
            if settings or predictor:
                address = stack.enter_context(served(predictor or FakePredictor(), **settings))
            else:
                address = request.getfixturevalue("address")
            page = stack.enter_context(closing(context.new_page()))
            page.set_viewport_size({"width": width, "height": 800})
            watched.append(Watched(page, address))
            page.goto(address + path)
            return page

        yield opened
    assert [fault for each in watched for fault in each.faults] == []
