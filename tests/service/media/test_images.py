import io
import resource
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.errors import ServiceError, TooManyPixels, UndecodableMedia, UnsupportedMediaType
from service.media.images import decode_image
from service.media.limits import DecodeLimits

LIMITS = DecodeLimits(max_pixels=1_000_000, max_video_s=60, max_frames=100)
FORMATS = ["JPEG", "PNG", "WEBP", "BMP"]
RED, BLUE = (255, 0, 0), (0, 0, 255)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(mode: str = "RGB") -> Image.Image:
    """32 x 16: red on the left, blue on the right."""
    image = Image.new("RGB", (32, 16), RED)
    image.paste(BLUE, (16, 0, 32, 16))
    return image.convert(mode)


def noise(width: int = 96, height: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_frame_is_contiguous_8_bit_rgb(kind: str) -> None:
    frame = decode_image(encode(halves(), kind), LIMITS)
    assert frame.shape == (16, 32, 3)
    assert frame.dtype == np.uint8
    assert frame.flags.c_contiguous
    assert frame[8, 4].tolist() == pytest.approx(RED, abs=3)
    assert frame[8, 28].tolist() == pytest.approx(BLUE, abs=3)


@pytest.mark.parametrize("kind", FORMATS)
def test_one_pixel_is_an_image(kind: str) -> None:
    assert decode_image(encode(Image.new("RGB", (1, 1), RED), kind), LIMITS).shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("WEBP", "RGB"), ("PNG", "RGBA"), ("WEBP", "RGBA")]
)
@pytest.mark.parametrize(
    ("orientation", "shape", "red_at"),
    [
        (1, (16, 32, 3), (8, 4)),
        (2, (16, 32, 3), (8, 28)),
        (3, (16, 32, 3), (8, 28)),
        (4, (16, 32, 3), (8, 4)),
        (5, (32, 16, 3), (4, 8)),
        (6, (32, 16, 3), (4, 8)),
        (7, (32, 16, 3), (28, 8)),
        (8, (32, 16, 3), (28, 8)),
    ],
)
def test_exif_orientation_is_applied(
    kind: str, orientation: int, shape: tuple[int, ...], red_at: tuple[int, int], mode: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = halves(mode)
    if mode == "RGBA":
        image.putpixel((0, 0), (0, 0, 0, 0))  # else WebP's encoder drops the opaque alpha
    frame = decode_image(encode(image, kind, exif=exif), LIMITS)
    assert frame.shape == shape
    assert frame[red_at].tolist() == pytest.approx(RED, abs=4)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_both_paths_agree_on_what_is_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif, "lossless": True} if kind == "WEBP" else {"exif": exif}
    opaque, transparent = noise(), noise().convert("RGBA")
    transparent.putpixel((0, 0), (1, 2, 3, 254))
    difference = np.abs(
        decode_image(encode(opaque, kind, **options), LIMITS).astype(int)
        - decode_image(encode(transparent, kind, **options), LIMITS)
    )
    assert np.count_nonzero(difference.max(axis=2)) == 1


@pytest.mark.parametrize(("mode", "alpha"), [("RGBA", 0), ("RGBA", 255), ("RGBA", 51), ("LA", 51)])
def test_transparency_is_blended_over_white(mode: str, alpha: int) -> None:
    colour = (100, 100, 100, alpha) if mode == "RGBA" else (100, alpha)
    frame = decode_image(encode(Image.new(mode, (4, 4), colour), "PNG"), LIMITS)
    expected = {0: 255, 255: 100, 51: 255 - 155 / 5}[alpha]
    assert frame[0, 0].tolist() == [expected] * 3


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    frame = decode_image(encode(image, "PNG", transparency=0), LIMITS)
    assert frame[0].tolist() == [[255, 255, 255], [40, 50, 60]]


def test_grey_cmyk_palette_bilevel_and_16_bit_become_rgb() -> None:
    assert decode_image(encode(Image.new("L", (8, 8), 77), "JPEG"), LIMITS)[0, 0].tolist() == [77, 77, 77]
    assert decode_image(encode(halves("CMYK"), "JPEG"), LIMITS)[8, 4].tolist() == pytest.approx(RED, abs=4)
    assert decode_image(encode(halves("P"), "PNG"), LIMITS)[8, 28].tolist() == [0, 0, 255]
    assert decode_image(encode(Image.new("1", (8, 8), 1), "PNG"), LIMITS)[0, 0].tolist() == [255, 255, 255]
    deep = Image.fromarray(np.full((8, 8), 0x80FF, dtype=np.uint16))
    assert decode_image(encode(deep, "PNG"), LIMITS)[0, 0].tolist() == [0x80, 0x80, 0x80]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(
        Image.new("RGB", (8, 8), RED), kind, save_all=True, append_images=[Image.new("RGB", (8, 8), BLUE)], **options
    )
    assert decode_image(data, LIMITS)[0, 0].tolist() == pytest.approx(RED, abs=1)


@pytest.mark.parametrize("kind", FORMATS)
def test_too_many_pixels_are_refused_and_the_limit_named(kind: str) -> None:
    data = encode(noise(96, 64), kind)
    assert decode_image(data, DecodeLimits(96 * 64, 60, 100)).shape == (64, 96, 3)
    with pytest.raises(TooManyPixels) as caught:
        decode_image(data, DecodeLimits(96 * 64 - 1, 60, 100))
    assert caught.value.limit == {"name": "AFFECT_MAX_PIXELS", "value": 96 * 64 - 1}
    assert "96 x 64" in caught.value.detail


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}])
def test_the_size_is_read_from_each_kind_of_webp(options: dict[str, object]) -> None:
    data = encode(noise(96, 64), "WEBP", **options)
    assert data[12:16] == {0: b"VP8 ", 1: b"VP8L" if "lossless" in options else b"VP8X"}[len(options)]
    with pytest.raises(TooManyPixels, match="96 x 64"):
        decode_image(data, DecodeLimits(1, 60, 100))


def test_a_bomb_is_refused_by_its_header_alone() -> None:
    # No pixels follow, so an attempt to decode would end as undecodable.
    with pytest.raises(TooManyPixels, match="20000 x 20000"):
        decode_image(png(20_000, 20_000), LIMITS)


def test_a_png_chunk_that_announces_gigabytes_is_refused_before_they_are_allocated() -> None:
    data = bytearray(encode(noise(), "PNG"))
    data[33:37] = b"\xff\xff\xff\x00"  # the length of the chunk after the header
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UndecodableMedia, match="incomplete"):
        decode_image(bytes(data), LIMITS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = encode(noise(), "JPEG", progressive=True)
    assert decode_image(data, LIMITS).shape == (64, 96, 3)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(UndecodableMedia, match="at least 101"):
        decode_image(data[:-2] + 100 * scan + data[-2:], LIMITS)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_cut_file_is_refused(kind: str, share: float) -> None:
    data = encode(noise(), kind)
    with pytest.raises(UndecodableMedia):
        decode_image(data[: int(len(data) * share)], LIMITS)


def test_a_cut_progressive_jpeg_is_refused() -> None:
    data = encode(noise(), "JPEG", progressive=True)
    with pytest.raises(UndecodableMedia):
        decode_image(data[:-2], LIMITS)


def test_wrong_checksums_and_impossible_sizes_are_refused() -> None:
    damaged = bytearray(encode(noise(), "PNG"))
    damaged[len(damaged) // 2] ^= 0xFF
    for data in (bytes(damaged), png(0, 5), png(5, 5), b"\xff\xd8\xff\xd9", b"\xff\xd8\xff"):
        with pytest.raises(UndecodableMedia):
            decode_image(data, LIMITS)


@pytest.mark.parametrize(
    "data", [b"", b"<svg/>", b"BMW drivers", b"RIFF\0\0\0\0AVI ", encode(halves(), "GIF"), encode(halves(), "TIFF")]
)
def test_other_formats_are_not_supported(data: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        decode_image(data, LIMITS)


STARTS = [encode(noise(12, 9), kind) for kind in FORMATS]
STARTS += [encode(noise(12, 9).convert("RGBA"), kind, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0") for kind in ("PNG", "WEBP")]


@settings(max_examples=300, deadline=None)
@given(
    start=st.sampled_from(STARTS),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 400),
    tail=st.binary(max_size=20),
)
def test_no_bytes_raise_anything_but_service_errors(
    start: bytes, changes: list[tuple[int, int]], cut: int, tail: bytes
) -> None:
    data = bytearray(start)
    for position, value in changes:
        data[position % len(data)] = value
    whole = bytes(data[: max(0, len(data) - cut)] if tail else data) + tail
    try:
        frame = decode_image(whole, LIMITS)
    except ServiceError:
        return
    assert frame.dtype == np.uint8
    assert frame.ndim == 3
    assert frame.shape[2] == 3
    assert frame.shape[0] * frame.shape[1] <= LIMITS.max_pixels
