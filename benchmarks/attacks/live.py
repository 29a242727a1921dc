"""Attacks on live connections: what is no WebSocket, too much of one, and too little."""

import asyncio
import json
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from benchmarks.attacks.answers import Answer, Part, fault_of, strict_json
from benchmarks.attacks.clients import Address, connected, exchanged, framed
from benchmarks.attacks.mutations import damaged

ROUTE: Final = "/live"

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

MESSAGES: Final = frozenset({"ready", "frame", "error", "overloaded"})
"""Types of the service's messages."""

LEFT: Final = 0
"""Stands for an end without a code: the client has left, or the connection is broken."""

NO_CODE: Final = 1
"""Stands for a close without a code."""

CODES: Final = frozenset({NO_CODE, 1000, 1002, 1003, 1007, 1008, 1009, 1013, 4408})
"""Codes with which the service may close a connection whose client sends anything."""

BEYOND: Final = 8
"""Connections that are opened beyond the limit."""

TRIES: Final = 20
"""Times that a picture is sent for which the service has no time."""

_PATIENCE_S: Final = 60.0
"""Seconds in which an honest client gets an answer, on a machine that has other work too."""

_UPGRADE: Final = (
    b"Host: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)
HANDSHAKE: Final = b"GET " + ROUTE.encode() + b" HTTP/1.1\r\n" + _UPGRADE + b"\r\n"


@dataclass(frozen=True)
class LiveAttack:
    """What a client sends on a connection of its own, and how that may end."""

    content: bytes
    """Frames that are sent once the handshake is answered."""
    expected: frozenset[int]
    """Statuses of a handshake that is refused, or codes of the end."""
    handshake: bytes = HANDSHAKE


_Contents = Mapping[str, tuple[bytes, frozenset[int]]]
"""Frames behind a handshake, and the codes with which they may end, by the name of an attack."""


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    last: bool = True,
    flags: int = 0,
    masked: bool = True,
    length: int | None = None,
) -> bytes:
    """Return a client's frame (RFC 6455, section 5.2). `length`: what it claims; `flags`: the three reserved bits."""
    claimed = len(payload) if length is None else length
    head = bytes([last << 7 | flags << 4 | opcode])
    if claimed < 126:
        size = bytes([masked << 7 | claimed])
    elif claimed < 2**16:
        size = bytes([masked << 7 | 126]) + struct.pack(">H", claimed)
    else:
        size = bytes([masked << 7 | 127]) + struct.pack(">Q", claimed)
    return head + size + (bytes(4) + payload if masked else payload)


def parts(payload: bytes, count: int) -> bytes:
    """Return a binary message in so many frames, all but the last of equal length."""
    size = max(1, len(payload) // count)
    cut = [payload[place * size : (place + 1) * size] for place in range(count - 1)]
    cut.append(payload[(count - 1) * size :])
    sent = [frame(CONTINUATION if number else BINARY, part, last=False) for number, part in enumerate(cut[:-1])]
    return b"".join(sent) + frame(CONTINUATION if count > 1 else BINARY, cut[-1])


def live_attacks(picture: bytes, flood: int) -> dict[str, LiveAttack]:
    """Return attacks by name; floods have so many frames. Those that do no harm end as their client asks, with 1000."""
    end = frame(CLOSE, struct.pack(">H", 1000))
    sent = {**_refused_frames(picture), **_harmless(picture), **_floods(picture, flood)}
    attacks = {
        name: LiveAttack(content + (end if 1000 in expected else b""), expected)
        for name, (content, expected) in sent.items()
    }
    return attacks | _handshakes(picture)


def damaged_conversation(picture: bytes, rng: Random) -> LiveAttack:
    """Return two pictures, a ping and an end, damaged anywhere behind the handshake."""
    whole = frame(BINARY, picture) + frame(PING, b"beat") + parts(picture, 3) + frame(CLOSE, struct.pack(">H", 1000))
    return LiveAttack(damaged(whole, rng), CODES | {LEFT})


def _refused_frames(picture: bytes) -> _Contents:
    protocol_error = frozenset({1002})
    too_large = frozenset({1009})
    return {
        "frame without a mask": (frame(BINARY, picture, masked=False), protocol_error),
        "frame as if compressed": (frame(BINARY, picture, flags=4), protocol_error),
        "frame of no known kind": (frame(3, picture), protocol_error),
        "control frame of no known kind": (frame(11), protocol_error),
        "continuation of nothing": (frame(CONTINUATION, picture), protocol_error),
        "message within a message": (frame(BINARY, picture, last=False) + frame(BINARY, picture), protocol_error),
        "ping in parts": (frame(PING, last=False), protocol_error),
        "ping of 126 bytes": (frame(PING, bytes(126)), protocol_error),
        "close of one byte": (frame(CLOSE, b"x"), protocol_error),
        "close with a code for nobody": (frame(CLOSE, struct.pack(">H", 1005)), protocol_error),
        "close whose reason is no UTF-8": (frame(CLOSE, struct.pack(">H", 1000) + b"\xff"), frozenset({1002, 1007})),
        "second handshake": (HANDSHAKE, protocol_error),
        "text instead of a picture": (frame(TEXT, b"picture"), frozenset({1003})),
        "text that is no UTF-8": (frame(TEXT, b"\xff"), frozenset({1007})),
        "picture of 9 exabytes": (frame(BINARY, length=2**63 - 1), too_large),
        "picture of 5 MB": (frame(BINARY, length=5_000_000), too_large),
        "picture of 5 MB in parts": (parts(bytes(5_000_000), 50), too_large | {LEFT}),
        "picture that breaks off": (frame(BINARY, picture)[: len(picture) // 2], frozenset({LEFT})),
    }


def _harmless(picture: bytes) -> _Contents:
    asked = frozenset({1000})
    beat = frame(PING, b"beat")
    return {
        "picture": (frame(BINARY, picture), asked),
        "picture in 100 parts": (parts(picture, 100), asked),
        "picture in bytes": (parts(picture[:1000], 1000), asked),
        "ping within a picture": (
            frame(BINARY, picture[:9], last=False) + beat + frame(CONTINUATION, picture[9:]),
            asked,
        ),
        "nothing as a picture": (frame(BINARY), asked),
        "pong to no ping": (frame(PONG, b"beat"), asked),
        "1,000 pings": (1000 * beat, asked),
        "key that nobody asked for": (frame(TEXT, b'{"authorization": "Bearer nobody"}'), asked),
        "end before a picture": (frame(CLOSE, struct.pack(">H", 1000)) + frame(BINARY, picture), asked),
        "end without a code": (frame(CLOSE), asked | {NO_CODE}),
    }


def _floods(picture: bytes, count: int) -> _Contents:
    # A client that still sends when the service closes may find the connection broken before it reads the end.
    refused = frozenset({1008, LEFT})
    return {
        "flood of pings": (count * frame(PING), refused),
        "flood of pongs": (count * frame(PONG), refused),
        "flood of empty parts": (frame(BINARY, last=False) + count * frame(CONTINUATION, last=False), refused),
        "flood of empty pictures": (count * frame(BINARY), refused | {1000}),
        "flood of pictures": (count // 100 * frame(BINARY, picture), frozenset({1000})),
        "flood of texts": (count * frame(TEXT, b"x"), frozenset({1003, LEFT})),
        "flood of ends": (count * frame(CLOSE, struct.pack(">H", 1000)), frozenset({1000, LEFT})),
    }


def _handshakes(picture: bytes) -> dict[str, LiveAttack]:
    def changed(old: bytes, new: bytes, *expected: int) -> LiveAttack:
        return LiveAttack(b"", frozenset(expected), HANDSHAKE.replace(old, new))

    early = frame(BINARY, picture)
    end = frame(CLOSE, struct.pack(">H", 1000))
    return {
        "handshake without a key": changed(b"Sec-WebSocket-Key", b"X-Key", 426),
        "handshake of version 8": changed(b"Version: 13", b"Version: 8", 426),
        "handshake by POST": changed(b"GET ", b"POST ", 405),
        "handshake in HTTP/1.0": changed(b"HTTP/1.1", b"HTTP/1.0", 426),
        "handshake with a body": changed(b"Host: t", b"Host: t\r\nContent-Length: 3", 426),
        "handshake with an unknown parameter": changed(b"/live ", b"/live?fps=3 ", 422),
        "handshake of another site's page": changed(b"Host: t", b"Host: t\r\nOrigin: http://other.example", 403),
        "handshake with 1,000 headers": changed(b"Host: t", b"Host: t" + 1000 * b"\r\nX: y", 426),
        "handshake that breaks off": LiveAttack(b"", frozenset({LEFT}), HANDSHAKE[:-10]),
        # A client must wait for the answer; what comes before it may be lost, and the rest makes no sense then.
        "handshake, and a picture before its answer": LiveAttack(b"", CODES | {LEFT}, HANDSHAKE + early + end),
        "handshake, and noise before its answer": LiveAttack(b"", CODES | {LEFT}, HANDSHAKE + 70_000 * b"\xff"),
        "offer of compression, which is used": LiveAttack(
            frame(BINARY, b"x", flags=4),
            frozenset({1002}),
            HANDSHAKE.replace(b"Host: t", b"Host: t\r\nSec-WebSocket-Extensions: permessage-deflate"),
        ),
    }


async def attack_live(address: Address, name: str, attack: LiveAttack, part: Part) -> None:
    """Send an attack on a connection of its own, and count what came back."""
    received, hangs = await exchanged(address, attack.handshake, attack.content)
    end = LEFT
    label = "closed"
    if received.startswith(b"HTTP/1.1 101 "):
        for opcode, payload in service_frames(received.partition(b"\r\n\r\n")[2]):
            if opcode == TEXT:
                part.count(judged_message(payload), name)
            elif opcode == CLOSE and end == LEFT:
                end = struct.unpack(">H", payload[:2])[0] if payload else NO_CODE
                label = f"closed with {end}" if payload else "closed without a code"
    elif received:
        answer = framed(received.removeprefix(b"HTTP/1.1 "))
        end, label = answer.status or LEFT, answer.label
    fault = "" if end in attack.expected else f"not one of {sorted(attack.expected)}"
    part.count(Answer(None, label, "the connection is held open" if hangs else fault), name)


def service_frames(received: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the opcode and the payload of each whole frame of a service, which masks none."""
    place = 0
    while len(received) >= place + 2:
        opcode, length = received[place] & 15, received[place + 1]
        place += 2
        if length > 125:
            size = 2 if length == 126 else 8
            length = int.from_bytes(received[place : place + size], "big")
            place += size
        if len(received) < place + length:
            return
        yield opcode, received[place : place + length]
        place += length


def judged_message(text: bytes | str) -> Answer:
    """Return what a message of the service is."""
    try:
        message = strict_json(text.encode() if isinstance(text, str) else text)
        kind = message["type"]
    except (ValueError, KeyError, TypeError):
        return Answer(None, "live message", "it is no JSON object with a type")
    if kind not in MESSAGES:
        return Answer(None, f"live {kind}", "there is no such message")
    if kind != "error":
        return Answer(None, f"live {kind}")
    return Answer(None, f"live error {message['code']}", fault_of(message["status"], message["code"]))


async def camera(address: Address, picture: bytes) -> Answer:
    """Return the answer to a picture of an honest client."""
    try:
        async with _connected(address) as live:
            for _ in range(TRIES):
                answer = await _asked(live, picture)
                if answer.label != "live overloaded":
                    return answer if answer.label == "live frame" else replace(answer, fault="an honest client's")
                await asyncio.sleep(1)
            return replace(answer, fault=f"told {TRIES} times")
    except (OSError, TimeoutError, WebSocketException) as error:
        return Answer(None, f"no live answer ({type(error).__name__})", "an honest client got none")


async def fill_places(address: Address, part: Part) -> None:
    """Open as many connections as there may be, and some more, which must be refused, and no other."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(_connected(address))
        most = json.loads(await first.recv())["limits"]["AFFECT_LIVE_CONNECTIONS"]
        refused = 0
        for _ in range(most - 1 + BEYOND):
            try:
                await stack.enter_async_context(_connected(address))
                part.add("live connection")
            except InvalidStatus as refusal:
                refused += 1
                part.count(framed(b"%d " % refusal.response.status_code + (refusal.response.body or b"")), "connection")
        if refused != BEYOND:
            part.faults.append(f"{refused} connections of {most + BEYOND} were refused, though {most} may be open")


HELD_WAYS: Final = ("silent", "half a frame", "a frame in drips", "pings, reads nothing", "pictures, reads nothing")


async def hold_live(address: Address, way: str, picture: bytes, hold_s: float) -> None:
    """Hold a connection open in one of HELD_WAYS."""
    whole = frame(BINARY, picture)
    beginning, more = {
        "silent": (b"", b""),
        "half a frame": (whole[: len(whole) // 2], b""),
        "a frame in drips": (frame(BINARY, length=1_000_000), b"x"),
        "pings, reads nothing": (b"", 100 * frame(PING, bytes(125))),
        "pictures, reads nothing": (b"", 10 * whole),
    }[way]
    async with connected(address) as (_, writer):
        end_s = time.monotonic() + hold_s
        with suppress(ConnectionError):
            writer.write(HANDSHAKE + beginning)
            while time.monotonic() < end_s and not writer.transport.is_closing():
                writer.write(more)
                await asyncio.sleep(min(0.2, hold_s / 4))


def _connected(address: Address) -> connect:
    return connect(
        f"ws://{address[0]}:{address[1]}{ROUTE}", compression=None, open_timeout=_PATIENCE_S, ping_interval=None
    )


async def _asked(live: ClientConnection, picture: bytes) -> Answer:
    await live.send(picture)
    async with asyncio.timeout(_PATIENCE_S):
        while (answer := judged_message(await live.recv())).label == "live ready":
            pass
    return answer
