"""Decodes an untrusted picture file, under limits, as viewers show it. All errors are ServiceErrors.

A file of a few kilobytes can claim 20,000 x 20,000 pixels, so its size is read and judged before any pixel. Pillow and
libheif decode; the plugin of the recognised format is called directly, so no other one ever sees the file.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import cv2
import numpy as np
import pillow_heif
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

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

_OUT_OF_MEMORY = re.compile(r"Out of memory|Allocating \d+ bytes failed")
"""What libavif and libheif say where memory runs out. "Memory allocation error" alone is also said of damaged sizes."""


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
        picture = _READERS[found](data, limits)
        image = to_srgb(picture.pixels, picture.profile)
        return np.asarray(_UPRIGHT[_orientation(picture.exif)](image), dtype=np.uint8)
    except (ServiceError, MemoryError):
        raise
    except Exception as error:  # the decoders raise nearly every built-in type for damaged files
        if _is_lack_of_memory(error):
            raise MemoryError from error
        raise UndecodableMedia(f"found {found.name}, but it is damaged or incomplete") from error


def _is_lack_of_memory(error: Exception) -> bool:
    """Return whether an error of a decoder means that memory ran out: OpenCV's by its code, others by their words."""
    if isinstance(error, cv2.error):
        return error.code == cv2.Error.StsNoMem
    return _OUT_OF_MEMORY.search(str(error)) is not None


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
"""Most segments and damaged bytes that look like one; whole files, and damaged ones worth showing, have far fewer."""

_MAX_JPEG_SCANS = 100
_MAX_SCANNED_PIXELS = 2_000_000_000
"""Most scans times pixels: each scan makes the decoder visit all pixels, so that empty ones stall it at 0.6 ns each.
Encoders write about ten scans."""

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker; not a stuffed byte, a fill byte or a restart, which may stand within coded data."""
_SCAN_HEADER = re.compile(rb"\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
"""The length of a scan's header and the number of its components, which go together."""

_DAMAGE = 0x00
"""Stands for a marker that is none: coded data of which a byte is damaged."""
_START_OF_IMAGE = 0xD8
_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA
_HUFFMAN_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_OTHER_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xDE})
_ARITHMETIC_FRAMES = frozenset(range(0xC9, 0xD0)) - {0xCC}
_APPLICATION_DATA = frozenset({*range(0xE0, 0xF0), 0xFE})
_BETWEEN_SCANS = _APPLICATION_DATA | {0xC4, 0xDB, 0xDC, 0xDD}
"""Tables, the number of lines, the restart interval, and what an application adds."""
_EXIF = b"Exif\0\0"
_DECODED_DATA = (b"JFIF\0", b"ICC_PROFILE\0", b"Adobe")
"""Beginnings of the application's segments that the decoder needs; it would fail on others that are damaged."""


def _read_jpeg(data: bytes, limits: DecodeLimits) -> Picture:
    """Read a JPEG. Of a motion photo, or one with a gain map, what lies behind the picture's end is not looked at."""
    view = memoryview(data)
    kept: list[bytes | memoryview] = []
    exif = b""
    scans = pixels = begin = 0
    for marker, content, end in _jpeg_segments(data):
        if marker == _DAMAGE:  # the decoder would refuse the picture for a marker, but not for wrong pixels
            kept += [view[begin : content - 1], b"\0"]
            begin = content
        elif marker == _START_OF_SCAN:
            scans += 1
            if scans > _MAX_JPEG_SCANS or scans * pixels > _MAX_SCANNED_PIXELS:
                raise UndecodableMedia(f"the JPEG file has too many scans, at least {scans}")
        elif marker in _ARITHMETIC_FRAMES:
            raise UnsupportedMediaType("found an arithmetic-coded JPEG; save it with Huffman coding, as is usual")
        elif marker in _OTHER_FRAMES:
            raise UnsupportedMediaType("found a lossless or hierarchical JPEG; save it as an ordinary JPEG or PNG")
        elif marker in _HUFFMAN_FRAMES:
            bits, height, width = struct.unpack_from(">BHH", data, content)
            if bits != 8:
                raise UnsupportedMediaType(f"found a JPEG of {bits} bits a sample; save it with 8")
            limits.check_pixels(width, height)
            pixels = width * height
        elif marker in _APPLICATION_DATA and (end - content < 12 or not data.startswith(_DECODED_DATA, content)):
            if data.startswith(_EXIF, content):
                exif = exif or data[content:end]
            kept.append(view[begin : content - 4])
            begin = end
    kept.append(view[begin:])
    # Image.open would take pictures behind the first for further frames.
    image = JpegImageFile(io.BytesIO(b"".join(kept)))
    picture = _load_colours(image, limits) if image.mode == "RGB" else _load(image, limits)
    return picture._replace(exif=exif)


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


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker of each segment of the first picture in a JPEG file, and where its content begins and ends.

    Where a damaged byte of coded data looks like a marker, _DAMAGE is yielded; the content, which is empty, lies behind
    the byte 0xFF and another.
    """
    position = 2
    is_coded = False
    for _ in range(_MAX_JPEG_SEGMENTS):
        found = _JPEG_MARKER.search(data, position)
        if found is None or found[0][-1] == _END_OF_IMAGE:
            return
        marker = found[0][-1]
        position = found.end()
        if is_coded and not _follows_a_scan(data, marker, position):
            yield _DAMAGE, position, position
        elif marker >= 0xC0 and marker != _START_OF_IMAGE:  # these have content
            (length,) = struct.unpack_from(">H", data, position)
            yield marker, position + 2, position + length
            position += length
            is_coded = marker == _START_OF_SCAN
    raise UndecodableMedia(f"the JPEG file has more than {_MAX_JPEG_SEGMENTS} segments")


def _follows_a_scan(data: bytes, marker: int, position: int) -> bool:
    """Return whether a marker behind coded data, with its content from `position`, is one and not damage."""
    if marker == _START_OF_SCAN:
        return _SCAN_HEADER.match(data, position) is not None
    end = position + int.from_bytes(data[position : position + 2])
    return marker in _BETWEEN_SCANS and data[end : end + 1] == b"\xff" and data[end + 1 : end + 2] != b"\0"


_MAX_PNG_CHUNKS = 100_000
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT"})
_GREY = 0
_TRUECOLOUR = 2
_PALETTE = 3


def _read_png(data: bytes, limits: DecodeLimits) -> Picture:
    """Read a PNG. Of an animation only the picture is looked at that programs show which know no animations.

    Pillow sees only the chunks that make up the pixels, in which a wrong checksum is an error. Of EXIF data, profile
    and transparency the first whole chunk counts. No text is unpacked, of which some megabytes can hold gigabytes.
    """
    view = memoryview(data)
    kept: list[bytes | memoryview] = [_PNG_SIGNATURE]
    extra: dict[bytes, bytes] = {}
    depth, colour = struct.unpack_from(">BB", data, 24)
    for kind, begin, end in _png_chunks(data):
        intact = zlib.crc32(view[begin + 4 : end - 4]) == int.from_bytes(view[end - 4 : end])
        if kind in _PIXEL_CHUNKS:
            if not intact:
                raise UndecodableMedia(f"the PNG file is damaged: wrong checksum of a chunk {kind.decode()}")
            kept.append(view[begin:end])
        elif kind in (b"tRNS", b"iCCP", b"eXIf") and intact and kind not in extra:
            extra[kind] = data[begin + 8 : end - 4]
            if kind == b"tRNS":
                kept.append(_transparency(extra[kind], depth, colour))
    kept.append(_png_chunk(b"IEND", b""))
    image = PngImageFile(io.BytesIO(b"".join(kept)))
    return _load(image, limits)._replace(
        exif=extra.get(b"eXIf", b""), profile=_unpacked_profile(extra.get(b"iCCP", b""))
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk of a PNG file to its end, and where the chunk begins and ends, checksum included."""
    position = len(_PNG_SIGNATURE)
    for _ in range(_MAX_PNG_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        if kind == b"IEND":
            return
        yield kind, position, end
        position = end
    raise UndecodableMedia("the PNG file is incomplete")


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a PNG chunk: its length, kind, content and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _transparency(content: bytes, depth: int, colour: int) -> bytes:
    """Return the chunk for the transparent grey or colour, or the palette's alpha; empty if its length is wrong.

    The levels are what Pillow makes of samples of `depth` bits: 8 bits each, but 16 of 16-bit grey.
    """
    if colour == _PALETTE:
        return _png_chunk(b"tRNS", content) if 1 <= len(content) <= 256 else b""
    channels = {_GREY: 1, _TRUECOLOUR: 3}.get(colour)
    if channels is None or len(content) != 2 * channels:
        return b""
    largest = 2**depth - 1
    levels = [level & largest for level in struct.unpack(f">{channels}H", content)]
    if depth < 16:
        levels = [level * 255 // largest for level in levels]
    elif colour == _TRUECOLOUR:
        levels = [level >> 8 for level in levels]
    return _png_chunk(b"tRNS", struct.pack(f">{channels}H", *levels))


def _unpacked_profile(content: bytes) -> bytes:
    """Return the ICC profile of a PNG chunk; empty if it is damaged. A few kilobytes can unpack to gigabytes."""
    _, _, packed = content.partition(b"\0\0")  # behind a name, and 0 for the method of compression
    try:
        return zlib.decompressobj().decompress(packed, MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return b""


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
    """Read a HEIC. The decoder turns it upright as the container says, and its EXIF data count for nothing."""
    file = pillow_heif.open_heif(io.BytesIO(data))
    limits.check_pixels(*file.size)
    return _load(file.to_pillow(), limits)._replace(exif=b"")


_AVIF_EXIF_ITEM = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))Exif", re.DOTALL)
"""The entry of the EXIF data in a container's list of items, by section 8.11.6 of ISO/IEC 14496-12."""


def _read_avif(data: bytes, limits: DecodeLimits) -> Picture:
    """Read an AVIF. The decoder leaves it as stored and puts the container's orientation into the EXIF data.

    The file's own EXIF data count for nothing in this format, but the decoder would refuse a picture for damage there,
    so they become an item of a type that it passes over.
    """
    image = AvifImageFile(io.BytesIO(_AVIF_EXIF_ITEM.sub(rb"\1skip", data)))
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
