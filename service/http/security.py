"""API keys: decides by the headers of an ASGI request whether a client may call the service."""

import hmac
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

from pydantic import SecretStr


class ApiKeys:
    """The keys that clients may use. Only their digests are kept, so that all comparisons have the same length."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._digests = [_digest(key.get_secret_value().encode()) for key in keys]

    def admit(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Return whether the headers have one of the keys, as `Authorization: Bearer` or as `X-API-Key`.

        `headers` are those of ASGI, with names in lower case. The time that this takes does not depend on the result.
        """
        offered = [_digest(key) for key in _offered(headers)]
        # A sum, since `any` would stop at the first match and reveal by its time which key that was.
        return sum(hmac.compare_digest(known, key) for known in self._digests for key in offered) > 0


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
