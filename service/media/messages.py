"""Messages between the service and a decoder process: JSON with a length before it, and file descriptors.

Neither side trusts the other's bytes with more than JSON, since a decoder that a file has taken over can send anything.
"""

import json
import socket
import struct
from collections.abc import Sequence
from typing import Any

MAX_MESSAGE_BYTES = 64 * 1024
"""Longest message; those of decoders are a few hundred bytes."""

MOST_DESCRIPTORS = 2
"""Most file descriptors that come with a message: a source, and the file for what is made of it."""

_REST_S = 5.0
"""Seconds in which the rest of a message must come."""

_LENGTH = struct.Struct("<I")


class Disconnected(Exception):
    """The other side is gone, or sends what is no message."""


def send(channel: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send a message with file descriptors. Raises Disconnected."""
    content = json.dumps(message).encode()
    try:
        # The descriptors travel with the first byte, however the rest is cut.
        whole = _LENGTH.pack(len(content)) + content
        sent = socket.send_fds(channel, [whole], descriptors)
        if sent < len(whole):  # sending nothing fails, too, where the other side has answered and gone
            channel.sendall(whole[sent:])
    except OSError:
        raise Disconnected("the message could not be sent") from None


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return the next message and its file descriptors, at most MOST_DESCRIPTORS.

    Raises Disconnected, and TimeoutError where nothing came in the channel's time; then it may be called again.
    """
    try:
        start, descriptors, _, _ = socket.recv_fds(channel, _LENGTH.size, MOST_DESCRIPTORS)
    except TimeoutError:
        raise
    except OSError:
        raise Disconnected("the connection is broken") from None
    if not start:
        raise Disconnected("the other side has closed the connection")
    try:
        (length,) = _LENGTH.unpack(start)
        if length > MAX_MESSAGE_BYTES:
            raise Disconnected("the message is too long")
        message = json.loads(_exactly(channel, length))
    except (struct.error, ValueError, OSError, RecursionError):
        raise Disconnected("what came is no message") from None
    if not isinstance(message, dict):
        raise Disconnected("what came is no message")
    return message, descriptors


def _exactly(channel: socket.socket, length: int) -> bytes:
    """Return the rest of a message that has begun; whoever began one has a while to finish it."""
    timeout_s = channel.gettimeout()
    channel.settimeout(_REST_S)
    content = b""
    while len(content) < length:
        part = channel.recv(length - len(content))
        if not part:
            raise Disconnected("the other side has closed the connection")
        content += part
    channel.settimeout(timeout_s)
    return content
