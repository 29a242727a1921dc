"""`python -m benchmarks.screenshots`: pictures of the page for the README, with the included weights, in Chromium.

They show scikit-image's photo of an astronaut (NASA, public domain), and a clip that is made from it. Needs Debian's
`chromium`; playwright drives it.
"""

import argparse
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from skimage import data

from benchmarks.process import running_service
from model_core.faces.geometry import Frame

FPS = 10
SECONDS = 8
WIDTH, HEIGHT = 640, 360
WAIT_MS = 120_000
PORT = 8097
"""Another one than that of benchmarks, which may run beside it."""


def clip_frames() -> Iterator[Frame]:
    """Yield frames of two faces that come nearer and go, one of them mirrored; the second one leaves for a while."""
    smiling = np.ascontiguousarray(data.astronaut()[20:220, 130:330])
    for number in range(FPS * SECONDS):
        time_s = number / FPS
        frame = np.full((HEIGHT, WIDTH, 3), 70, np.uint8)
        near = 190 + round(50 * np.sin(time_s))
        face = _with_movement(smiling, max(0.0, np.sin(time_s - 1)), max(0.0, np.sin(2 * time_s)))
        _paste(frame, _turned(face, 8 * np.sin(1.3 * time_s), near), 40 + round(20 * np.sin(time_s / 2)), 60)
        if not 3 <= time_s < 4.5:
            far = 150 + round(30 * np.cos(1.7 * time_s))
            soft = max(0.1, 3 * np.sin(time_s))
            _paste(frame, cv2.GaussianBlur(_turned(smiling[:, ::-1], 0, far), (0, 0), soft), 400, 110)
        yield frame


def _with_movement(face: Frame, smile_lost: float, brows_raised: float) -> Frame:
    """Warp the face: from 0 to 1, how much of the smile goes, and how high the brows are drawn."""
    mouth_px, brow_px = 13 * smile_lost, 9 * brows_raised
    moved = (  # x and y of a point in the picture, its way to the right and down, all in pixels
        ((73, 121), (0.7 * mouth_px, mouth_px)),
        ((111, 123), (-0.7 * mouth_px, mouth_px)),
        ((92, 124), (0.0, -0.5 * mouth_px)),
        ((92, 138), (0.0, -0.5 * mouth_px)),
        ((72, 70), (0.0, -brow_px)),
        ((115, 72), (0.0, -brow_px)),
    )
    y, x = np.mgrid[: len(face), : face.shape[1]].astype(np.float32)
    from_x, from_y = x.copy(), y.copy()
    for (at_x, at_y), (by_x, by_y) in moved:
        nearness = np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * 9**2))
        from_x -= by_x * nearness
        from_y -= by_y * nearness
    return np.asarray(cv2.remap(face, from_x, from_y, cv2.INTER_LINEAR), np.uint8)


def _turned(face: Frame, degrees: float, side: int) -> Frame:
    turn = cv2.getRotationMatrix2D((face.shape[1] / 2, face.shape[0] / 2), degrees, 1.15)
    turned = cv2.warpAffine(face, turn, (face.shape[1], face.shape[0]))
    return np.asarray(cv2.resize(turned, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _paste(frame: Frame, patch: Frame, x: int, y: int) -> None:
    frame[y : y + len(patch), x : x + patch.shape[1]] = patch


def write_clip(path: Path) -> None:
    """Write the clip as WebM, which every browser plays."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=Fraction(FPS), options={"b": "2M"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in clip_frames():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())


def picture(page: Page, photo: Path, out: Path) -> None:
    """Save the page with the photo's analysis."""
    page.get_by_label("A picture or a video").set_input_files(photo)
    expect(page.get_by_role("status")).to_contain_text("found", timeout=WAIT_MS)
    _save(page, out)


def video(page: Page, clip: Path, out: Path) -> None:
    """Save the page with the clip's analysis, at a moment with an event that was marked."""
    page.get_by_label("A picture or a video").set_input_files(clip)
    expect(page.get_by_role("status")).to_contain_text("is analysed", timeout=WAIT_MS)
    page.get_by_label("Moment").fill("2.6")
    expect(page.locator("#face")).to_contain_text("Track 1 at 2.6", timeout=WAIT_MS)
    page.get_by_label("Label").fill("smile goes")
    page.get_by_role("button", name="Mark an event here").click()
    _save(page, out)


def _save(page: Page, out: Path) -> None:
    """Save the whole page with 256 colours: a README is read by many."""
    shown = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    shown.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(out, optimize=True)


def main() -> None:
    """Write page.png and page-video.png. Exits with 1 where there is no Chromium."""
    parser = argparse.ArgumentParser(description="Pictures of the page for the README.")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the pictures (default: docs)")
    arguments = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("error: there is no command chromium; Debian's package has its name")
    with (
        tempfile.TemporaryDirectory() as folder,
        running_service(port=PORT) as service,
        sync_playwright() as playwright,
    ):
        photo, clip = Path(folder, "astronaut.png"), Path(folder, "clip.webm")
        cv2.imwrite(str(photo), data.astronaut()[..., ::-1])
        write_clip(clip)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 700})
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda told: print(told.text, file=sys.stderr))
        page.goto(service.url)
        picture(page, photo, arguments.out / "page.png")
        video(page, clip, arguments.out / "page-video.png")
        browser.close()


if __name__ == "__main__":
    main()
