"""Requests to the service: sent with the key, sent again where that helps, and answered or failed as AffectError."""

import json
import os
import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any, NamedTuple, TypeAlias

import httpx2

from affect_client.errors import AffectError, problem_error
from affect_client.numbers import COUNT, TIMEOUT_S, WAIT_S

Media: TypeAlias = str | os.PathLike[str] | bytes
"""The path of a file, or what would be in it."""

HIGHEST_PORT = 65535

CONNECT_S = 10.0
"""Seconds in which a connection must be made."""

BUSY = (429, 503)
"""Statuses after which a request is sent again, if the answer has a Retry-After."""

NONSENSE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Errors of reading an answer that does not tell what this service tells."""

FIRST_BACKOFF_S = 0.5
"""Wait after a connection failed for the first time; it doubles with each further time."""


@dataclass(frozen=True)
class RetryPolicy:
    """Limits on how often, and for how long, a request is tried.

    It is sent again after 429 or 503 with a Retry-After, and where the connection failed before any answer: analysing
    twice does no harm, since nothing is kept.
    """

    tries: int = 4
    """Most times that a request is sent, at least 1."""
    max_wait_s: float = 60.0
    """Longest wait between all tries together; a service that asks for more gets no further try."""

    def __post_init__(self) -> None:
        COUNT.check("tries", self.tries)
        WAIT_S.check("max_wait_s", self.max_wait_s)


@dataclass(frozen=True)
class Request:
    """A request to the service."""

    method: str
    path: str
    params: Mapping[str, Any] | None = None
    """Query parameters; those that are None are left out."""
    headers: Mapping[str, str] | None = None
    media: Mapping[str, Media] | None = None
    """Files of the form by their names."""


class _Refusal(NamedTuple):
    """A try that failed, and the seconds after which another may succeed; None if none would."""

    error: AffectError
    wait_s: float | None
    cause: Exception | None = None


class Connection:
    """A pool of connections to one service; threads may share it."""

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        timeout_s: float,
        retry: RetryPolicy,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives seconds since 1970, for a Retry-After that is a date.

        Raises ValueError for a wrong address, a timeout out of range, and a key that no header may have.
        """
        TIMEOUT_S.check("timeout_s", timeout_s)
        if key is not None and not re.fullmatch("[!-~]+( +[!-~]+)*", key):
            raise ValueError("the API key is empty, or has characters that no header may have")
        self.url = url
        self.headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        """Are sent with every request."""
        self.timeout_s = timeout_s
        self.uses_proxies = not _is_local(_address(url).host)
        """What is for this machine must not go to a proxy that the environment names."""
        self.retry = retry
        self.sleep = sleep
        self._clock = clock
        self._http = httpx2.Client(
            base_url=_address(url),
            headers=self.headers,
            timeout=httpx2.Timeout(timeout_s, connect=CONNECT_S, pool=None),
            transport=transport,
            trust_env=self.uses_proxies,
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def send(self, request: Request) -> httpx2.Response:
        """Return an answer that is no error; its body is not read yet, and the caller closes it.

        Raises AffectError, and OSError where a file cannot be read.
        """
        waited_s = 0.0
        for number in range(1, self.retry.tries + 1):
            outcome = self._try(request, number)
            if isinstance(outcome, httpx2.Response):
                return outcome
            error, wait_s, cause = outcome
            if wait_s is None or number == self.retry.tries or waited_s + wait_s > self.retry.max_wait_s:
                raise error from cause
            self.sleep(wait_s)
            waited_s += wait_s
        raise AssertionError("the last try has returned or raised")

    def document(self, request: Request) -> dict[str, Any]:
        """Return the JSON object of an answer. Raises AffectError, and OSError where a file cannot be read."""
        with closing(self.send(request)) as response, telling_what_broke():
            content = response.read()
        with understanding():
            return dict(json.loads(content))

    def _try(self, request: Request, number: int) -> httpx2.Response | _Refusal:
        """Send a request once. Raises OSError where a file cannot be read."""
        backoff_s = FIRST_BACKOFF_S * 2 ** (number - 1)
        try:
            response = self._send_once(request)
            if response.is_success:
                return response
            with closing(response):
                response.read()
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            return _Refusal(AffectError(f"nobody answers at {self.url}: {error}", "unreachable"), backoff_s, error)
        except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
            detail = f"the connection broke before the answer: {error}"
            return _Refusal(AffectError(detail, "connection_lost"), backoff_s, error)
        except httpx2.TimeoutException as error:
            return _Refusal(silence(), None, error)
        except httpx2.HTTPError as error:
            return _Refusal(AffectError(f"nobody answers at {self.url}: {error}", "unreachable"), None, error)
        wait_s = self._asked_wait_s(response) if response.status_code in BUSY else None
        return _Refusal(self._refused(response), wait_s)

    def _send_once(self, request: Request) -> httpx2.Response:
        with ExitStack() as stack:
            parts = {}
            for name, media in (request.media or {}).items():
                content = media if isinstance(media, bytes) else stack.enter_context(open(media, "rb"))
                # The service looks at the content, so it need not learn what the file is called.
                parts[name] = ("upload", content, "application/octet-stream")
            params = {name: value for name, value in (request.params or {}).items() if value is not None}
            built = self._http.build_request(
                request.method, request.path, params=params, headers=dict(request.headers or {}), files=parts or None
            )
            return self._http.send(built, stream=True)

    def _refused(self, response: httpx2.Response) -> AffectError:
        """Return the error of an answer that has been read."""
        try:
            return problem_error(response.json())
        except NONSENSE:
            detail = f"{self.url} answered with status {response.status_code} and without a problem document"
            return AffectError(detail, "unexpected_answer", response.status_code)

    def _asked_wait_s(self, response: httpx2.Response) -> float | None:
        """Return the seconds of a Retry-After, which is a number or a date; None without a valid one."""
        value = response.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdecimal():
            return float(value)
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        return max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - self._clock())


@contextmanager
def telling_what_broke() -> Iterator[None]:
    """Raise AffectError for what happens to the body of an answer that has begun."""
    try:
        yield
    except httpx2.TimeoutException as error:
        raise silence() from error
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise AffectError(f"the answer broke off: {error}", "connection_lost") from error


@contextmanager
def understanding() -> Iterator[None]:
    """Raise AffectError for an answer that does not tell what this service tells."""
    try:
        yield
    except NONSENSE as error:
        detail = f"the answer is not one of this service: {type(error).__name__}: {error}"
        raise AffectError(detail, "unexpected_answer") from error


def body(response: httpx2.Response) -> Generator[bytes, None, None]:
    """Return the pieces of an answer's body as they come, and close it. Raises AffectError."""
    with closing(response), telling_what_broke():
        yield from response.iter_bytes()


def silence() -> AffectError:
    """Return the error of a service that says nothing for too long."""
    return AffectError("the service was silent for too long", "timeout")


def _address(url: str) -> httpx2.URL:
    try:
        address = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{url!r} is no address: {error}") from None
    if address.scheme not in {"http", "https"} or not address.host or (address.port or 0) > HIGHEST_PORT:
        raise ValueError(f"{url!r} is no address of the form http://host:port")
    return address


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
