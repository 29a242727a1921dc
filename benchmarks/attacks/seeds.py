"""Whole files of every format that the service reads: small, and made here. Attacks are damaged copies of them."""

import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Final

import av
import cv2
import numpy as np
import pillow_heif
from PIL import Image
from skimage import data

from model_core.faces.geometry import Frame

FRAME_ROUTE: Final = "/analyze/frame"
VIDEO_ROUTE: Final = "/analyze/video"

WIDTH, HEIGHT = 80, 64
FRAMES = 8
FPS = 10


@dataclass(frozen=True)
class Media:
    """A file that is sent, and where to."""

    name: str
    """The format, and what was done to it."""
    route: str
    """The route that reads the format."""
    content: bytes


_FAST: Final = {"preset": "ultrafast"}
_REALTIME: Final = {"deadline": "realtime"}

_VIDEOS: Final[Mapping[str, tuple[str, str, Mapping[str, str], Mapping[str, str]]]] = MappingProxyType(
    {
        "h264.mp4": ("libx264", "yuv420p", _FAST, {}),
        "face.mp4": ("mpeg4", "yuv420p", {}, {}),
        "fragmented.mp4": ("mpeg4", "yuv420p", {}, {"movflags": "frag_keyframe+empty_moov"}),
        "hevc.mov": ("libx265", "yuv420p", _FAST | {"x265-params": "log-level=none"}, {}),
        "prores.mov": ("prores_ks", "yuv422p10le", {}, {}),
        "vp8.webm": ("libvpx", "yuv420p", _REALTIME, {}),
        "vp9.webm": ("libvpx-vp9", "yuv420p", _REALTIME, {}),
        "h264.mkv": ("libx264", "yuv420p", _FAST, {}),
        "ffv1.mkv": ("ffv1", "yuv420p", {}, {}),
        "mjpeg.avi": ("mjpeg", "yuvj420p", {}, {}),
        "mpeg4.avi": ("mpeg4", "yuv420p", {}, {}),
        "animation.gif": ("gif", "rgb8", {}, {}),
        "h264.ts": ("libx264", "yuv420p", _FAST, {}),
        "mpeg2.mpg": ("mpeg2video", "yuv420p", {}, {}),
        "wmv2.wmv": ("wmv2", "yuv420p", {}, {}),
        "flv.flv": ("flv", "yuv420p", {}, {}),
        "vp8.ogg": ("libvpx", "yuv420p", _REALTIME, {}),
    }
)
"""File name -> the encoder, its pixel format, and the options of the encoder and of the container."""


WITH_A_FACE: Final = ("face.jpg", "face.mp4")
"""The files that show a face: in the others there is none, since it is decoders that are attacked."""


def whole_files() -> list[Media]:
    """Return a file of each format, of WIDTH x HEIGHT pixels, and in videos FRAMES frames, which drift."""
    ground, face = _drifting(at=300), _drifting(at=100)
    pictures = _pictures(ground[0]) | {WITH_A_FACE[0]: saved(Image.fromarray(face[0]), "JPEG")}
    with tempfile.TemporaryDirectory() as folder:
        videos = {
            name: _video(Path(folder) / name, face if name in WITH_A_FACE else ground, *options)
            for name, options in _VIDEOS.items()
        }
    made = [Media(name, FRAME_ROUTE, content) for name, content in pictures.items()]
    return made + [Media(name, VIDEO_ROUTE, content) for name, content in videos.items()]


def photograph(width: int = 4000, height: int = 3000) -> Media:
    """Return an ordinary photograph, by default of 12 megapixels, which shows a face."""
    picture = cv2.resize(data.astronaut(), (width, height), interpolation=cv2.INTER_LINEAR)
    return Media(f"photograph of {width} x {height}", FRAME_ROUTE, saved(Image.fromarray(picture), "JPEG"))


def photographs() -> list[Media]:
    """Return photographs of many sides, as a service sees them in time: of cameras, of the web, and of faces."""
    sides = [
        (4000, 3000),
        (3000, 4000),
        (4000, 2250),
        (3000, 2000),
        (1920, 1080),
        (1080, 1080),
        (1024, 768),
        (640, 480),
    ]
    cuts = [(side, round(side * ratio)) for side in range(64, 641, 32) for ratio in (0.75, 1, 1.25)]
    return [photograph(*each) for each in [*sides, *cuts]]


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    """Return a picture as a file of a format by Pillow's name of it."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _drifting(at: int) -> list[Frame]:
    """Return frames of a photo from a column on."""
    part = data.astronaut()[0:200, at : at + 200]
    photo = cv2.resize(part, (WIDTH + FRAMES, HEIGHT), interpolation=cv2.INTER_AREA)
    return [np.ascontiguousarray(photo[:, shift : shift + WIDTH]) for shift in range(FRAMES)]


def _pictures(frame: Frame) -> dict[str, bytes]:
    image = Image.fromarray(frame)
    exif = Image.Exif()
    exif[0x0112] = 6  # the orientation
    heic = io.BytesIO()
    pillow_heif.from_pillow(image).save(heic, quality=60)
    return {
        "baseline.jpg": saved(image, "JPEG", exif=exif),
        "progressive.jpg": saved(image, "JPEG", progressive=True),
        "cmyk.jpg": saved(image.convert("CMYK"), "JPEG"),
        "colour.png": saved(image, "PNG"),
        "palette.png": saved(image.convert("P"), "PNG", transparency=0),
        "deep.png": cv2.imencode(".png", frame.astype(np.uint16) * 257)[1].tobytes(),
        "lossy.webp": saved(image, "WEBP", exif=exif),
        "lossless.webp": saved(image.convert("RGBA"), "WEBP", lossless=True),
        "picture.heic": heic.getvalue(),
        "picture.avif": saved(image, "AVIF", exif=exif),
        "picture.bmp": saved(image, "BMP"),
    }


def _video(
    path: Path,
    frames: Sequence[Frame],
    codec: str,
    pixels: str,
    coding: Mapping[str, str],
    muxing: Mapping[str, str],
) -> bytes:
    with av.open(str(path), "w", options=dict(muxing)) as container:
        stream = container.add_stream(codec, rate=Fraction(25 if codec == "mpeg2video" else FPS), options=dict(coding))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()
