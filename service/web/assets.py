"""Files of the page: those in `files/`, and plotly's script from its wheel, where that is installed (extra `page`)."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

FILES = Path(__file__).parent / "files"

PLOTLY = "plotly.min.js"
"""Name of the script that draws plots."""

MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Media types of the page's files, by the end of their names."""


@dataclass(frozen=True)
class Asset:
    """A file of the page, as it is sent."""

    media_type: str
    content: bytes
    compressed: bytes
    """The same as gzip writes it."""
    etag: str
    """Validator of both forms, and therefore a weak one (RFC 9110, section 8.8.3)."""


def asset_names() -> tuple[str, ...]:
    """Return the names of all files that `asset` finds."""
    return tuple(_paths())


def asset(name: str) -> Asset | None:
    """Return a file of the page by its name, or None where there is none.

    It is read and compressed once, which takes a third of a second for plotly's script.
    """
    path = _paths().get(name)
    return None if path is None else _read(path)


@cache
def _paths() -> Mapping[str, Path]:
    found = {path.name: path for path in sorted(FILES.iterdir()) if path.suffix in MEDIA_TYPES}
    # The package is not imported, since only a file of it is needed.
    plotly = find_spec("plotly")
    for folder in plotly.submodule_search_locations or () if plotly is not None else ():
        script = Path(folder) / "package_data" / PLOTLY
        if script.is_file():
            found[PLOTLY] = script
    return found


@cache
def _read(path: Path) -> Asset:
    content = path.read_bytes()
    return Asset(
        media_type=MEDIA_TYPES[path.suffix],
        content=content,
        compressed=gzip.compress(content, mtime=0),
        etag=f'W/"{sha256(content).hexdigest()[:32]}"',
    )
