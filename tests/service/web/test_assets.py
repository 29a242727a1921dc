"""The files of the page: their headers, their copies in browsers, and what opens without a key."""

import gzip
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from service.web import assets
from service.web.assets import FILES, PLOTLY, asset, asset_names
from tests.service.fakes import FakeDetector, FakePredictor

ROOT = Path(__file__).parents[3]
KEY = "a-key-of-the-tests"


@pytest.mark.parametrize("path", ["/", "/docs", "/page/app.js", "/page/style.css", "/page/plotly.min.js"])
def test_a_file_is_bound_to_this_host(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["permissions-policy"].startswith("camera=(self)")


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/page/app.js", "text/javascript; charset=utf-8"),
        ("/page/style.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ],
)
def test_a_file_has_its_media_type(client: TestClient, path: str, media_type: str) -> None:
    assert client.get(path).headers["content-type"] == media_type
    assert client.get(path, headers={"Accept": "application/json"}).status_code == 406


def test_every_file_that_the_pages_name_is_there(client: TestClient) -> None:
    sources = {path.name: path.read_text(encoding="utf-8") for path in FILES.iterdir()}
    named = {name for text in sources.values() for name in re.findall(r'(?:href|src) ?= ?"page/([^"]+)"', text)}
    imported = {name for text in sources.values() for name in re.findall(r'from "\./([^"]+)"', text)}
    assert {"app.js", "docs.js", "style.css", PLOTLY} <= named
    assert named | imported <= set(asset_names())
    assert set(sources) <= set(asset_names())


def test_a_copy_is_used_again_until_the_file_changes(client: TestClient) -> None:
    etag = client.get("/").headers["etag"]
    for known in (etag, f'"other", {etag.removeprefix("W/")}', "*"):
        response = client.get("/", headers={"If-None-Match": known})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
    assert client.get("/", headers={"If-None-Match": 'W/"other"'}).status_code == 200


def test_plotly_is_sent_as_gzip_has_compressed_it(client: TestClient) -> None:
    plain = client.get(f"/page/{PLOTLY}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    found = asset(PLOTLY)
    assert found is not None
    assert gzip.decompress(found.compressed) == plain.content
    assert len(found.compressed) < len(plain.content) / 2
    compressed = client.get(f"/page/{PLOTLY}", headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.headers["content-length"] == str(len(found.compressed))
    assert compressed.content == plain.content
    refused = client.get(f"/page/{PLOTLY}", headers={"Accept-Encoding": "gzip;q=0, *"})
    assert "content-encoding" not in refused.headers


@pytest.mark.parametrize("name", ["nothing.js", "..%2fassets.py", "__init__.py", "style.css/"])
def test_nothing_else_is_served(client: TestClient, name: str) -> None:
    response = client.get(f"/page/{name}")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


def test_without_plotly_the_answer_says_where_it_comes_from(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "find_spec", lambda name: None)
    assets._paths.cache_clear()
    try:
        response = client.get(f"/page/{PLOTLY}")
    finally:
        assets._paths.cache_clear()
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert "extra `page`" in response.json()["detail"]


@pytest.mark.parametrize("protect_operations", [False, True])
def test_the_pages_open_without_a_key_and_nothing_behind_them_does(protect_operations: bool) -> None:
    settings = Settings(api_keys=KEY, protect_operations=protect_operations)
    with TestClient(create_app(settings, FakeDetector(), FakePredictor())) as client:
        for path in ("/", "/docs", "/page/app.js", f"/page/{PLOTLY}"):
            assert client.get(path).status_code == 200
        for path in ("/models", "/openapi.json", "/page/", "/docs/", "/page/app.js/"):
            assert client.get(path).status_code == 401


def test_the_text_on_responsible_use_is_the_repository_s() -> None:
    page = (FILES / "responsible-use.html").read_text(encoding="utf-8")
    body = page[page.index("<main>") :]
    shown = " ".join(re.sub(r"<[^>]+>", "", body).split())
    title, _, text = (ROOT / "RESPONSIBLE_USE.md").read_text(encoding="utf-8").partition("\n")
    assert f"<h1>{title.removeprefix('# ')}</h1>" in page
    assert shown == " ".join(re.sub(r"\*\*|`|^\* ", "", text, flags=re.M).split())
