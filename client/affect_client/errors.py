"""The errors of the client: problems of the service and on the way to it, and packages that are not installed."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

_REASONS = MappingProxyType(
    {
        errno.ENOENT: "there is no such file or folder",
        errno.EACCES: "you may not read or write it",
        errno.EPERM: "you may not read or write it",
        errno.EISDIR: "is a folder, and not a file",
        errno.ENOTDIR: "leads through a file, as if that were a folder",
        errno.EEXIST: "is a file, and not a folder",  # only making a folder ends so here
        errno.ENAMETOOLONG: "the name is too long",
        errno.ENOSPC: "there is no space left",
        errno.EROFS: "nothing can be written there",
    }
)
"""What is wrong with a file, in words for a person."""


class AffectError(Exception):
    """A request that was not answered with a result; its text is the detail and the code.

    The service's codes come with an HTTP status: `overloaded`, `undecodable_media`, `invalid_parameter` and so on. Five
    codes are the client's own:

    * `unreachable`: nobody answers at the service's address;
    * `connection_lost`: the connection broke, or an answer ended too early;
    * `timeout`: the service was silent for longer than `timeout_s`, or a job was waited for in vain;
    * `unexpected_answer`: the answer is not one of this service, so the address may be wrong;
    * `unsupported_format`: the file's result has no such format.
    """

    def __init__(
        self,
        detail: str,
        code: str,
        status: int | None = None,
        request_id: str | None = None,
        limit: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, code, status, request_id, limit)
        self.detail = detail
        """A sentence that says what was wrong."""
        self.code = code
        """Stable name of the kind of error."""
        self.status = status
        """HTTP status, where the service answered."""
        self.request_id = request_id
        """Id of the request, which the service's log has too."""
        self.limit = limit
        """Name and value of the limit that was exceeded, if one was."""

    def __str__(self) -> str:
        return f"{self.detail} ({self.code})"


class MissingExtra(ImportError):
    """A package that only some functions of the client need is not installed; the text names the extra that has it."""

    def __init__(self, package: str, extra: str) -> None:
        told = f"{package} is not installed; install it with: pip install 'facial-affect-service[{extra}]'"
        super().__init__(told, name=package)
        self.extra = extra


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Raise MissingExtra where an import in the block finds no package; `extra` is the one that has it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "a package", extra) from error


def sentence(error: Exception) -> str:
    """Return what a person is told of an error."""
    if not isinstance(error, OSError) or error.errno is None or error.strerror is None:
        return str(error)
    reason = _REASONS.get(error.errno, error.strerror)
    return reason if error.filename is None else f"{error.filename}: {reason}"


def problem_error(document: Mapping[str, Any]) -> AffectError:
    """Return the error of a problem document (RFC 9457), or of the `error` object of a stream.

    Raises KeyError where it is neither.
    """
    return AffectError(
        str(document["detail"]),
        str(document["code"]),
        document.get("status"),
        document.get("request_id"),
        document.get("limit"),
    )
