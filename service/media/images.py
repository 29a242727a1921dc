"""Decodes an untrusted image file, under limits. All errors are ServiceErrors.

A file of a few kilobytes can claim 20,000 x 20,000 pixels. So its header is read first, which tells how many pixels a
decoder would allocate. Alpha is blended here, since cv2 leaves that to its caller.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from model_core.faces.geometry import Frame
from service.errors import UndecodableMedia, UnsupportedMediaType
from service.media.limits import DecodeLimits

# cv2 would print a line for each damaged upload, which concerns its client and not the log.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_MAX_JPEG_SEGMENTS = 10_000
_MAX_PNG_CHUNKS = 100_000
_MAX_JPEG_SCANS = 100
"""Encoders write about ten; each one makes the decoder visit every pixel, so thousands of empty ones stall it."""

_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers, less the tables that share their range."""

_ORIENTATION_TAG = 0x0112
_UPRIGHT: Mapping[int, Callable[[Frame], Frame]] = MappingProxyType(
    {
        1: lambda image: image,
        2: lambda image: image[:, ::-1],
        3: lambda image: image[::-1, ::-1],
        4: lambda image: image[::-1],
        5: lambda image: image.swapaxes(0, 1),
        6: lambda image: image[::-1].swapaxes(0, 1),
        7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
        8: lambda image: image.swapaxes(0, 1)[::-1],
    }
)
"""EXIF orientation -> the function that makes the stored image upright."""


def decode_image(data: bytes, limits: DecodeLimits) -> Frame:
    """Decode a JPEG, PNG, WebP or BMP: uint8 [H, W, 3] RGB, EXIF orientation applied; of an animation the first frame.

    Grey and CMYK become RGB, 16-bit samples keep their upper 8 bits, transparent pixels are blended over white, as
    viewers show them. Raises UnsupportedMediaType, TooManyPixels or UndecodableMedia, the last for cut files too.
    """
    header = read_image_header(data)
    limits.check_pixels(header.width, header.height)
    buffer = np.frombuffer(data, np.uint8)
    try:
        if header.alpha and (blended := decode_over_white(buffer)) is not None:
            return blended
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        image = None
    if image is None:
        raise UndecodableMedia("the image is damaged or incomplete")
    return np.asarray(image, dtype=np.uint8)


@dataclass(frozen=True)
class ImageHeader:
    """The header of an image file, before any rotation."""

    width: int
    """Width in pixels as stored."""
    height: int
    """Height in pixels as stored."""
    alpha: bool = False
    """True if pixels may be transparent."""


def read_image_header(data: bytes) -> ImageHeader:
    """Recognise JPEG, PNG, WebP or BMP by content and read its size.

    Raises UnsupportedMediaType for anything else, UndecodableMedia where the header is cut or makes no sense.
    """
    for name, (matches, read) in _READERS.items():
        if not matches(data):
            continue
        try:
            header = read(data)
        except (struct.error, IndexError):
            raise UndecodableMedia(f"the {name} file is incomplete") from None
        if header.width < 1 or header.height < 1:
            raise UndecodableMedia(f"the {name} file has no valid size in its header")
        return header
    raise UnsupportedMediaType("the content is not a JPEG, PNG, WebP or BMP image")


def decode_over_white(buffer: NDArray[np.uint8]) -> Frame | None:
    """Decode an image and blend it over white: upright uint8 [H, W, 3] RGB, or None where the decoder finds no alpha.

    `buffer` is uint8 [N], the file. Only unchanged decoding keeps alpha, and it leaves orientation and depth to us.
    """
    image, kinds, metadata = cv2.imdecodeWithMetadata(buffer, flags=cv2.IMREAD_UNCHANGED)
    if image is None or image.shape[2:] != (4,):
        return None
    pixels = np.asarray(image if image.dtype == np.uint8 else image // 256, dtype=np.uint8)
    # White minus the alpha-weighted distance to white, all in 8 bits.
    distance = cv2.multiply(255 - pixels[:, :, 2::-1], cv2.merge([pixels[:, :, 3]] * 3), scale=1 / 255)
    exif = dict(zip(kinds, metadata, strict=True)).get(cv2.IMAGE_METADATA_EXIF)
    return _upright(255 - np.asarray(distance, dtype=np.uint8), b"" if exif is None else exif.tobytes())


def _upright(image: Frame, exif: bytes) -> Frame:
    """Apply the orientation that a block of EXIF data gives; without a valid one the image is unchanged."""
    return np.ascontiguousarray(_UPRIGHT[_orientation(exif)](image))


def _orientation(exif: bytes) -> int:
    """Return the orientation tag, 1 to 8, of the first directory; 1 if it is missing or not valid."""
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


def _read_jpeg(data: bytes) -> ImageHeader:
    if data.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        raise UndecodableMedia(f"the JPEG file has more than {_MAX_JPEG_SCANS} scans")
    position = 2
    for _ in range(_MAX_JPEG_SEGMENTS):
        while data[position + 1] == 0xFF:  # fill bytes before a marker
            position += 1
        marker, length = struct.unpack_from(">xBH", data, position)
        if data[position] != 0xFF or marker == 0xDA:
            break
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return ImageHeader(width, height)
        position += 2 + length
    raise UndecodableMedia("the JPEG file has no size before its pixels")


def _read_png(data: bytes) -> ImageHeader:
    chunk, width, height, colour = struct.unpack_from(">4sIIxB", data, 12)
    if chunk != b"IHDR":
        raise UndecodableMedia("the PNG file does not begin with its header")
    # Colour types 4 and 6 carry alpha; for a palette or a colour key a chunk of its own does.
    alpha, position = colour in (4, 6), 8
    # All chunks are checked, since the decoder allocates and fills as many bytes as any of them announces, up to 4 GiB.
    for _ in range(_MAX_PNG_CHUNKS):
        length, chunk = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        alpha |= chunk == b"tRNS"
        if chunk == b"IEND":
            break
    if position > len(data) or chunk != b"IEND":
        raise UndecodableMedia("the PNG file is incomplete")
    return ImageHeader(width, height, alpha)


def _read_webp(data: bytes) -> ImageHeader:
    kind = data[12:16]
    if kind == b"VP8X":
        (flags,) = struct.unpack_from("<B", data, 20)
        width, height = (1 + int.from_bytes(struct.unpack_from("3s", data, at)[0], "little") for at in (24, 27))
        return ImageHeader(width, height, alpha=bool(flags & 0x10))
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return ImageHeader(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), alpha=bool(bits >> 28 & 1))
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader(width & 0x3FFF, height & 0x3FFF)
    raise UndecodableMedia("the WebP file does not begin with an image")


def _read_bmp(data: bytes) -> ImageHeader:
    (size,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 18)
    return ImageHeader(width, abs(height))  # a negative height means rows from the top


_BMP_HEADERS = frozenset(struct.pack("<I", size) for size in (12, 40, 52, 56, 64, 108, 124))
_READERS: Mapping[str, tuple[Callable[[bytes], bool], Callable[[bytes], ImageHeader]]] = MappingProxyType(
    {
        "JPEG": (lambda data: data.startswith(b"\xff\xd8\xff"), _read_jpeg),
        "PNG": (lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"), _read_png),
        "WebP": (lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _read_webp),
        # Many a text begins with these two letters; the header's size, which follows, makes sure.
        "BMP": (lambda data: data[:2] == b"BM" and data[14:18] in _BMP_HEADERS, _read_bmp),
    }
)
"""Format -> (test whether the content is of this format, reader of its header)."""
