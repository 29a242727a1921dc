"""Messages arrive whole, however the bytes are cut and however long the next one takes."""

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from service.media.messages import MAX_MESSAGE_BYTES, Disconnected, receive, send


@pytest.fixture
def channels() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_messages_come_in_their_order_with_their_files(channels: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = channels
    with open(__file__, "rb") as file:
        send(theirs, {"number": 1}, [file.fileno()])
        send(theirs, {"number": 2})
        message, [descriptor] = receive(ours)
        assert message == {"number": 1}
        assert os.path.sameopenfile(descriptor, file.fileno())
        os.close(descriptor)
        assert receive(ours) == ({"number": 2}, [])


def test_a_message_whose_end_comes_later_is_waited_for(channels: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = channels
    ours.settimeout(0.001)
    theirs.sendall(struct.pack("<I", 5000) + b'{"long": "')
    theirs.sendall(b"x" * (5000 - 12) + b'"}')
    message, _ = receive(ours)
    assert len(message["long"]) == 4988
    assert ours.gettimeout() == 0.001


def test_a_message_is_sent_though_the_other_side_leaves_at_once(
    channels: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = channels

    def sent_and_read(channel: socket.socket, buffers: list[bytes], descriptors: list[int]) -> int:
        sent = channel.send(b"".join(buffers))
        receive(ours)
        ours.close()
        return sent

    monkeypatch.setattr(socket, "send_fds", sent_and_read)
    send(theirs, {})


def test_nothing_yet_is_not_the_end(channels: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = channels
    ours.settimeout(0.001)
    with pytest.raises(TimeoutError):
        receive(ours)
    send(theirs, {})
    assert receive(ours) == ({}, [])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\1",
        struct.pack("<I", MAX_MESSAGE_BYTES + 1),
        struct.pack("<I", 9) + b"{}",
        struct.pack("<I", 2) + b"[]",
        struct.pack("<I", 2) + b"\xff\xff",
    ],
)
def test_what_is_no_message_ends_the_conversation(
    channels: tuple[socket.socket, socket.socket], content: bytes
) -> None:
    ours, theirs = channels
    theirs.sendall(content)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(Disconnected):
        receive(ours)


def test_a_side_that_is_gone_is_told(channels: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = channels
    theirs.close()
    with pytest.raises(Disconnected):
        send(ours, {"to": "nobody"})
