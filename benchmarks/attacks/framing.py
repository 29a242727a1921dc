"""Requests that are no proper HTTP, or no proper form, as bytes for a socket."""

from collections.abc import Mapping
from random import Random
from typing import Final

from benchmarks.attacks.mutations import damaged
from benchmarks.attacks.seeds import FRAME_ROUTE

BOUNDARY: Final = b"attack"

_HOST: Final = b"Host: t\r\n"
_GET: Final = b"GET /healthz HTTP/1.1\r\n" + _HOST


def form(*parts: bytes, end: bytes = b"--attack--\r\n") -> bytes:
    """Return a multipart body of parts that bring their own headers."""
    return b"".join(b"--attack\r\n" + part + b"\r\n" for part in parts) + end


def file_part(content: bytes, disposition: bytes = b'form-data; name="file"; filename="a.jpg"') -> bytes:
    """Return the part of a form that holds a file."""
    return b"Content-Disposition: " + disposition + b"\r\n\r\n" + content


def request(body: bytes, *headers: bytes, boundary: bytes = BOUNDARY, length: int | None = None) -> bytes:
    """Return a request for the analysis of a picture in a form. Other headers stand before its length."""
    lines = [
        b"POST " + FRAME_ROUTE.encode() + b" HTTP/1.1",
        b"Host: t",
        b"Content-Type: multipart/form-data; boundary=" + boundary,
        *headers,
        b"Content-Length: %d" % (len(body) if length is None else length),
    ]
    return b"\r\n".join([*lines, b"", body])


def chunked_request(*chunks: bytes) -> bytes:
    """Return a request for the analysis of a picture whose body is made of chunks that bring their own lengths."""
    head = b"POST " + FRAME_ROUTE.encode() + b" HTTP/1.1\r\n" + _HOST + b"Content-Type: image/jpeg\r\n"
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks)


def broken_requests(picture: bytes) -> Mapping[str, bytes]:
    """Return requests by what is wrong with each; some hold a whole picture."""
    return _broken_heads() | _broken_lengths(picture) | _broken_forms(picture)


def damaged_request(picture: bytes, rng: Random) -> bytes:
    """Return a whole request with a picture, damaged anywhere."""
    whole = request(form(file_part(picture)), b"Connection: close")
    return damaged(whole, rng)


def _broken_heads() -> dict[str, bytes]:
    end = b"\r\n"
    return {
        "nothing but a method": b"GET",
        "no version": b"GET /healthz\r\n\r\n",
        "version 9.9": b"GET /healthz HTTP/9.9\r\n" + _HOST + end,
        "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        "zeros": bytes(10_000),
        "unknown method": b"BREW /healthz HTTP/1.1\r\n" + _HOST + end,
        "CONNECT": b"CONNECT t:443 HTTP/1.1\r\n" + _HOST + end,
        "TRACE": b"TRACE /healthz HTTP/1.1\r\n" + _HOST + end,
        "OPTIONS *": b"OPTIONS * HTTP/1.1\r\n" + _HOST + end,
        "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
        "absolute target without a host": b"GET http://[ HTTP/1.1\r\n" + _HOST + end,
        "target of 100 KB": b"GET /" + 100_000 * b"a" + b" HTTP/1.1\r\n" + _HOST + end,
        "query that is no UTF-8": b"POST /analyze/frame?max_faces=%ff%fe HTTP/1.1\r\n" + _HOST + end,
        "10,000 parameters": b"GET /healthz?" + 10_000 * b"a=1&" + b" HTTP/1.1\r\n" + _HOST + end,
        "header of 300 KB": _GET + b"X: " + 300_000 * b"x" + end + end,
        "10,000 headers": _GET + 10_000 * b"X: y\r\n" + end,
        "header without a colon": _GET + b"nonsense\r\n" + end,
        "header with a zero": _GET + b"X: \0\r\n" + end,
        "folded header": _GET + b"X: a\r\n b\r\n" + end,
        "bare line feeds": _GET.replace(b"\r\n", b"\n") + b"\n",
        "offer of HTTP/2": _GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + end,
        "offer of a WebSocket": _GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + end,
        "500 requests at once": 500 * (_GET + end),
        "a good request and a bad one": _GET + end + b"BREW\r\n\r\n",
        "a time limit that is none": request(b"", b"X-Request-Timeout-Ms: 1e999"),
        "a media type that is none": request(b"", b"Accept: " + 1000 * b"a/b;q=0.1,"),
    }


def _broken_lengths(picture: bytes) -> dict[str, bytes]:
    body = form(file_part(picture))
    chunk = b"%x\r\n%s\r\n" % (len(picture), picture)
    return {
        "two lengths": request(body, b"Content-Length: 5"),
        "length and chunks": request(body, b"Transfer-Encoding: chunked"),
        "negative length": request(body, length=-1),
        "length of 30 digits": request(body, length=10**30),
        "length of 4 GB": request(body, length=2**32),
        "length too small": request(body, length=len(body) // 2),
        "length too large": request(body, length=2 * len(body)),
        "no length": request(body).replace(b"Content-Length", b"X-Length"),
        "expects 100": request(body, b"Expect: 100-continue"),
        "expects something else": request(body, b"Expect: a miracle"),
        "body in gzip": request(body, b"Content-Encoding: gzip"),
        "chunks in one byte each": chunked_request(*(b"1\r\n%c\r\n" % byte for byte in picture), b"0\r\n\r\n"),
        "chunk of negative length": chunked_request(b"-1\r\nx\r\n"),
        "chunk of endless length": chunked_request(b"ffffffffffffffffff\r\nx\r\n"),
        "chunk whose length is no number": chunked_request(b"xyz\r\nx\r\n"),
        "chunk that is shorter than it says": chunked_request(b"5\r\nabc\r\n0\r\n\r\n"),
        "chunk with a long extension": chunked_request(b"1;" + 200_000 * b"x" + b"\r\nx\r\n0\r\n\r\n"),
        "chunks without an end": chunked_request(chunk),
        "trailers of 300 KB": chunked_request(chunk, b"0\r\nX: " + 300_000 * b"x" + b"\r\n\r\n"),
        "two requests in one body": chunked_request(chunk, b"0\r\n\r\n", _GET, b"\r\n"),
    }


def _broken_forms(picture: bytes) -> dict[str, bytes]:
    whole = file_part(picture)
    nul = file_part(picture, b'form-data; name="file"; filename="a\0.jpg"')
    bodies = {
        "form without an end": form(whole, end=b""),
        "form of nothing": b"",
        "form of its end": form(),
        "form with another boundary": form(whole).replace(b"--attack", b"--other"),
        "form with line feeds": form(whole).replace(b"\r\n", b"\n"),
        "form with 1 MB before it": 1_000_000 * b"x" + b"\r\n" + form(whole),
        "form with 1 MB behind it": form(whole) + 1_000_000 * b"x",
        "form of 10,000 parts": form(*10_000 * [file_part(b"x", b'form-data; name="x"')]),
        "form of two files": form(whole, whole),
        "form of a file and a text": form(whole, file_part(b"x", b'form-data; name="text"')),
        "part without headers": form(b"\r\n" + picture),
        "part without a name": form(file_part(picture, b"form-data")),
        "part whose name is 100 KB": form(file_part(picture, b'form-data; name="' + 100_000 * b"x" + b'"')),
        "part whose name does not end": form(file_part(picture, b'form-data; name="file; filename="a')),
        "part whose file name holds a zero": form(nul),
        "part with 10,000 headers": form(10_000 * b"X: y\r\n" + whole),
        "part with a header of 1 MB": form(b"X: " + 1_000_000 * b"x" + b"\r\n" + whole),
        "form in a form": form(file_part(form(whole))),
        "empty file": form(file_part(b"")),
        "boundary in the file": form(file_part(picture + b"\r\n--attack" + picture)),
    }
    boundaries = {
        "no boundary": request(form(whole), boundary=b""),
        "boundary of 10 KB": request(form(whole), boundary=10_000 * b"x"),
        "boundary of odd characters": request(form(whole), boundary=b'"\xff\0;='),
    }
    return {name: request(body) for name, body in bodies.items()} | boundaries
