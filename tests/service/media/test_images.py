import io
import resource
import struct
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from service.errors import ServiceError, TooManyPixels, UndecodableMedia, UnsupportedMediaType
from service.media.images import decode_image
from service.media.limits import DecodeLimits

LIMITS = DecodeLimits(max_pixels=1_000_000, max_video_s=60, max_frames=100)
FORMATS = ["JPEG", "PNG", "WEBP", "HEIF", "AVIF", "BMP"]
pillow_heif.register_heif_opener()  # for writing
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


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes = b"", *, depth: int = 8, colour: int = 2, before: bytes = b"") -> bytes:
    """A PNG of raw rows, each after a zero for its filter; `before` are chunks that come before the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_frame_is_contiguous_8_bit_rgb(kind: str) -> None:
    frame = decode_image(encode(halves(), kind), LIMITS)
    assert frame.shape == (16, 32, 3)
    assert frame.dtype == np.uint8
    assert frame.flags.c_contiguous
    assert frame[8, 4].tolist() == pytest.approx(RED, abs=4)
    assert frame[8, 28].tolist() == pytest.approx(BLUE, abs=4)


@pytest.mark.parametrize("kind", FORMATS)
def test_one_pixel_is_an_image(kind: str) -> None:
    assert decode_image(encode(Image.new("RGB", (1, 1), RED), kind), LIMITS).shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "CMYK"),
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("WEBP", "RGB"),
        ("WEBP", "RGBA"),
        ("HEIF", "RGB"),  # the encoders of these two move the orientation to the container
        ("AVIF", "RGB"),
    ],
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
    frame = decode_image(encode(image, kind, exif=exif.tobytes()), LIMITS)
    assert frame.shape == shape
    assert frame[red_at].tolist() == pytest.approx(RED, abs=8)


def turned_by(orientation: int) -> bytes:
    """EXIF data without their heading: after the camera's maker an orientation."""
    exif = Image.Exif()
    exif[0x010F] = "the maker of the camera"
    exif[0x0112] = orientation
    return exif.tobytes()[6:]


@pytest.mark.parametrize(
    ("position", "value"),
    [
        (0, b"XX"),
        (4, b"\xff\xff"),  # the offset of the entries
        (8, b"\xff\xff"),  # their number
        (12, b"\0\x02\xff\xff"),  # type and length of the maker
        (30, b"\0\x09"),  # the orientation itself
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
def test_damaged_exif_data_do_not_refuse_a_picture(kind: str, position: int, value: bytes) -> None:
    data = encode(noise(), kind, exif=b"Exif\0\0" + turned_by(1))
    start = data.rindex(b"MM\0*", 0, data.index(b"the maker")) + position
    damaged = data[:start] + value + data[start + len(value) :]
    with warnings.catch_warnings(record=True) as warned:
        assert decode_image(with_checksum(damaged), LIMITS).shape == (64, 96, 3)
    assert not warned


def with_checksum(data: bytes) -> bytes:
    """A PNG with the right checksum of its EXIF data; a file of another format as it is."""
    position = data.find(b"eXIf") - 4
    if not data.startswith(b"\x89PNG") or position < 0:
        return data
    end = position + 8 + int.from_bytes(data[position : position + 4])
    return data[:position] + chunk(b"eXIf", data[position + 8 : end]) + data[end + 4 :]


def test_a_heic_is_turned_by_its_container_alone() -> None:
    # So ISO/IEC 23008-12 has it. The encoder turns EXIF data into a property of the container if they come as bytes.
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(halves(), "HEIF", exif=exif.tobytes())
    told = encode(halves(), "HEIF", exif=exif)
    assert (turned.count(b"irot"), told.count(b"irot")) == (1, 0)
    assert decode_image(turned, LIMITS).shape == (32, 16, 3)
    assert decode_image(told, LIMITS).shape == (16, 32, 3)


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


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(
        Image.new("RGB", (8, 8), RED), kind, save_all=True, append_images=[Image.new("RGB", (8, 8), BLUE)], **options
    )
    assert decode_image(data, LIMITS)[0, 0].tolist() == pytest.approx(RED, abs=3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_those_of_opencv(kind: str, mode: str) -> None:
    data = encode(noise(97, 65).convert(mode), kind)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.array_equal(decode_image(data, LIMITS), expected)


def profile(**colorants: tuple[float, float, float]) -> bytes:
    """An ICC profile: sRGB but for these tags of XYZ values (rXYZ, gXYZ, bXYZ)."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for number in range(struct.unpack_from(">I", data, 128)[0]):
        tag, offset, _ = struct.unpack_from(">4sII", data, 132 + 12 * number)
        if tag.decode() in colorants:
            fixed = [round(value * 65536) for value in colorants[tag.decode()]]
            struct.pack_into(">3i", data, offset + 8, *fixed)
    return bytes(data)


DISPLAY_P3 = profile(
    rXYZ=(0.51512, 0.24120, -0.00105), gXYZ=(0.29198, 0.69225, 0.04189), bXYZ=(0.15710, 0.06657, 0.78407)
)
RED_IN_P3 = (234, 51, 35)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("JPEG", "RGB"), *((kind, mode) for kind in ("PNG", "WEBP", "HEIF", "AVIF") for mode in ("RGB", "RGBA"))],
)
def test_colours_of_a_wide_gamut_become_srgb(kind: str, mode: str) -> None:
    image = Image.new(mode, (16, 80), RED_IN_P3)
    if mode == "RGBA":
        image.putpixel((0, 0), (0, 0, 0, 0))  # else an encoder may drop the opaque alpha
    frame = decode_image(encode(image, kind, icc_profile=DISPLAY_P3, quality=100), LIMITS)
    assert frame[40, 8].tolist() == pytest.approx(RED, abs=6)


def test_a_palette_has_a_profile_too() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([*RED_IN_P3, 0, 0, 0])
    assert decode_image(encode(image, "PNG", icc_profile=DISPLAY_P3), LIMITS)[0, 0].tolist() == pytest.approx(
        RED, abs=3
    )


@pytest.mark.parametrize("icc", [profile(), b"no profile", DISPLAY_P3[:200]])
def test_srgb_and_damaged_profiles_change_no_pixel(icc: bytes) -> None:
    assert np.array_equal(decode_image(encode(noise(), "PNG", icc_profile=icc), LIMITS), np.asarray(noise()))


def test_a_profile_for_other_channels_changes_no_pixel() -> None:
    assert decode_image(encode(Image.new("L", (8, 8), 77), "PNG", icc_profile=DISPLAY_P3), LIMITS)[0, 0, 0] == 77


def test_ycck_of_photoshop_is_inverted() -> None:
    # Stored are Y 200, Cb and Cr 128 (no colour) and K 255 (no black), each from paper to ink: 200 of each ink.
    data = bytearray(encode(Image.new("CMYK", (16, 16), (55, 127, 127, 0)), "JPEG", quality=100))
    data[data.index(b"Adobe") + 11] = 2
    assert decode_image(bytes(data), LIMITS)[8, 8].tolist() == [55, 55, 55]


HALF_CLEAR = [round(255 - (255 - value) * 0x80 / 255) for value in (0x40, 0x50, 0x60)]


@pytest.mark.parametrize(
    ("depth", "colour", "pixel", "transparent", "shown"),
    [
        (1, 0, "80", None, [255] * 3),
        (1, 0, "00", "0000", [255] * 3),
        (1, 0, "00", "0001", [0] * 3),
        (2, 0, "80", None, [170] * 3),
        (2, 0, "80", "0002", [255] * 3),
        (2, 0, "80", "0102", [255] * 3),  # of a level only as many bits count as the samples have
        (4, 0, "70", None, [0x77] * 3),
        (4, 0, "70", "0007", [255] * 3),
        (8, 0, "70", "0071", [0x70] * 3),
        (8, 0, "70", "0070", [255] * 3),
        (8, 0, "70", "70", [0x70] * 3),  # too short to name a level
        (16, 0, "7001", None, [0x70] * 3),
        (16, 0, "7001", "7000", [0x70] * 3),
        (16, 0, "7001", "7001", [255] * 3),
        (8, 2, "102030", "001000200030", [255] * 3),
        (8, 2, "102030", "001000200031", [0x10, 0x20, 0x30]),
        (8, 2, "102030", "0010002000", [0x10, 0x20, 0x30]),
        (16, 2, "1001200230ff", None, [0x10, 0x20, 0x30]),
        (16, 2, "1001200230ff", "1001200230ff", [255] * 3),
        (8, 4, "4080", None, [HALF_CLEAR[0]] * 3),
        (16, 4, "40018002", None, [HALF_CLEAR[0]] * 3),
        (8, 6, "40506080", None, HALF_CLEAR),
        (16, 6, "4001500160018002", None, HALF_CLEAR),
        (8, 6, "40506080", "004000500060", HALF_CLEAR),
        (1, 3, "80", None, [0x40, 0x50, 0x60]),
        (2, 3, "40", "ff80", HALF_CLEAR),
        (4, 3, "10", "ff00", [255] * 3),
        (8, 3, "01", "00", [0x40, 0x50, 0x60]),
        (8, 3, "01", "", [0x40, 0x50, 0x60]),
        (8, 3, "01", "00" * 300, [0x40, 0x50, 0x60]),
    ],
)
def test_transparency_of_every_kind_of_png_is_over_white(
    depth: int, colour: int, pixel: str, transparent: str | None, shown: list[int]
) -> None:
    before = chunk(b"PLTE", bytes.fromhex("0a0b0c405060")) if colour == 3 else b""
    before += b"" if transparent is None else chunk(b"tRNS", bytes.fromhex(transparent))
    data = png(1, 1, b"\0" + bytes.fromhex(pixel), depth=depth, colour=colour, before=before)
    assert decode_image(data, LIMITS)[0, 0].tolist() == shown


@pytest.mark.parametrize("kind", [b"tEXt", b"tRNS", b"iCCP", b"eXIf", b"gAMA", b"bKGD"])
def test_a_damaged_chunk_beside_the_pixels_does_not_matter(kind: bytes) -> None:
    # The content would be valid for each kind that is read: a transparent colour, turned by orientation 6.
    content = {b"tRNS": b"\0a\0b\0c", b"eXIf": turned_by(6)}.get(kind, b"")
    for damage in (chunk(kind, content)[:-1] + b"x", chunk(kind, b"\xff" * 5)):
        assert decode_image(png(2, 1, b"\0abcdef", before=damage), LIMITS).tolist() == [[list(b"abc"), list(b"def")]]


def test_deep_grey_with_alpha_takes_four_bytes_a_pixel_beside_its_frame() -> None:
    side = 2000
    row = b"\0" + struct.pack(">HH", 0x80FF, 0xFFFF) * side
    data = png(side, side, row * side, depth=16, colour=4)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident_peak()
    frame = decode_image(data, DecodeLimits(side * side, 60, 100))
    assert frame[-1, -1].tolist() == [0x80] * 3
    assert (resident_peak() - before) / side**2 < 3 + 4 + 3


def resident_peak() -> int:
    """The largest resident memory so far, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def test_of_a_motion_photo_the_picture_counts() -> None:
    picture = encode(noise(), "JPEG")
    film = np.random.default_rng(0).bytes(100_000) + 1_000 * b"\xff\xda" + picture
    assert np.array_equal(decode_image(picture + film, LIMITS), decode_image(picture, LIMITS))


def test_of_several_jpegs_in_one_file_the_first_counts() -> None:
    data = encode(Image.new("RGB", (8, 8), RED), "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16), BLUE)])
    assert b"MPF" in data
    assert decode_image(data, LIMITS).shape == (8, 8, 3)


def test_a_damaged_picture_is_answered_without_a_line_in_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    jpeg = bytearray(encode(noise(256, 256), "JPEG"))
    jpeg[len(jpeg) // 2 : len(jpeg) // 2 + 500] = b""
    whole = encode(noise(), "PNG")
    checksum = chunk(b"gAMA", bytes(4))[:-1] + b"x"
    for data in (bytes(jpeg), whole[:33] + checksum + whole[33:], whole[:33] + chunk(b"iCCP", b"x\0\0ab") + whole[33:]):
        assert decode_image(data, LIMITS).shape[2] == 3
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for data in (bytes(jpeg[:-100]), bytes(flipped), whole[:-6]):
        with pytest.raises(UndecodableMedia):
            decode_image(data, LIMITS)
    assert capfd.readouterr() == ("", "")


def test_segments_of_other_programs_may_be_damaged() -> None:
    data = encode(noise(), "JPEG")
    broken = b"".join(
        marker + struct.pack(">H", 2 + len(content)) + content
        for marker, content in [
            (b"\xff\xed", b"Photoshop 3.0\0008BIM\3\xed\xff"),
            (b"\xff\xee", b"Adobe"),
            (b"\xff\xe2", b"MPF\0II"),
            (b"\xff\xe1", b"http://ns.adobe.com/xap/1.0/\0<"),
        ]
    )
    assert np.array_equal(decode_image(data[:2] + broken + data[2:], LIMITS), decode_image(data, LIMITS))


def test_text_in_a_png_is_not_unpacked() -> None:
    bomb = chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(1_000_000)))
    data = encode(noise(), "PNG")
    assert np.array_equal(decode_image(data[:33] + 200 * bomb + data[33:], LIMITS), np.asarray(noise()))


@pytest.mark.parametrize(
    "content",
    [
        b"x\0\0" + zlib.compress(bytes(20_000_000)),  # more than any profile has
        b"x\0\x09" + zlib.compress(DISPLAY_P3),  # an unknown method of compression
        b"x\0\0" + zlib.compress(DISPLAY_P3)[:40],
        b"x\0",
        b"",
    ],
)
def test_a_profile_of_a_png_that_cannot_be_unpacked_changes_no_pixel(content: bytes) -> None:
    data = encode(noise(), "PNG")
    changed = data[:33] + chunk(b"iCCP", content) + data[33:]
    assert np.array_equal(decode_image(changed, LIMITS), np.asarray(noise()))


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (b"\xff\xc9\0\x11\x08", "arithmetic-coded JPEG"),
        (b"\xff\xca\0\x11\x08", "arithmetic-coded JPEG"),
        (b"\xff\xc3\0\x11\x08", "lossless or hierarchical JPEG"),
        (b"\xff\xc1\0\x11\x0c", "12 bits a sample"),
    ],
)
def test_jpegs_that_few_programs_read_are_refused_by_name(frame: bytes, said: str) -> None:
    data = encode(noise(), "JPEG").replace(b"\xff\xc0\0\x11\x08", frame)
    with pytest.raises(UnsupportedMediaType, match=said):
        decode_image(data, LIMITS)


def test_scans_of_many_pixels_are_bounded() -> None:
    data = encode(Image.new("L", (5000, 5000)), "JPEG", progressive=True)
    limits = DecodeLimits(25_000_000, 60, 100)
    assert decode_image(data, limits).shape == (5000, 5000, 3)
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(UndecodableMedia, match="at least 81"):
        decode_image(data[:-2] + 90 * scan + data[-2:], limits)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}])
def test_a_damaged_byte_that_looks_like_a_marker_does_not_refuse_a_jpeg(options: dict[str, object]) -> None:
    data = bytearray(encode(noise(64, 32), "JPEG", **options))
    damaged = data.index(b"\xff\0", data.index(b"\xff\xda")) + 1
    for marker in range(0x01, 0x100):
        if marker != 0xD9:  # the end of the picture, which a progressive one cannot do without
            data[damaged] = marker
            assert decode_image(bytes(data), LIMITS).shape == (32, 64, 3), hex(marker)


def test_a_byte_0_that_was_damaged_costs_no_pixel() -> None:
    whole = encode(noise(), "JPEG")
    damaged = bytearray(whole)
    damaged[whole.index(b"\xff\0", whole.index(b"\xff\xda")) + 1] = 0xE1
    assert np.array_equal(decode_image(bytes(damaged), LIMITS), decode_image(whole, LIMITS))


def test_a_jpeg_of_damage_alone_is_refused() -> None:
    data = encode(noise(), "JPEG")
    with pytest.raises(UndecodableMedia, match="more than 10000"):
        decode_image(data[:-2] + 10_000 * b"\xff\x02" + data[-2:], LIMITS)


def test_segments_between_the_scans_of_a_jpeg_are_no_damage() -> None:
    data = encode(noise(), "JPEG", progressive=True)
    second = data.index(b"\xff\xc4", data.index(b"\xff\xda"))
    comment = b"\xff\xfe\0\x06text" + b"\xff"  # with a fill byte before the next marker
    assert np.array_equal(decode_image(data[:second] + comment + data[second:], LIMITS), decode_image(data, LIMITS))


@pytest.mark.parametrize("hidden", [b"\xff\xe1\xff\xf0", b"\xff\xc4\xff\xf0", b"\xff\xda\0", b"\xff\x02", b"\xff\xd0"])
def test_damage_does_not_hide_scans_from_their_limit(hidden: bytes) -> None:
    data = encode(noise(), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2] + hidden
    with pytest.raises(UndecodableMedia, match="at least 101"):
        decode_image(data[:-2] + 100 * scan + data[-2:], LIMITS)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("Memory allocation error: Unspecified: Allocating 150039567 bytes failed"),  # libheif's
        ValueError("Failed to decode image: Out of memory"),  # libavif's
    ],
)
def test_memory_that_runs_out_is_not_the_files_fault(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise error

    monkeypatch.setattr("service.media.images.JpegImageFile.load", exhausted)
    with pytest.raises(MemoryError):
        decode_image(encode(noise(), "JPEG"), LIMITS)


def test_memory_that_runs_out_in_opencv_is_not_the_files_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise opencv_error(cv2.Error.StsNoMem)

    for name in ("cvtColor", "rotate"):
        with monkeypatch.context() as patch:
            patch.setattr(cv2, name, exhausted)
            with pytest.raises(MemoryError):
                decode_image(encode(noise(), "JPEG", exif=b"Exif\0\0" + turned_by(6)), LIMITS)


def opencv_error(code: int) -> cv2.error:
    error = cv2.error("Insufficient memory")
    error.code = code
    return error


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
STARTS += [encode(noise(12, 9), "JPEG", progressive=True, icc_profile=DISPLAY_P3)]
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


def damaged(start: bytes, way: str, rng: np.random.Generator) -> bytes:
    """A copy of a file with one byte changed, cut off somewhere, or with up to 64 zeros written over it."""
    position = int(rng.integers(len(start)))
    if way == "byte":
        return start[:position] + bytes([start[position] ^ int(rng.integers(1, 256))]) + start[position + 1 :]
    if way == "cut":
        return start[:position]
    end = min(len(start), position + int(rng.integers(1, 65)))
    return start[:position] + bytes(end - position) + start[end:]


@pytest.mark.parametrize("way", ["byte", "cut", "zeros"])
@pytest.mark.parametrize("kind", FORMATS)
def test_each_damaged_file_gives_a_picture_or_a_service_error_and_no_line(
    kind: str, way: str, capfd: pytest.CaptureFixture[str]
) -> None:
    options = {} if kind == "BMP" else {"exif": b"Exif\0\0" + turned_by(6), "icc_profile": DISPLAY_P3}
    start = encode(noise(24, 18), kind, **options)
    rng = np.random.default_rng(0)
    with warnings.catch_warnings(record=True) as warned:
        for _ in range(60):
            with suppress(ServiceError):
                assert decode_image(damaged(start, way, rng), LIMITS).shape[2] == 3
    assert not warned
    assert capfd.readouterr() == ("", "")


def test_nearly_every_jpeg_with_a_damaged_byte_is_shown() -> None:
    start = encode(noise(), "JPEG")
    coded = start.index(b"\xff\xda") + 14  # behind the scan's header
    rng = np.random.default_rng(0)
    for _ in range(300):
        changed = start[:coded] + damaged(start[coded:-2], "byte", rng) + start[-2:]
        assert decode_image(changed, LIMITS).shape == (64, 96, 3)
