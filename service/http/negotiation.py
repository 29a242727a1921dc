"""Content negotiation: the media type and the time limit of an answer, by the headers of its request."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request
from starlette.requests import HTTPConnection

from service.errors import InvalidParameter, Limit, NotAcceptable, UnsupportedMediaType
from service.settings import Settings

EXPOSITIONS = ("text/plain;version=0.0.4", "text/plain;version=1.0.0", "application/openmetrics-text;version=1.0.0")
"""The forms in which metrics are answered; the first is the default."""


async def parameters_once(request: HTTPConnection) -> None:
    """Raise InvalidParameter for a query parameter that is given twice, of which one would be ignored."""
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        if times > 1:
            raise InvalidParameter(f"{name[:64]}: is given {times} times")


async def no_parameters(request: Request) -> None:
    """Raise InvalidParameter for any query parameter, on a route that has none."""
    for name in request.query_params:
        raise InvalidParameter(f"{name[:64]}: this route has no such parameter")


async def only_known_headers(request: Request) -> None:
    """Refuse headers of an upload that would be ignored. Raises InvalidParameter or UnsupportedMediaType."""
    if "idempotency-key" in request.headers and not asks_for_job(request):
        raise InvalidParameter("Idempotency-Key: has no meaning here, where nothing is kept that could be done twice")
    if any(name != "identity" for name, _ in _listed(request, "content-encoding")):
        raise UnsupportedMediaType("the body has a Content-Encoding; send it without one")


async def json_allowed(request: Request) -> None:
    """Raise NotAcceptable where the client refuses JSON by a quality of 0."""
    if _refuses("application/json", _qualities(request)):
        raise NotAcceptable("the answer is available as application/json")


def exposition(request: Request) -> str:
    """Return the media type and version of the metrics that the client prefers, of those in EXPOSITIONS.

    Raises NotAcceptable where it refuses text by a quality of 0.
    """
    wanted: list[tuple[float, str]] = []
    for element in ",".join(request.headers.getlist("accept")).lower().split(","):
        name, *parameters = (piece.strip() for piece in element.split(";"))
        options = dict(parameter.partition("=")[::2] for parameter in parameters)
        for offered in EXPOSITIONS:
            media_type, version = offered.split(";version=")
            if name == media_type and options.get("version", version) == version:
                wanted.append((_quality(parameters), offered))
                break
    quality, best = max(wanted, key=lambda each: each[0], default=(0.0, EXPOSITIONS[0]))
    if not quality and _refuses("text/plain", _qualities(request)):
        raise NotAcceptable(f"the metrics are available as {', '.join(EXPOSITIONS)}")
    return best if quality else EXPOSITIONS[0]


def accepts_gzip(request: Request) -> bool:
    """Return True where the client reads answers that gzip has compressed (RFC 9110, section 12.5.3)."""
    codings = dict(_listed(request, "accept-encoding"))
    return codings.get("gzip", codings.get("*", 0.0)) > 0


def validators(request: Request) -> frozenset[str]:
    """Return the ETags of the copies that the client has, as weak ones: they are compared so (RFC 9110, 13.1.2)."""
    tags = (tag.strip() for tag in ",".join(request.headers.getlist("if-none-match")).split(","))
    return frozenset(tag if tag.startswith("W/") or tag == "*" else f"W/{tag}" for tag in tags if tag)


def asks_for_job(request: Request) -> bool:
    """Return True where the client prefers a job to an answer (`Prefer: respond-async`, RFC 7240)."""
    return "respond-async" in (name for name, _ in _listed(request, "prefer"))


def idempotency_key(request: Request) -> str | None:
    """Return the client's name for what must be done once; None where it has none.

    Raises InvalidParameter unless it is one header of 1 to 255 visible ASCII characters.
    """
    headers = request.headers.getlist("idempotency-key")
    if not headers:
        return None
    if len(headers) > 1 or not re.fullmatch("[!-~]{1,255}", headers[0]):
        raise InvalidParameter("Idempotency-Key: must be one header of 1 to 255 visible ASCII characters")
    return headers[0]


def negotiated(request: Request, offered: Sequence[str], *, jobs: bool = False) -> str:
    """Return the media type of `offered` that the client prefers (RFC 9110, section 12.5.1); the first one by default.

    Of equally preferred types the one that the client names most specifically is taken. Raises NotAcceptable if the
    client accepts none of them, and InvalidParameter where it asks for a job but there are no `jobs`.
    """
    if asks_for_job(request) and not jobs:
        raise InvalidParameter(
            "Prefer: respond-async: there are jobs for videos only, and only where the service's AFFECT_JOBS_DIR is set"
        )
    ranges = _qualities(request)
    ranked = [(_preference(media_type, ranges), -place) for place, media_type in enumerate(offered)]
    (best, _), place = max(ranked)
    if not best:
        raise NotAcceptable(f"the answer is available as {', '.join(offered)}")
    return offered[-place]


@dataclass(frozen=True)
class TimeLimits:
    """The time that an answer may take, and the wait that its client allows."""

    answer: Limit
    """Seconds in which the answer must be complete: the setting's, or the client's if they are fewer."""
    wait: Limit | None
    """Seconds for which the request may wait, where its client says how much time it has."""


def time_limits(request: Request, setting: str, settings: Settings) -> TimeLimits:
    """Return the limits of an answer, by a setting and by the client's X-Request-Timeout-Ms.

    Raises InvalidParameter for a header that is no positive whole number, or is there twice.
    """
    configured = settings.limit(setting)
    headers = request.headers.getlist("x-request-timeout-ms")
    if not headers:
        return TimeLimits(configured, None)
    digits = headers[0].lstrip("0")
    if len(headers) > 1 or not headers[0].isdecimal() or not digits:
        raise InvalidParameter("X-Request-Timeout-Ms: must be one positive whole number of milliseconds")
    asked = Limit(name="X-Request-Timeout-Ms", value=int(digits[:10]) / 1000)
    limit = asked if asked["value"] < configured["value"] else configured
    return TimeLimits(limit, limit)


def _qualities(request: Request) -> dict[str, float]:
    """Return the media ranges that the client names, with the highest quality of each."""
    ranges: dict[str, float] = {}
    for name, quality in _listed(request, "accept") or [("*/*", 1.0)]:
        ranges[name] = max(quality, ranges.get(name, 0.0))
    return ranges


def _refuses(media_type: str, ranges: dict[str, float]) -> bool:
    """Return True where the most specific range that covers a media type has a quality of 0."""
    covering = (media_type, media_type.partition("/")[0] + "/*", "*/*")
    return next((ranges[each] == 0 for each in covering if each in ranges), False)


def _preference(media_type: str, ranges: dict[str, float]) -> tuple[float, int]:
    """Return the quality of the most specific range that covers a media type, and how specific it is, from 0 to 2."""
    covering = ("*/*", media_type.partition("/")[0] + "/*", media_type)
    for specificity in (2, 1, 0):
        if covering[specificity] in ranges:
            return ranges[covering[specificity]], specificity
    return 0.0, 0


def _listed(request: Request, header: str) -> list[tuple[str, float]]:
    """Return the elements of a list header, which may be repeated, with their quality `q`, by default 1."""
    elements = []
    for part in ",".join(request.headers.getlist(header)).lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name:
            elements.append((name, _quality(parameters)))
    return elements


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
