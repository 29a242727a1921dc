"""YuNet's file in the Hugging Face cache, and the detector that `auto` chooses; nothing here asks the network."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model_core.faces import detection
from model_core.faces.detection import DetectorUnavailable, build_network, yunet_file
from model_core.faces.detection.yunet_file import FILE, REVISION, cached_yunet

CONTENT = b"a network"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache; the file that is right has CONTENT, and nothing may be fetched."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("something was fetched"))
    monkeypatch.setattr(yunet_file, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    return tmp_path


def write_cached(cache: Path, content: bytes = CONTENT) -> Path:
    path = cache / "models--opencv--face_detection_yunet" / "snapshots" / REVISION / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("download", [False, True])
def test_a_cached_file_is_found_without_the_network(cache: Path, download: bool) -> None:
    path = write_cached(cache)
    assert cached_yunet(download=download) == path


def test_a_missing_file_is_fetched_where_that_is_allowed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def fetch(*words: object, revision: str) -> str:
        asked.append((*words, revision))
        return str(write_cached(cache))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    with pytest.raises(DetectorUnavailable, match="is not in the Hugging Face cache"):
        cached_yunet()
    assert asked == []
    assert cached_yunet(download=True).read_bytes() == CONTENT
    assert asked == [("opencv/face_detection_yunet", FILE, REVISION)]


def test_another_content_is_refused(cache: Path) -> None:
    write_cached(cache, b"something else")
    with pytest.raises(DetectorUnavailable, match="is not YuNet's file: its SHA-256 begins with "):
        cached_yunet()


def test_a_hub_that_fails_is_told_in_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError("a long\nstory")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(DetectorUnavailable, match=r"^YuNet's file could not be fetched \(OSError\)$"):
        cached_yunet(download=True)


def test_without_the_hubs_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DetectorUnavailable, match="install the extra `hub`"):
        build_network("yunet")


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the networks that are there: a test decides. A network is a stand-in that is its own name."""
    names: set[str] = set()

    def factory(name: str) -> Callable[[], str]:
        def make() -> str:
            if name not in names:
                raise ModuleNotFoundError(f"{name} is not installed")
            return name

        return make

    def find(*, download: bool) -> Path:
        if "yunet" not in names and not download:
            raise DetectorUnavailable("no file")
        return Path("yunet" if "yunet" in names else "fetched yunet")

    monkeypatch.setattr(detection, "NETWORKS", {name: factory(name) for name in ("yuface", "mtcnn")})
    monkeypatch.setattr(detection, "cached_yunet", find)
    monkeypatch.setattr(detection, "YuNetNetwork", str)
    return names


@pytest.mark.parametrize(
    ("names", "download", "chosen"),
    [
        ({"yuface", "yunet", "mtcnn"}, False, "yuface"),
        ({"yunet", "mtcnn"}, False, "yunet"),
        ({"mtcnn"}, False, "mtcnn"),
        ({"mtcnn"}, True, "mtcnn"),  # what is there needs no download
        (set(), True, "fetched yunet"),
    ],
)
def test_auto_takes_the_first_that_is_there(there: set[str], names: set[str], download: bool, chosen: str) -> None:
    there |= names
    assert build_network("auto", download=download) == chosen


def test_auto_says_what_is_missing(there: set[str]) -> None:
    expected = "there is no face detector: yuface is not installed; no file; mtcnn is not installed"
    with pytest.raises(DetectorUnavailable, match=f"^{expected}$"):
        build_network("auto")


def test_auto_is_yuface_where_it_is_installed() -> None:
    pytest.importorskip("yuface", reason="yuface is absent: it exists for x86-64 and Python 3.11 only")
    assert build_network("auto").name.startswith("yuface-")
