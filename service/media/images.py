"""Decodes an untrusted picture file, under limits, as viewers show it. All errors are ServiceErrors.

A file of a few kilobytes can claim 20,000 x 20,000 pixels, so its size is read and judged before any pixel. Pillow and
libheif decode; the plugin of the recognised format is called directly, so no other one ever sees the file.
"""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import cv2
import numpy as np
import pillow_heif
from PIL import Image, PngImagePlugin
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile

from model_core.faces.geometry import Frame
from service.errors import ServiceError, UndecodableMedia, UnsupportedMediaType
from service.media import formats
from service.media.colours import MAX_PROFILE_BYTES, to_srgb
from service.media.limits import DecodeLimits

# cv2 would print a line for each damaged upload, which concerns its client and not the log.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_ORIENTATION_TAG = 0x0112
_UPRIGHT: Mapping[int, Callable[[Frame], cv2.typing.MatLike]] = MappingProxyType(
    {
        1: lambda image: image,
        2: lambda image: cv2.flip(image, 1),
        3: lambda image: cv2.rotate(image, cv2.ROTATE_180),
        4: lambda image: cv2.flip(image, 0),
        5: cv2.transpose,
        6: lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
        7: lambda image: cv2.transpose(cv2.rotate(image, cv2.ROTATE_180)),
        8: lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
    }
)
"""EXIF orientation -> the function that makes the stored image upright."""


_NO_MEMORY = re.compile(r"[Oo]ut of memory|[Ii]nsufficient memory|Allocating \d+ bytes failed")
"""The words of libavif, OpenCV and libheif for a lack of memory, which is not the file's fault."""


class Picture(NamedTuple):
    """The content of a picture file, decoded and otherwise as stored."""

    pixels: Image.Image | Frame
    """A loaded picture of any mode, or uint8 [H, W, 3 or 4] RGB or RGBA."""
    exif: bytes = b""
    """The block of EXIF data, or empty."""
    profile: bytes = b""
    """The ICC profile of the colours, or empty."""


def decode_image(data: bytes, limits: DecodeLimits) -> Frame:
    """Decode a JPEG, PNG, WebP, HEIC, AVIF or BMP: upright uint8 [H, W, 3] sRGB; of an animation the first frame.

    Grey, CMYK and the colours of an ICC profile become sRGB, 16-bit samples keep their upper 8 bits, transparent pixels
    are blended over white. Raises UnsupportedMediaType, TooManyPixels or UndecodableMedia, the last for cut files too.
    A MemoryError is not the file's fault and passes.
    """
    found = formats.recognise(data)
    if found is None or found not in _READERS:
        raise UnsupportedMediaType(formats.refusal(data, formats.Kind.PICTURE))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damage that does not keep a picture from being shown
            picture = _READERS[found](data, limits)
            image = to_srgb(picture.pixels, picture.profile)
    except (ServiceError, MemoryError):
        raise
    except Exception as error:  # the decoders raise nearly every built-in type for damaged files
        if _NO_MEMORY.search(str(error)):
            raise MemoryError(str(error)) from error
        raise UndecodableMedia(f"found {found.name}, but it is damaged or incomplete") from error
    return np.asarray(_UPRIGHT[_orientation(picture.exif)](image), dtype=np.uint8)


def _orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, that a block of EXIF data gives; 1 if that is missing or not valid."""
    exif = exif.removeprefix(b"Exif\x00\x00")
    order = ">" if exif.startswith(b"MM") else "<"
    try:
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, offset)
        for position in range(offset + 2, offset + 2 + 12 * entries, 12):
            tag, value = struct.unpack_from(order + "H6xH", exif, position)
            if tag == _ORIENTATION_TAG and value in _UPRIGHT:
                return int(value)
    except struct.error:
        pass
    return 1


def _load(image: Image.Image, limits: DecodeLimits) -> Picture:
    """Decode the pixels of an opened picture, if they are within the limits."""
    limits.check_pixels(*image.size)
    image.load()
    return Picture(image, image.info.get("exif") or b"", image.info.get("icc_profile") or b"")


_MAX_JPEG_SEGMENTS = 10_000
_MAX_JPEG_SCANS = 100
_MAX_SCANNED_PIXELS = 2_000_000_000
"""Most scans times pixels: each scan makes the decoder visit all pixels, so that empty ones stall it at 0.6 ns each.
Encoders write about ten scans."""
_MAX_JPEG_DAMAGES = 1000
"""Damaged bytes of a scan from which a picture is refused; one with fewer is shown with its damage, as viewers do."""

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd8\xff]")
"""A marker outside of scans: not a fill byte, a restart or a start of image, which stand alone."""
_BEHIND_SCAN = re.compile(rb"\xff[\xc4\xcc\xd9-\xdd]")
"""A marker that may stand behind the coded data of a scan: tables, another scan, the end."""
_JPEG_DAMAGE = re.compile(rb"\xff[\x02-\xc3\xc5-\xcb\xcd-\xcf\xd8\xde-\xfe]")
"""Any other marker amid coded data, where it is a damaged byte."""
_PASSED_OVER = b"\xff\x01"
"""A marker that decoders pass over; at a damaged one they would give up the picture."""

_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_HUFFMAN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_OTHER_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7})
_ARITHMETIC_FRAMES = frozenset(range(0xC9, 0xD0)) - {0xCC}
_APPLICATION_DATA = frozenset({*range(0xE0, 0xF0), 0xFE})
_DECODED_DATA = (b"JFIF\0", b"Exif\0\0", b"ICC_PROFILE\0", b"Adobe")
"""Beginnings of the application's segments that matter here; Pillow would read others, and fail on damaged ones."""


def _read_jpeg(data: bytes, limits: DecodeLimits) -> Picture:
    """Read a JPEG. Of a motion photo, or one with a gain map, what lies behind the picture's end is not looked at."""
    kept: list[memoryview | bytes] = [memoryview(data)[:2]]
    scans = pixels = 0
    for marker, content, whole in _jpeg_segments(data):
        if marker == _START_OF_SCAN:
            scans += 1
            if scans > _MAX_JPEG_SCANS or scans * pixels > _MAX_SCANNED_PIXELS:
                raise UndecodableMedia(f"the JPEG file has too many scans, at least {scans}")
            kept.append(_mended(whole))
            continue
        if marker in _ARITHMETIC_FRAMES:
            raise UnsupportedMediaType("found an arithmetic-coded JPEG; save it with Huffman coding, as is usual")
        if marker in _OTHER_FRAMES:
            raise UnsupportedMediaType("found a lossless or hierarchical JPEG; save it as an ordinary JPEG or PNG")
        if marker in _HUFFMAN_FRAMES:
            bits, height, width = struct.unpack_from(">BHH", content)
            if bits != 8:
                raise UnsupportedMediaType(f"found a JPEG of {bits} bits a sample; save it with 8")
            limits.check_pixels(width, height)
            pixels = width * height
        if marker not in _APPLICATION_DATA or (len(content) >= 12 and bytes(content[:12]).startswith(_DECODED_DATA)):
            kept.append(whole)
    # Image.open would take pictures behind the first for further frames.
    image = JpegImageFile(io.BytesIO(b"".join(kept)))
    return _load_colours(image, limits) if image.mode == "RGB" else _load(image, limits)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Yield the marker, the content and the whole of each segment of the first picture in a JPEG file, and its end.

    The whole of a scan includes its coded data.
    """
    view = memoryview(data)
    position = _next_marker(data, 2, _JPEG_MARKER)
    for _ in range(_MAX_JPEG_SEGMENTS):
        if position >= len(data):
            return
        marker = data[position + 1]
        if marker == _END_OF_IMAGE:
            yield marker, view[:0], view[position : position + 2]
            return
        # Markers below C0 have no content.
        end = position + 2 + (int.from_bytes(data[position + 2 : position + 4]) if marker >= 0xC0 else 0)
        following = _next_marker(data, end, _BEHIND_SCAN if marker == _START_OF_SCAN else _JPEG_MARKER)
        yield marker, view[position + 4 : end], view[position:following]
        position = following
    raise UndecodableMedia(f"the JPEG file has more than {_MAX_JPEG_SEGMENTS} segments")


def _next_marker(data: bytes, position: int, marker: re.Pattern[bytes]) -> int:
    """Return where the next marker of a JPEG file begins, or the length of the file."""
    found = marker.search(data, position)
    return found.start() if found else len(data)


def _mended(scan: memoryview) -> memoryview | bytes:
    """Return a scan whose damaged bytes do not look like markers."""
    if _JPEG_DAMAGE.search(scan) is None:
        return scan
    mended, damages = _JPEG_DAMAGE.subn(_PASSED_OVER, scan, count=_MAX_JPEG_DAMAGES)
    if damages == _MAX_JPEG_DAMAGES:
        raise UndecodableMedia("the JPEG file is damaged throughout its pixels")
    return mended


def _load_colours(image: JpegImageFile, limits: DecodeLimits) -> Picture:
    """Load an opened colour JPEG; the decoder writes to an array, which saves two passes over the pixels."""
    width, height = image.size
    padded = np.zeros((height, width, 4), np.uint8)
    mode = "RGBX"
    shared = Image.frombuffer(mode, image.size, padded, "raw", mode, 0, 1)
    image._mode = mode
    image.tile = [tile._replace(args=(mode, "")) for tile in image.tile]
    image.im = shared.im
    picture = _load(image, limits)
    return picture._replace(pixels=np.asarray(cv2.cvtColor(padded, cv2.COLOR_RGBA2RGB), dtype=np.uint8))


_MAX_PNG_CHUNKS = 100_000
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_EXTRA_CHUNKS = frozenset({b"tRNS", b"iCCP", b"eXIf"})
"""Chunks of which the first counts."""
_GREY, _TRUECOLOUR = 0, 2
_MOST_COLOURS = 256
"""Size of the largest palette; a chunk with more transparencies is left out."""

# Pillow refuses a file with a larger profile, since a small one can unpack to gigabytes; honest ones exceed its 1 MiB.
PngImagePlugin.MAX_TEXT_CHUNK = MAX_PROFILE_BYTES


def _read_png(data: bytes, limits: DecodeLimits) -> Picture:
    """Read a PNG. Of an animation only the picture is looked at that programs show which know no animations."""
    image = PngImagePlugin.PngImageFile(io.BytesIO(_essential_png(data)))
    return _load(image, limits)


def _essential_png(data: bytes) -> bytes:
    """Return a PNG file without the chunks that its pixels, their colours and orientation do not depend on.

    So no text is unpacked, of which some megabytes can hold gigabytes. A chunk that ends behind the file is an error,
    and so is a wrong checksum of pixels; the other chunks with one are left out.
    """
    view = memoryview(data)
    kept: list[bytes | memoryview] = [_PNG_SIGNATURE]
    extra = set(_EXTRA_CHUNKS)
    depth, colour = struct.unpack_from(">BB", data, 24)
    position = len(_PNG_SIGNATURE)
    for _ in range(_MAX_PNG_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        if kind in _PIXEL_CHUNKS or kind in extra:
            extra.discard(kind)
            intact = zlib.crc32(view[position + 4 : end - 4]) == int.from_bytes(view[end - 4 : end])
            if not intact and kind in (b"IHDR", b"PLTE", b"IDAT"):
                raise UndecodableMedia(f"the PNG file is damaged: wrong checksum of a chunk {kind.decode()}")
            if intact and kind == b"tRNS" and colour in (_GREY, _TRUECOLOUR):
                kept.append(_transparent_level(data[position + 8 : end - 4], depth, colour))
            elif (intact and not (kind == b"tRNS" and length > _MOST_COLOURS)) or kind == b"IEND":
                kept.append(view[position:end])
        if kind == b"IEND":
            return b"".join(kept)
        position = end
    raise UndecodableMedia("the PNG file is incomplete")


def _transparent_level(content: bytes, depth: int, colour: int) -> bytes:
    """Return the chunk that names the transparent grey or colour, in the bits that Pillow brings samples to.

    These are 8, but the 16 of deep greys stay.
    """
    channels = 1 if colour == _GREY else 3
    if len(content) < 2 * channels:
        return b""
    levels = struct.unpack_from(f">{channels}H", content)
    if depth == 16:
        scaled = levels if colour == _GREY else tuple(level >> 8 for level in levels)
    else:
        scaled = tuple(level * 255 // (2**depth - 1) for level in levels)
    chunk = b"tRNS" + struct.pack(f">{channels}H", *(min(level, 0xFFFF) for level in scaled))
    return struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))


def _read_webp(data: bytes, limits: DecodeLimits) -> Picture:
    """Read a WebP by cv2, since Pillow takes 13 bytes a pixel for it, some of them before it tells the size."""
    kind = data[12:16]
    if kind == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width = 1 + (bits & 0x3FFF)
        height = 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    limits.check_pixels(width, height)
    image, kinds, blocks = cv2.imdecodeWithMetadata(np.frombuffer(data, np.uint8), flags=cv2.IMREAD_UNCHANGED)
    if image is None:
        raise UndecodableMedia("the WebP file is damaged or incomplete")
    metadata = {kind: block.tobytes() for kind, block in zip(kinds, blocks, strict=True)}
    pixels = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB, dst=image)
    return Picture(
        np.asarray(pixels, dtype=np.uint8),
        metadata.get(cv2.IMAGE_METADATA_EXIF, b""),
        metadata.get(cv2.IMAGE_METADATA_ICCP, b""),
    )


def _read_heic(data: bytes, limits: DecodeLimits) -> Picture:
    """Read a HEIC. The decoder turns it upright and says so in its EXIF data."""
    file = pillow_heif.open_heif(io.BytesIO(data))
    limits.check_pixels(*file.size)
    return _load(file.to_pillow(), limits)


def _read_avif(data: bytes, limits: DecodeLimits) -> Picture:
    """Read an AVIF. The decoder leaves it as stored and puts the container's orientation into the EXIF data."""
    image = AvifImageFile(io.BytesIO(data))
    return _load(image, limits)


def _read_bmp(data: bytes, limits: DecodeLimits) -> Picture:
    """Read a BMP. Pillow reads its size, and cv2 its pixels: Pillow unpacks run lengths by slow Python code.

    A fourth channel means nothing in many of these files, and is not looked at.
    """
    limits.check_pixels(*BmpImageFile(io.BytesIO(data)).size)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise UndecodableMedia("the BMP file is damaged or incomplete")
    return Picture(np.asarray(pixels, dtype=np.uint8))


_READERS: Final[Mapping[formats.Format, Callable[[bytes, DecodeLimits], Picture]]] = MappingProxyType(
    {
        formats.JPEG: _read_jpeg,
        formats.PNG: _read_png,
        formats.WEBP: _read_webp,
        formats.HEIC: _read_heic,
        formats.AVIF: _read_avif,
        formats.BMP: _read_bmp,
    }
)
"""Format -> the function that reads its files, and raises TooManyPixels before it decodes any pixel."""
