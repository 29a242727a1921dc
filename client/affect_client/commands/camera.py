"""The pictures of a camera, as JPEG files."""

import time
from collections.abc import Callable, Generator

from affect_client.errors import needing

JPEG_QUALITY = 90


def camera_pictures(
    source: str,
    fps: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Generator[bytes, None, None]:
    """Yield pictures, at most `fps` a second, until the camera ends; the camera is free again when this is closed.

    Args:
        source: number of a camera, or a video file or the address of a stream; a file is played at its own pace.
        fps: pictures a second; those that a camera gives beyond are dropped.
        clock: gives seconds.
        sleep: waits for seconds.

    Raises MissingExtra without OpenCV, and OSError for a camera that cannot be opened.
    """
    with needing("watch"):
        import cv2

    is_camera = source.isascii() and source.isdecimal() and len(source) < 10  # no camera has a longer number
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what fails is told here
    capture = cv2.VideoCapture(int(source)) if is_camera else cv2.VideoCapture(source)
    try:
        if not capture.isOpened():
            raise OSError(f"the camera {source} cannot be opened")
        began_s = clock()
        # A camera makes one wait for its next picture; a file does not.
        step_s = 0.0 if is_camera else 1 / (capture.get(cv2.CAP_PROP_FPS) or fps)
        due_s = began_s
        count = 0
        while capture.grab():
            sleep(max(0.0, began_s + count * step_s - clock()))
            count += 1
            if clock() < due_s:
                continue
            due_s = max(due_s, clock() - 1 / fps) + 1 / fps
            read, frame = capture.retrieve()
            encoded, jpeg = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            if read and encoded:
                yield jpeg.tobytes()
    finally:
        capture.release()
