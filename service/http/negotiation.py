"""What a request may ask of its answer beside its query: the media type, and the time it may take."""

from collections.abc import Sequence

from fastapi import Request

from service.errors import InvalidParameter, Limit, NotAcceptable
from service.settings import Settings, variable


def negotiated(request: Request, offered: Sequence[str]) -> str:
    """Return the media type of `offered` that the client prefers; the first one where it does not say.

    Of types that it likes equally the one that it names most exactly is taken. Raises NotAcceptable where it accepts
    none, and InvalidParameter for `Prefer: respond-async`, which is not built yet.
    """
    if "respond-async" in (name for name, _ in _listed(request, "prefer")):
        raise InvalidParameter("Prefer: respond-async is not available")
    ranges = dict(_listed(request, "accept")) or {"*/*": 1.0}
    ranked = [(_liking(media_type, ranges), -place) for place, media_type in enumerate(offered)]
    (quality, _), place = max(ranked)
    if not quality:
        raise NotAcceptable(f"the answer is available as {', '.join(offered)}")
    return offered[-place]


def time_limit(request: Request, setting: str, settings: Settings) -> Limit:
    """Return the seconds that the answer may take: the setting's, or the client's X-Request-Timeout-Ms if shorter.

    Raises InvalidParameter for a header that is no positive whole number.
    """
    configured = Limit(name=variable(setting), value=getattr(settings, setting))
    asked = request.headers.get("x-request-timeout-ms")
    if asked is None:
        return configured
    if not asked.isdecimal() or not int(asked[:10]) > 0:
        raise InvalidParameter("X-Request-Timeout-Ms: must be a positive whole number of milliseconds")
    asked_s = int(asked[:10]) / 1000
    return Limit(name="X-Request-Timeout-Ms", value=asked_s) if asked_s < configured["value"] else configured


def _liking(media_type: str, ranges: dict[str, float]) -> tuple[float, int]:
    """The quality that the client gives a type by the most exact range that covers it, and how exact that is."""
    covering = ("*/*", media_type.partition("/")[0] + "/*", media_type)
    for exactness in (2, 1, 0):
        if covering[exactness] in ranges:
            return ranges[covering[exactness]], exactness
    return 0.0, 0


def _listed(request: Request, header: str) -> list[tuple[str, float]]:
    """The elements of a header that may be given several times, with their `q`, which is 1 where it is missing."""
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
