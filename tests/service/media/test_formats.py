import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service.media.demuxing import FORMATS
from service.media.formats import LOOKED_AT, Kind, describe, recognise, refusal


def saved(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    box = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return struct.pack(">I", len(box) + 4) + box + b"\0\0\0\x08free"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("JPEG", "a JPEG picture"),
        ("PNG", "a PNG picture"),
        ("WEBP", "a WebP picture"),
        ("BMP", "a BMP picture"),
        ("AVIF", "an AVIF picture"),
        ("GIF", "a GIF animation"),
        ("TIFF", "a TIFF picture or a raw photo"),
        ("JPEG2000", "a JPEG 2000 picture"),
        ("ICO", "an icon"),
        ("PPM", "a Netpbm picture"),
        ("PDF", "a PDF document"),
        ("EPS", "a PostScript document"),
    ],
)
def test_files_as_written_by_a_library(kind: str, name: str) -> None:
    assert describe(saved(kind)) == name


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (ftyp(b"heic", b"mif1", b"heic"), "a HEIC picture"),
        (ftyp(b"mif1", b"mif1", b"heic"), "a HEIC picture"),
        (ftyp(b"mif1", b"avif", b"miaf"), "an AVIF picture"),
        (ftyp(b"mif1", b"jpeg"), "a HEIF picture that is neither HEIC nor AVIF"),
        (ftyp(b"crx ", b"crx ", b"isom"), "a Canon CR3 raw photo"),
        (ftyp(b"qt  ", b"qt  "), "a QuickTime MOV video"),
        (ftyp(b"isom", b"iso2", b"avc1", b"mp41"), "an MP4 video"),
        (ftyp(b"M4A ", b"isom"), "an audio file"),
        (b"\0\0\x10\0moov", "a QuickTime MOV video"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", "a WebM video"),
        (b"\x1aE\xdf\xa3\xa3B\x82\x88matroska", "a Matroska video"),
        (b"RIFF\0\0\0\0AVI LIST", "an AVI video"),
        (b"RIFF\0\0\0\0WAVEfmt ", "an audio file"),
        (b"FLV\x01\x05", "an FLV video"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa", "a Windows Media (WMV) video"),
        (b"\0\0\x01\xba\x44", "an MPEG program stream"),
        ((b"G" + bytes(187)) * 3, "an MPEG transport stream"),
        ((b"time" + b"G" + bytes(187)) * 3, "an MPEG transport stream"),
        (b"OggS\0\x02", "an Ogg file"),
        (b"\0\0\0\x01\x67\x42", "a raw H.264 or H.265 stream"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "an HLS playlist"),
        (b"\xff\x0a\xfa\x7f", "a JPEG XL picture"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
        (b"II*\0\x10\0\0\0CR\x02\0", "a Canon raw photo"),
        (b"IIU\0\x18\0\0\0", "a raw photo"),
        (b"8BPS\0\x01", "a Photoshop document"),
        (bytes(128) + b"DICM", "a DICOM file"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"PK\x03\x04\x14", "a ZIP archive or an Office document"),
        (b"\x1f\x8b\x08", "an archive"),
        (b"<!DOCTYPE html><html><svg></svg></html>", "an HTML page"),
        (b"<svg/>", "an SVG drawing"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a drawing -->\n<svg xmlns='x'>", "an SVG drawing"),
        (b"<?xml version='1.0'?>\n<MPD type='static'>", "a DASH playlist"),
        (b"<?xml version='1.0'?><note/>", "an XML document"),
        (b"data:image/png;base64,iVBORw0KGgo", "a data URL"),
        (b"/9j/4AAQSkZJRg", "Base64 text"),
        (b'{"image": "..."}', "a JSON document"),
        (b"[1, 2]", "a JSON document"),
        (b"BMW drivers", "text"),
        ("Grüße\n".encode(), "text"),
        (bytes(64), "nothing but zeros"),
        (b"", None),
        (b"\x01\x02\x03\x04", None),
    ],
)
def test_files_by_their_first_bytes(data: bytes, name: str | None) -> None:
    assert describe(data) == name


@pytest.mark.parametrize(
    ("data", "wanted", "sentence"),
    [
        (b"GIF89a", Kind.PICTURE, "this is a GIF animation: POST /analyze/video"),
        (b"FLV\x01", Kind.PICTURE, "this is an FLV video: POST /analyze/video"),
        (b"\xff\xd8\xff\xe0", Kind.VIDEO, "this is a JPEG picture: POST /analyze/frame"),
        (b"8BPS", Kind.PICTURE, "found a Photoshop document; convert it to JPEG or PNG"),
        (
            b"8BPS",
            Kind.VIDEO,
            "found a Photoshop document; convert it to JPEG or PNG and POST /analyze/frame",
        ),
        (b"/9j/4AAQ", Kind.PICTURE, "found Base64 text; decode it and send the bytes"),
        (
            b"PK\3\4",
            Kind.VIDEO,
            "found a ZIP archive or an Office document; send an MP4, MOV, WebM, Matroska, AVI, GIF, MPEG-TS, MPEG-PS, "
            "WMV, FLV or Ogg video",
        ),
        (b"\1\2\3", Kind.PICTURE, "the content has no known format; send a JPEG, PNG, WebP, HEIC, AVIF or BMP picture"),
    ],
)
def test_a_refusal_says_what_was_found_and_what_to_do(data: bytes, wanted: Kind, sentence: str) -> None:
    assert refusal(data, wanted) == sentence


@given(st.binary(max_size=64))
def test_only_the_first_bytes_count(data: bytes) -> None:
    data = data.ljust(LOOKED_AT, b"\1")
    assert recognise(data) == recognise(data + b"more")


def test_a_refusal_names_every_container_that_is_read() -> None:
    sentence = refusal(b"hello", Kind.VIDEO)
    assert all(form.name in sentence for form in FORMATS)
