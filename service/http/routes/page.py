"""GET / and GET /docs, the pages for people with a browser, and GET /page/{name}, the files that they consist of."""

from asyncio import to_thread

from fastapi import APIRouter, Request, Response

from service.errors import NotFound
from service.http.negotiation import accepts_gzip, negotiated, validators
from service.web.assets import PLOTLY, asset

router = APIRouter(include_in_schema=False)

OPEN_ROUTES = ("/", "/docs", "/page/{name}")
"""What needs no key, since a browser cannot send one before there is a page; none of it holds data."""

HEADERS = {
    # Plotly brings its style rules with it unless they are in a file, so no `unsafe-inline` is needed; see plotly.css.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",  # a browser asks whether its copy is still right, by the ETag
    "Vary": "Accept-Encoding",
}
"""Headers of every file: a page takes all from this service alone, and no other page can hold it in a frame."""


@router.get("/")
async def page(request: Request) -> Response:
    """The page on which a picture, a video or a camera is analysed."""
    return await _file(request, "index.html")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The interface to read and to try; it takes its contents from /openapi.json."""
    return await _file(request, "docs.html")


@router.get("/page/{name}")
async def file(request: Request, name: str) -> Response:
    """A file that a page consists of."""
    return await _file(request, name)


async def _file(request: Request, name: str) -> Response:
    found = await to_thread(asset, name)
    if found is None:
        lacking = "plots need plotly, which is not installed here: it comes with the extra `page`"
        raise NotFound(lacking if name == PLOTLY else "the page has no such file")
    negotiated(request, [found.media_type])
    headers = HEADERS | {"ETag": found.etag}
    if {found.etag, "*"} & validators(request):
        return Response(status_code=304, headers=headers)
    if accepts_gzip(request):
        return Response(found.compressed, headers=headers | {"Content-Encoding": "gzip"}, media_type=found.media_type)
    return Response(found.content, headers=headers, media_type=found.media_type)
