"""Recognises what a file is by its first bytes, whatever it is called, and says in a refusal what to send instead."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LOOKED_AT: Final = 4096
"""Number of bytes at the beginning of a file that are enough for every format here."""


class Kind(StrEnum):
    """The route that a format belongs to."""

    PICTURE = "picture"
    """Belongs to /analyze/frame."""
    VIDEO = "video"
    """Belongs to /analyze/video."""
    OTHER = "other"
    """Belongs to no route."""


@dataclass(frozen=True)
class Format:
    """A file format, and how its files begin."""

    name: str
    """Name with its article, as a refusal uses it: "found a PDF document"."""
    kind: Kind
    """The route for such content, if need be after a conversion."""
    pattern: bytes
    """Regular expression that the first bytes match."""
    advice: str = ""
    """What to do with it before it can be sent; empty where it is sent as it is, or cannot be sent at all."""

    def matches(self, data: bytes) -> bool:
        """Return True if a file that begins with `data` has this format."""
        return re.match(self.pattern, data[:LOOKED_AT], re.DOTALL) is not None


def _ftyp(*brands: bytes) -> bytes:
    """Return the pattern of an ISO base media file with one of these brands, the major one or a compatible one.

    The brands lie in one box at the beginning, in fours: first the major brand, then its version, then the others.
    """
    return rb"....ftyp(?:....){0,24}?(?:" + b"|".join(brands) + rb")"


_BOM: Final = rb"(?:\xef\xbb\xbf)?"
_MARKUP: Final = _BOM + rb"\s*(?=<).*?"
"""Begins like markup; what follows in a pattern may come after declarations and comments."""

_CONVERT: Final = "convert it to JPEG or PNG"
_DEVELOP: Final = "develop it and send the JPEG"
_DECODE: Final = "decode it and send the bytes"

JPEG: Final = Format("a JPEG picture", Kind.PICTURE, rb"\xff\xd8\xff")
PNG: Final = Format("a PNG picture", Kind.PICTURE, rb"\x89PNG\r\n\x1a\n")
WEBP: Final = Format("a WebP picture", Kind.PICTURE, rb"RIFF....WEBP")
# Many a text begins with these two letters; the header's size, which follows, makes sure.
BMP: Final = Format("a BMP picture", Kind.PICTURE, rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0")
AVIF: Final = Format("an AVIF picture", Kind.PICTURE, _ftyp(rb"avif", rb"avis"))
HEIC: Final = Format("a HEIC picture", Kind.PICTURE, _ftyp(rb"hei[cxms]", rb"hev[cxms]"))

_FORMATS: Final = (
    JPEG,
    PNG,
    WEBP,
    BMP,
    # Pictures in the container of MP4 carry its brands too, so they come before it.
    Format("a Canon CR3 raw photo", Kind.PICTURE, _ftyp(rb"crx "), _DEVELOP),
    AVIF,
    HEIC,
    Format("a HEIF picture that is neither HEIC nor AVIF", Kind.PICTURE, _ftyp(rb"mif[12]", rb"msf1"), _CONVERT),
    Format("an audio file", Kind.OTHER, rb"....ftypM4[AB] "),
    Format("a QuickTime MOV video", Kind.VIDEO, rb"....(?:ftypqt  |moov|mdat|wide|free|skip|pnot)"),
    Format("an MP4 video", Kind.VIDEO, rb"....(?:ftyp|styp)"),
    Format("a WebM video", Kind.VIDEO, rb"\x1aE\xdf\xa3.{0,60}?webm"),
    Format("a Matroska video", Kind.VIDEO, rb"\x1aE\xdf\xa3"),
    Format("an AVI video", Kind.VIDEO, rb"RIFF....AVI[ X\x19]"),
    Format("a GIF animation", Kind.VIDEO, rb"GIF8[79]a"),
    Format("an FLV video", Kind.VIDEO, rb"FLV\x01"),
    Format("a Windows Media (WMV) video", Kind.VIDEO, rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9"),
    Format("an MPEG program stream", Kind.VIDEO, rb"\0\0\x01[\xba\xb3]"),
    # A sync byte begins each packet of 188 bytes; recorders put four bytes of time before each.
    Format("an MPEG transport stream", Kind.VIDEO, rb"G.{187}G|.{4}G.{191}G"),
    Format("an Ogg file", Kind.VIDEO, rb"OggS"),
    Format("a RealMedia video", Kind.VIDEO, rb"\.RMF"),
    Format("a raw H.264 or H.265 stream", Kind.VIDEO, rb"\0{2,3}\x01[\x67\x27\x40\x42\x09\x06]"),
    Format("an HLS playlist", Kind.OTHER, _BOM + rb"#EXTM3U", "send the video itself, since no link is followed"),
    Format("a JPEG XL picture", Kind.PICTURE, rb"\xff\x0a|\0\0\0\x0cJXL ", _CONVERT),
    Format("a JPEG 2000 picture", Kind.PICTURE, rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", _CONVERT),
    Format("a Canon raw photo", Kind.PICTURE, rb"II\*\0....CR\x02|II\x1a\0\0\0HEAPCCDR", _DEVELOP),
    Format("a raw photo", Kind.PICTURE, rb"IIR[OS]\x08|IIU\0|FUJIFILMCCD-RAW|FOVb", _DEVELOP),
    # DNG, NEF and ARW are TIFF files by their first bytes.
    Format("a TIFF picture or a raw photo", Kind.PICTURE, rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]", _CONVERT),
    Format("a Photoshop document", Kind.PICTURE, rb"8BPS", _CONVERT),
    Format("an OpenEXR picture", Kind.PICTURE, rb"v/1\x01", _CONVERT),
    Format("an icon", Kind.PICTURE, rb"\0\0[\x01\x02]\0[^\0]\0..[\0\xff]", _CONVERT),
    Format("a Netpbm picture", Kind.PICTURE, rb"P[1-7][ \t\r\n]", _CONVERT),
    Format("a DICOM file", Kind.PICTURE, rb".{128}DICM", _CONVERT),
    Format("an audio file", Kind.OTHER, rb"ID3|fLaC|RIFF....WAVE|FORM....AIF|#!AMR|\xff[\xf1-\xf3\xf9-\xfb]"),
    Format("a PDF document", Kind.OTHER, rb"\s*%PDF-", "export its picture as JPEG or PNG"),
    Format("a PostScript document", Kind.OTHER, rb"%!PS|\xc5\xd0\xd3\xc6"),
    Format("a ZIP archive or an Office document", Kind.OTHER, rb"PK(?:\x03\x04|\x05\x06|\x07\x08)"),
    Format("an archive", Kind.OTHER, rb"\x1f\x8b|BZh[1-9]|\xfd7zXZ\0|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|.{257}ustar"),
    Format("an HTML page", Kind.OTHER, _MARKUP + rb"(?i:<!doctype html|<html[\s>])", "send what it links to"),
    Format("an SVG drawing", Kind.PICTURE, _MARKUP + rb"<svg[\s>/]", _CONVERT),
    Format("a DASH playlist", Kind.OTHER, _MARKUP + rb"<MPD[\s>]", "send the video itself, since no link is followed"),
    Format("an XML document", Kind.OTHER, _BOM + rb"\s*<\?xml"),
    Format("a data URL", Kind.OTHER, rb"(?i:data:[\w.+-]+/)", _DECODE),
    Format("Base64 text", Kind.OTHER, rb"/9j/|iVBORw0KGgo|UklGR|AAAA[A-Za-z]{2}Z0eX", _DECODE),
    Format("a JSON document", Kind.OTHER, _BOM + rb'\s*(?:\{\s*["}]|\[\s*[\[{"\]\d-])'),
    Format("text", Kind.OTHER, rb"[\t\r\n\x20-\x7e\x80-\xff]+\Z"),
    Format("nothing but zeros", Kind.OTHER, rb"\0{16,}\Z"),
)
"""All formats that are named; the first that matches counts."""

_SENDABLE: Final = {
    Kind.PICTURE: "send a JPEG, PNG, WebP, HEIC, AVIF or BMP picture",
    Kind.VIDEO: "send an MP4, MOV, WebM, Matroska, AVI, GIF, MPEG-TS, MPEG-PS, WMV, FLV or Ogg video",
}
_ROUTES: Final = {Kind.PICTURE: "/analyze/frame", Kind.VIDEO: "/analyze/video"}


def recognise(data: bytes) -> Format | None:
    """Return the format of a file by its first LOOKED_AT bytes, None for one that is not in the table."""
    return next((known for known in _FORMATS if known.matches(data)), None)


def describe(data: bytes) -> str | None:
    """Return what a file is by its first LOOKED_AT bytes, as in "a PDF document"; None if that is not known."""
    found = recognise(data)
    return None if found is None else found.name


def refusal(data: bytes, wanted: Kind) -> str:
    """Return the sentence that refuses a file: what was found, by its first LOOKED_AT bytes, and what to send.

    `wanted` is the kind that the route reads, PICTURE or VIDEO.
    """
    found = recognise(data)
    if found is None:
        return f"the content has no known format; {_SENDABLE[wanted]}"
    elsewhere = found.kind in _ROUTES and found.kind != wanted
    if elsewhere and not found.advice:
        return f"this is {found.name}: POST {_ROUTES[found.kind]}"
    if elsewhere:
        return f"found {found.name}; {found.advice} and POST {_ROUTES[found.kind]}"
    return f"found {found.name}; {found.advice or _SENDABLE[wanted]}"
