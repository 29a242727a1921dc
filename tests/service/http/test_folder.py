import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.errors import OutOfResources, StorageFull
from service.http.folder import PREFIX, telling_what_lacks, upload_folder
from tests.service.media_files import mp4


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_dead_process_s_uploads_are_removed_and_a_living_one_s_are_not(root: Path) -> None:
    for name in (PREFIX + "dead", PREFIX + "living", "affect-other"):
        (root / name).mkdir()
        (root / name / "upload").write_bytes(b"a face")
    (root / (PREFIX + "link")).symlink_to(root / "affect-other")
    owner = os.open(root / (PREFIX + "living"), os.O_RDONLY)
    fcntl.flock(owner, fcntl.LOCK_EX)
    with upload_folder() as folder:
        with upload_folder() as second:  # of another process
            assert {folder, second} < set(root.iterdir())
        left = {path.name for path in root.iterdir()} - {folder.name}
        assert left == {PREFIX + "living", PREFIX + "link", "affect-other"}
        assert (root / "affect-other" / "upload").exists()
    assert not folder.exists()
    os.close(owner)


def test_a_folder_that_is_gone_is_no_error_of_the_client(client: TestClient, tmp_path: Path) -> None:
    film = mp4(tmp_path / "film.mp4", [50] * 3)
    assert client.get("/readyz").status_code == 200
    shutil.rmtree(client.app.state.context.directory)
    answer = client.post("/analyze/video", files={"file": film})
    assert (answer.status_code, answer.json()["code"]) == (503, "out_of_resources")
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
    assert ready.json()["detail"] == "the temporary folder for uploads cannot be written"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
        (errno.EROFS, OutOfResources),
        (errno.ENOENT, OutOfResources),
        (errno.EACCES, OutOfResources),
        (errno.EMFILE, OutOfResources),
        (errno.ENOMEM, OutOfResources),
        (errno.ECONNRESET, OSError),
    ],
)
def test_what_the_system_lacks_has_an_error_of_its_own(number: int, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught, telling_what_lacks():
        raise OSError(number, os.strerror(number), "/tmp/secret")
    assert kind is OSError or "secret" not in str(caught.value)
