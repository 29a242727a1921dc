"""API keys and origins: decides by the headers of an ASGI request whether a client may call the service."""

import hmac
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from urllib.parse import urlsplit

from pydantic import SecretStr


class ApiKeys:
    """The keys that clients may use. Only their digests are kept, so that all comparisons have the same length."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._digests = [_digest(key.get_secret_value().encode()) for key in keys]

    def caller(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Return the digest, in hexadecimal digits, of the key that the headers have; None where they have none.

        A key comes as `Authorization: Bearer` or as `X-API-Key`. `headers` are those of ASGI, with names in lower case.
        The time that this takes does not depend on which key is right.
        """
        offered = [_digest(key) for key in _offered(headers)]
        # All pairs are compared, since to stop at the first match would reveal by its time which key that was.
        found = [known for known in self._digests for key in offered if hmac.compare_digest(known, key)]
        return found[0].hex() if found else None

    @staticmethod
    def offered(headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Return True if the headers of ASGI have any key, right or wrong."""
        return any(True for _ in _offered(headers))


DEFAULT_PORTS = {"http": 80, "https": 443}
"""Ports that an origin need not name."""


class Origins:
    """The sites whose pages may open a WebSocket, which a browser would let any page do, with its user's access."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """`allowed`: origins in lower case beside the service's own host, such as `https://example.org`."""
        self._allowed = frozenset(allowed)

    def allow(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Return True if the request comes from an allowed page, or from no browser, which would send an Origin.

        `headers` are those of ASGI. The scheme is not compared with the service's own: TLS may end at a proxy.
        """
        found = [(name, value.decode("latin-1").strip().lower()) for name, value in headers]
        origins = [value for name, value in found if name == b"origin"]
        hosts = [value for name, value in found if name == b"host"]
        if not origins:
            return True
        if len(origins) > 1:
            return False
        return origins[0] in self._allowed or (len(hosts) == 1 and _is_at(origins[0], hosts[0]))


def _is_at(origin: str, host: str) -> bool:
    """Return True if an origin, as `https://example.org`, is at a Host, as `example.org:443`."""
    try:
        site = urlsplit(origin)
        own = urlsplit(f"//{host}")
        default = DEFAULT_PORTS[site.scheme]
        return bool(site.hostname) and (site.hostname, site.port or default) == (own.hostname, own.port or default)
    except (KeyError, ValueError):
        return False


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()


def _offered(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    for name, value in headers:
        if name == b"x-api-key":
            yield value.strip()
        elif name == b"authorization":
            scheme, _, key = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                yield key.strip()
