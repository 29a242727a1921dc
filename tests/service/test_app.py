import pytest

from service import app
from service.app import create_app, open_videos
from service.settings import Settings
from tests.service.fakes import FakeDetector, FakePredictor

GIB = 1024**3


@pytest.mark.parametrize(("gib", "expected"), [(1, 2), (2, 2), (4, 3), (6, 5), (64, 8)])
def test_as_many_videos_are_open_as_memory_has_room_for(
    monkeypatch: pytest.MonkeyPatch, gib: int, expected: int
) -> None:
    """Each may take 512 MiB and 10 bytes for each of 50 million pixels, which is 0.966 GiB; 1 GiB is kept."""
    monkeypatch.setattr(app, "memory_limit_bytes", lambda: gib * GIB)
    assert open_videos(Settings(decode_workers=2, max_pixels=50_000_000)) == expected
    assert open_videos(Settings(decode_workers=2, max_pixels=50_000_000, open_videos=7)) == 7


def test_apps_share_the_document_unless_their_open_routes_differ() -> None:
    """It takes longer to make than everything else that an app consists of."""
    settings = (Settings(), Settings(), Settings(api_keys="a-key-of-32-characters-xxxxxxxxxx"))
    open_to_all, same, with_keys = (create_app(each, FakeDetector(), FakePredictor()).openapi() for each in settings)
    assert open_to_all is same
    assert "security" not in open_to_all
    assert "security" in with_keys
