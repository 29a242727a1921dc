"""Damages files: a copy of one, changed in one or two of several ways, all by one seeded generator."""

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import Final

from benchmarks.attacks.seeds import Media

HEAD_BYTES: Final = 512
"""Beginning of a file in which half of the damage lies, since there are the numbers that decoders trust."""

EXTREMES: Final = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
"""Numbers at which lengths and counts overflow."""

_NAME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9 ]{3}")
"""The name of a box, a chunk or a stream: MP4, PNG and RIFF put a length before or behind it."""

Way = Callable[[bytes, bytes, Random], bytes]


def mutated(whole: Media, others: Sequence[Media], rng: Random) -> Media:
    """Return a damaged copy of a file, which may take parts from one of `others`."""
    names = [rng.choice(list(WAYS)) for _ in range(rng.choice((1, 1, 2)))]
    content = whole.content
    for name in names:
        content = WAYS[name](content, rng.choice(others).content, rng)
    return Media(f"{whole.name}, {' and '.join(names)}", whole.route, content)


def damaged(content: bytes, rng: Random) -> bytes:
    """Return a damaged copy of any bytes."""
    return WAYS[rng.choice(list(WAYS))](content, content, rng)


def _place(content: bytes, rng: Random) -> int:
    """Return a position in a file, in every second case one near its beginning."""
    end = len(content) if rng.random() < 0.5 else min(len(content), HEAD_BYTES)
    return rng.randrange(max(1, end))


def _bits_flipped(content: bytes, other: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16)) if content else 0):
        changed[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _bytes_replaced(content: bytes, _: bytes, rng: Random) -> bytes:
    place = _place(content, rng)
    length = rng.choice((1, 2, 4, 8, 64))
    value = rng.choice((0, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return content[:place] + bytes([value]) * len(content[place : place + length]) + content[place + length :]


def _cut_off(content: bytes, _: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _part_removed(content: bytes, _: bytes, rng: Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + content[place + rng.randrange(1, 256) :]


def _part_repeated(content: bytes, _: bytes, rng: Random) -> bytes:
    place = _place(content, rng)
    part = content[place : place + rng.randrange(1, 256)]
    return content[:place] + part * rng.randrange(2, 50) + content[place:]


def _noise_inserted(content: bytes, _: bytes, rng: Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + rng.randbytes(rng.randrange(1, 256)) + content[place:]


def _number_replaced(content: bytes, _: bytes, rng: Random) -> bytes:
    return _with_number(content, _place(content, rng), rng)


def _length_replaced(content: bytes, _: bytes, rng: Random) -> bytes:
    """Change the number before or behind a name of four letters."""
    found = _NAME.finditer(content[: 16 * HEAD_BYTES])
    places = [match.start() + offset for match in found for offset in (-4, 4) if match.start() >= 4]
    return _with_number(content, rng.choice(places) if places else _place(content, rng), rng)


def _with_number(content: bytes, place: int, rng: Random) -> bytes:
    size = rng.choice((2, 4, 4))
    number = rng.choice((*EXTREMES, rng.randrange(1 << 24))) & ((1 << 8 * size) - 1)
    written = number.to_bytes(size, rng.choice(("big", "little")))
    return content[:place] + written + content[place + size :]


def _spliced(content: bytes, other: bytes, rng: Random) -> bytes:
    return content[: _place(content, rng)] + other[_place(other, rng) :]


def _headed_by_another(content: bytes, other: bytes, rng: Random) -> bytes:
    length = rng.choice((8, 12, 16, 32, 64, 256))
    return other[:length] + content[length:]


def _followed_by_another(content: bytes, other: bytes, _: Random) -> bytes:
    return content + other


WAYS: Final[Mapping[str, Way]] = MappingProxyType(
    {
        "bits flipped": _bits_flipped,
        "bytes replaced": _bytes_replaced,
        "cut off": _cut_off,
        "a part removed": _part_removed,
        "a part repeated": _part_repeated,
        "noise inserted": _noise_inserted,
        "a number replaced": _number_replaced,
        "a length replaced": _length_replaced,
        "spliced": _spliced,
        "headed by another": _headed_by_another,
        "followed by another": _followed_by_another,
    }
)
"""Name -> a function of the file, another file and the generator that returns the damaged file."""
