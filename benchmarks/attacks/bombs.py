"""Small files that claim much, and honest large ones, which must pass."""

import struct
import tempfile
import zlib
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
import pillow_heif
from av.packet import Packet
from av.video.stream import VideoStream
from PIL import Image

from benchmarks.attacks.seeds import FRAME_ROUTE, VIDEO_ROUTE, Media, saved

PASSES: Final = frozenset({200})
REFUSED: Final = frozenset({413, 415, 422})
CLAIMED_SAMPLES: Final = 60_000_000
CLAIMED_SIDE: Final = 60_000

MOST_FRAMES: Final = 1_000_000
MANY_FRAMES_PER_S: Final = 2000


@dataclass(frozen=True)
class Bomb:
    """A file that costs much, if it is believed."""

    media: Media
    expected: frozenset[int]
    """The statuses with which a service answers that is not taken in."""


def bombs(quick: bool) -> list[Bomb]:
    """Return the bombs and the honest large files; with `quick`, those alone that are made and answered in no time."""
    with tempfile.TemporaryDirectory() as folder:
        made = _pictures_that_claim() + _videos_that_claim(Path(folder))
        if not quick:
            made += _pictures_that_unpack() + _large_pictures() + _large_videos(Path(folder))
    return made


def _pictures_that_claim() -> list[Bomb]:
    small = Image.fromarray(np.full((48, 64, 3), 128, np.uint8))
    rows = zlib.compress(bytes(48 * (1 + 3 * 64)))
    text = 1000 * png_chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(4_000_000)))
    profile = png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(200_000_000)))
    jpeg = saved(small, "JPEG")
    claiming_jpeg = _with_jpeg_size(jpeg, CLAIMED_SIDE, CLAIMED_SIDE)
    heif = BytesIO()
    pillow_heif.from_pillow(small).save(heif)
    size, claimed = struct.pack(">II", 64, 48), struct.pack(">II", CLAIMED_SIDE, CLAIMED_SIDE)
    pictures = {
        "PNG of 3.6 gigapixels": (png(CLAIMED_SIDE, CLAIMED_SIDE, rows), REFUSED),
        "PNG with gigabytes of text": (png(64, 48, rows, text), PASSES),
        "PNG with a profile of 200 MB": (png(64, 48, rows, profile), PASSES),
        "PNG of 200,000 empty chunks": (png(64, 48, rows, 200_000 * png_chunk(b"IDAT", b"")), PASSES | REFUSED),
        "JPEG of 3.6 gigapixels": (claiming_jpeg, REFUSED),
        "JPEG, arithmetic-coded": (jpeg.replace(b"\xff\xc0\0\x11", b"\xff\xc9\0\x11"), REFUSED),
        "JPEG of 20,000 segments": (jpeg[:2] + 20_000 * b"\xff\xfe\0\x04ab" + jpeg[2:], PASSES | REFUSED),
        "WebP of 3.6 gigapixels": (_extended_webp(saved(small, "WEBP")), REFUSED),
        "BMP of 3.6 gigapixels": (_with_bmp_size(saved(small, "BMP"), CLAIMED_SIDE), REFUSED),
        # libheif believes the coded picture, which is small.
        "HEIC of 3.6 gigapixels": (heif.getvalue().replace(size, claimed), PASSES | REFUSED),
        "AVIF of 3.6 gigapixels": (saved(small, "AVIF").replace(size, claimed), REFUSED),
    }
    return [Bomb(Media(name, FRAME_ROUTE, content), expected) for name, (content, expected) in pictures.items()]


def _videos_that_claim(folder: Path) -> list[Bomb]:
    film = _grey_film(folder / "film.mp4")
    jpeg = saved(Image.new("RGB", (64, 48)), "JPEG")
    grown = _with_jpeg_size(jpeg, CLAIMED_SIDE, CLAIMED_SIDE)
    videos = {
        "MP4 of 60 million samples": (claiming_samples(film, CLAIMED_SAMPLES), REFUSED),
        "MP4 of 60 million samples in fragments": (claiming_fragments(film, CLAIMED_SAMPLES // 8, 8), REFUSED),
        "MP4 of two tracks of 60 million samples": (
            with_tracks(claiming_samples(film, CLAIMED_SAMPLES), 2),
            REFUSED,
        ),
        "MP4 of 2,000 tracks": (with_tracks(film, 2000), PASSES | REFUSED),
        "GIF of 4.3 gigapixels": (gif_of_one_pixel(65_535, 65_535), REFUSED),
        # The frame that is too large may lie behind the end, or be left out as damaged.
        "AVI whose second frame has 3.6 gigapixels": (mjpeg(folder / "grown.avi", [jpeg, grown]), PASSES | REFUSED),
        "VP8 whose frames have 268 megapixels": (_vp8_of_another_size(folder / "grown.webm"), PASSES | REFUSED),
    }
    return [Bomb(Media(name, VIDEO_ROUTE, content), expected) for name, (content, expected) in videos.items()]


def _pictures_that_unpack() -> list[Bomb]:
    pictures = {
        "PNG whose pixels unpack to 1 GB": (png(64, 48, _packed_zeros(1_000_000_000)), PASSES | REFUSED),
        "JPEG of 99 scans of 50 megapixels": (scanned_jpeg(7071, 99), REFUSED),
    }
    return [Bomb(Media(name, FRAME_ROUTE, content), expected) for name, (content, expected) in pictures.items()]


def _large_pictures() -> list[Bomb]:
    pixels = np.random.default_rng(0).integers(0, 256, (145, 215, 3)).astype(np.uint8)
    large = Image.fromarray(pixels).resize((8600, 5800))
    pictures = {
        "honest progressive JPEG of 50 megapixels": saved(large, "JPEG", progressive=True),
        "honest PNG of 49 megapixels": saved(Image.new("RGB", (7000, 7000)), "PNG", compress_level=1),
        "honest WebP of 49 megapixels": saved(Image.new("RGB", (7000, 7000)), "WEBP", lossless=True, method=0),
    }
    return [Bomb(Media(name, FRAME_ROUTE, content), PASSES) for name, content in pictures.items()]


def _large_videos(folder: Path) -> list[Bomb]:
    videos = {
        "GIF of 49 megapixels in 43 bytes": gif_of_one_pixel(7000, 7000),
        "honest MP4 of 3840 x 2160": _large_clip(folder / "large.mp4"),
    }
    return [Bomb(Media(name, VIDEO_ROUTE, content), PASSES) for name, content in videos.items()]


def _large_clip(path: Path) -> bytes:
    frame = np.random.default_rng(0).integers(0, 256, (2160, 3840, 3)).astype(np.uint8)
    frame = cv2.GaussianBlur(frame, (0, 0), 8).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def long_film(frames: int) -> bytes:
    """Return an honest MP4 of so many frames of 16 x 16 pixels, MANY_FRAMES_PER_S a second."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=MANY_FRAMES_PER_S, options={"g": "600"})
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
            first, later = _two_frames(stream)
            for number in range(frames):
                packet = Packet(later if number % 500 else first)
                packet.stream = stream
                packet.time_base = Fraction(1, MANY_FRAMES_PER_S)
                packet.pts = packet.dts = number
                packet.duration = 1
                packet.is_keyframe = number % 500 == 0
                container.mux(packet)
        return path.read_bytes()


def _two_frames(stream: VideoStream) -> tuple[bytes, bytes]:
    """Return a coded keyframe, and one that refers to it."""
    coded: list[bytes] = []
    for level in (100, 100):
        frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), level, np.uint8), "rgb24")
        coded += [bytes(packet) for packet in stream.encode(frame)]
    first, later = coded + [bytes(packet) for packet in stream.encode()]
    return first, later


def _grey_film(path: Path) -> bytes:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (96, 64))
    for _ in range(5):
        writer.write(np.full((64, 96, 3), 50, np.uint8))
    writer.release()
    return path.read_bytes()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a PNG chunk: its length, kind, content and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, packed: bytes, extra: bytes = b"") -> bytes:
    """Return an 8-bit colour PNG of a claimed size, whose rows are `packed`; further chunks stand before them."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")


def _packed_zeros(count: int) -> bytes:
    packer = zlib.compressobj()
    block = bytes(1_000_000)
    return b"".join(packer.compress(block) for _ in range(count // len(block))) + packer.flush()


def _with_jpeg_size(jpeg: bytes, width: int, height: int) -> bytes:
    place = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:place] + struct.pack(">HH", height, width) + jpeg[place + 4 :]


def scanned_jpeg(side: int, scans: int) -> bytes:
    """Return a progressive JPEG of one grey level whose last scan is there so many times."""
    jpeg = saved(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + (scans - 1) * scan + jpeg[-2:]


def _extended_webp(webp: bytes) -> bytes:
    side = (CLAIMED_SIDE - 1).to_bytes(3, "little")
    header = b"VP8X" + struct.pack("<I", 10) + bytes(4) + side + side
    return b"RIFF" + struct.pack("<I", len(webp) - 8 + len(header)) + b"WEBP" + header + webp[12:]


def _with_bmp_size(bmp: bytes, side: int) -> bytes:
    return bmp[:18] + struct.pack("<ii", side, side) + bmp[26:]


def mjpeg(path: Path, jpegs: list[bytes]) -> bytes:
    """Return a video of JPEG pictures, as they are, in the container that the path's suffix names."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number, jpeg in enumerate(jpegs):
            packet = Packet(jpeg)
            packet.stream = stream
            packet.time_base = Fraction(1, 10)
            packet.pts = packet.dts = number
            packet.is_keyframe = True
            container.mux(packet)
    return path.read_bytes()


def _vp8_of_another_size(path: Path) -> bytes:
    """Return a WebM whose header announces 64 x 48 pixels, and whose keyframes 16,383 x 16,383."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=10, options={"deadline": "realtime", "g": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 50, np.uint8), "rgb24")))
        container.mux(stream.encode())
    start = b"\x9d\x01\x2a"
    return path.read_bytes().replace(start + struct.pack("<HH", 64, 48), start + struct.pack("<HH", 16_383, 16_383))


def atom(kind: bytes, *parts: bytes) -> bytes:
    """Return a box of an MP4 file."""
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def table(kind: bytes, *numbers: int, flags: int = 0) -> bytes:
    """Return a box of an MP4 file that holds flags and 32-bit numbers."""
    return atom(kind, struct.pack(f">I{len(numbers)}I", flags, *numbers))


def _with_tables(film: bytes, *tables: bytes) -> bytes:
    """Return an MP4 file that OpenCV wrote with other tables of samples in the place of its own."""
    changed = bytearray(film)
    for new in tables:
        parents = [changed.index(kind) - 4 for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl")]
        begin = changed.index(new[4:8]) - 4
        (size,) = struct.unpack_from(">I", changed, begin)
        changed[begin : begin + size] = new
        for parent in parents:
            (length,) = struct.unpack_from(">I", changed, parent)
            struct.pack_into(">I", changed, parent, length + len(new) - size)
    return bytes(changed)


def with_tracks(film: bytes, tracks: int) -> bytes:
    """Return an MP4 file that OpenCV wrote with its one track described so many times."""
    changed = bytearray(film)
    index, begin = (changed.index(kind) - 4 for kind in (b"moov", b"trak"))
    (length,) = struct.unpack_from(">I", changed, index)
    (size,) = struct.unpack_from(">I", changed, begin)
    copies = (tracks - 1) * bytes(changed[begin : begin + size])
    struct.pack_into(">I", changed, index, length + len(copies))
    changed[begin:begin] = copies
    return bytes(changed)


def claiming_samples(film: bytes, samples: int) -> bytes:
    """Return an MP4 file that OpenCV wrote which claims so many frames of one byte, in tables of a few bytes."""
    return _with_tables(
        film,
        table(b"stsz", 1, samples),
        table(b"stts", 1, samples, 1),
        table(b"stsc", 1, 1, samples, 1),
    )


def claiming_fragments(film: bytes, samples: int, runs: int) -> bytes:
    """Return an MP4 file whose frames are in one fragment, which claims so many runs of so many frames each."""
    empty = _with_tables(film, *(table(kind, 0) for kind in (b"stts", b"stsc", b"stco")), table(b"stsz", 0, 0))
    begin = empty.index(b"moov") - 4
    (size,) = struct.unpack_from(">I", empty, begin)
    defaults = atom(b"mvex", table(b"trex", 1, 1, 1, 1, 0))
    index = struct.pack(">I", size + len(defaults)) + empty[begin + 4 : begin + size] + defaults
    track = atom(b"traf", table(b"tfhd", 1, flags=0x20000), *[table(b"trun", samples)] * runs)
    return empty[:begin] + index + atom(b"moof", table(b"mfhd", 1), track) + atom(b"mdat", bytes(64))


def gif_of_one_pixel(width: int, height: int) -> bytes:
    """Return a GIF file of 43 bytes whose only picture is one pixel of a large screen."""
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    delay = b"\x21\xf9\x04\0\0\0\0\0"
    return b"GIF89a" + screen + delay + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0;"
