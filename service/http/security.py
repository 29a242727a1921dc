"""API keys: who may call the service. Knows headers as ASGI gives them, and no web framework."""

import hmac
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

from pydantic import SecretStr


class ApiKeys:
    """The keys that open the service; only their digests are kept, which also makes all comparisons equally long."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._digests = [_digest(key.get_secret_value().encode()) for key in keys]

    def admit(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether one of the keys is in `Authorization: Bearer` or `X-API-Key`; takes as long for each answer.

        headers: as ASGI gives them, names in lower case.
        """
        offered = [_digest(key) for key in _offered(headers)]
        # A sum, for `any` would stop at the first match and tell by its time which key that was.
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
