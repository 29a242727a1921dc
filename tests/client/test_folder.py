"""The folder of results and its manifest, after a process that was killed at any moment."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affect_client import Affect
from affect_client.commands.analyze import Batch, BatchRequest, analyze_all
from affect_client.commands.folder import MANIFEST, FolderInUse, ResultFolder
from affect_client.commands.inputs import Input, find_inputs, passed_over
from affect_client.files import SUFFIX, PartialFile
from tests.client.fake_service import MODELS, problem

GOOD = {f"day/{number}.mp4": bytes([number]) * 2000 for number in range(4)}
BAD = {"broken.mp4": b"damaged"}


def table_of(content: bytes) -> bytes:
    """The table that the service gives for a video."""
    return f"frame,time_s\n0,{hashlib.sha256(content).hexdigest()}\n".encode()


@dataclass
class Analysis:
    """A service in this process, which counts how often each video comes."""

    uploads: list[bytes] = field(default_factory=list)

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/models":
            return httpx2.Response(200, json=MODELS)
        request.read()
        content = request.content.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
        self.uploads.append(content)
        if content in BAD.values():
            return httpx2.Response(422, json=problem(422, "undecodable_media"))
        return httpx2.Response(200, content=table_of(content))


@contextmanager
def a_folder() -> Iterator[Path]:
    """An empty folder, also within a property test."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def analyze(root: Path, *, fps: float = 5, models: dict[str, object] | None = None) -> tuple[int, list[bytes]]:
    """Analyse root/clips into root/out; the exit status, and the videos that were sent."""
    analysis = Analysis()
    transport = httpx2.MockTransport(analysis)
    with Affect(transport=transport) as affect, ResultFolder(root / "out") as folder:
        batch = Batch(affect, folder, affect.models(), BatchRequest("csv", {"fps": fps}))
        status = analyze_all(batch, find_inputs([root / "clips"]), jobs=2)
    return status, analysis.uploads


def write_clips(root: Path) -> None:
    for name, content in (GOOD | BAD).items():
        path = root / "clips" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def entries(root: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (root / "out" / MANIFEST).read_text().splitlines()]


def assert_all_there(root: Path) -> None:
    """Every good file has its whole result and one line that says so, and nothing else is in the folder."""
    out = root / "out"
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert files == {f"{name}.csv" for name in GOOD} | {MANIFEST}
    for name, content in GOOD.items():
        assert (out / f"{name}.csv").read_bytes() == table_of(content)
    done = sorted(str(entry["result"]) for entry in entries(root) if entry["state"] == "done")
    assert done == sorted(f"{name}.csv" for name in GOOD)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody killed."""
    root = tmp_path_factory.mktemp("whole")
    write_clips(root)
    status, uploads = analyze(root)
    assert status == 1
    assert sorted(uploads) == sorted((GOOD | BAD).values())
    assert_all_there(root)
    return root


@given(data=st.data())
def test_whatever_a_killed_run_left_the_next_one_makes_the_rest(whole: Path, data: st.DataObject) -> None:
    manifest = (whole / "out" / MANIFEST).read_bytes()
    written = manifest[: data.draw(st.integers(0, len(manifest)), label="bytes of the manifest")]
    told = {json.loads(line)["result"] for line in written.split(b"\n")[:-1]}
    with a_folder() as root:
        shutil.copytree(whole / "clips", root / "clips")
        for name, content in GOOD.items():
            path = root / "out" / f"{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            # A line comes last; before it the result may be absent, half-written, or there.
            left = "there" if f"{name}.csv" in told else data.draw(st.sampled_from(["absent", "half", "there"]))
            if left == "there":
                path.write_bytes(table_of(content))
            elif left == "half":
                path.with_name(f".{path.name}{SUFFIX}").write_bytes(table_of(content)[:9])
        (root / "out" / MANIFEST).write_bytes(written)

        status, uploads = analyze(root)

        assert status == 1
        untold = [content for name, content in GOOD.items() if f"{name}.csv" not in told]
        assert sorted(uploads) == sorted([*untold, *BAD.values()])
        assert_all_there(root)


def test_the_manifest_tells_where_a_result_comes_from(whole: Path) -> None:
    by_result = {entry["result"]: entry for entry in entries(whole)}
    good = by_result["day/1.mp4.csv"]
    assert good["file"] == str(whole / "clips/day/1.mp4")
    assert good["sha256"] == hashlib.sha256(GOOD["day/1.mp4"]).hexdigest()
    assert good["options"] == {"format": "csv", "fps": 5}
    task = {"bundle": "fake", "version": "7", "sha256": "0" * 64}
    tasks = {"valence_arousal": task, "expression": task, "action_units": task}
    assert good["model"] == {"engine": "torch", "precision": "float32", "detector": "fake-1"} | tasks
    assert (good["state"], good["error"], good["truncated"]) == ("done", None, False)
    bad = by_result["broken.mp4.csv"]
    assert bad["state"] == "failed"
    assert bad["error"] == {"code": "undecodable_media", "status": 422, "detail": "it is undecodable_media"}


def test_what_has_changed_is_made_again(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    everything = sorted((GOOD | BAD).values())
    assert analyze(tmp_path) == (1, [*BAD.values()])
    assert sorted(analyze(tmp_path, fps=10)[1]) == everything  # another parameter
    (tmp_path / "clips/day/2.mp4").write_bytes(b"new")  # another content
    (tmp_path / "out/day/3.mp4.csv").unlink()  # a result that somebody removed
    assert sorted(analyze(tmp_path, fps=10)[1]) == sorted([b"new", GOOD["day/3.mp4"], *BAD.values()])
    (tmp_path / "clips/broken.mp4").write_bytes(b"mended")
    assert analyze(tmp_path, fps=10) == (0, [b"mended"])
    assert analyze(tmp_path, fps=10) == (0, [])


def test_another_version_of_the_weights_makes_results_again(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.setitem(MODELS, "detector", "fake-2")
    assert len(analyze(tmp_path)[1]) == len(GOOD | BAD)
    monkeypatch.setitem(MODELS, "precision", "bfloat16")
    assert len(analyze(tmp_path)[1]) == len(GOOD | BAD)


def test_two_commands_do_not_share_a_folder(tmp_path: Path) -> None:
    with ResultFolder(tmp_path), pytest.raises(FolderInUse, match="another command"):
        ResultFolder(tmp_path)
    ResultFolder(tmp_path).__exit__(None, None, None)


def test_files_with_long_names_have_results_of_their_own(tmp_path: Path) -> None:
    names = ["b.mp4", *("é" * half + end for half in (118, 125) for end in ("x.mp4", "y.mp4"))]
    (tmp_path / "clips" / "day").mkdir(parents=True)
    for name in names:
        (tmp_path / "clips" / "day" / name).write_bytes(name.encode())
    assert analyze(tmp_path)[0] == 0
    assert analyze(tmp_path) == (0, [])  # the names of the results are the same
    results = {Path(str(entry["file"])).name: Path(str(entry["result"])) for entry in entries(tmp_path)}
    assert {name: (tmp_path / "out" / result).read_bytes() for name, result in results.items()} == {
        name: table_of(name.encode()) for name in names
    }
    assert {result.suffix for result in results.values()} == {".csv"}
    assert results["b.mp4"] == Path("day/b.mp4.csv")
    assert {path.name for path in (tmp_path / "out" / "day").iterdir()} == {each.name for each in results.values()}


@pytest.mark.parametrize("line", [b"name,age\n", b'{"file": 1}\n', b"[]\n"])
def test_a_file_of_that_name_that_is_no_manifest_is_left_alone(line: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(line + b"rest")
    with pytest.raises(ValueError, match="is no entry of a manifest"):
        ResultFolder(tmp_path)
    assert (tmp_path / MANIFEST).read_bytes() == line + b"rest"


def test_files_of_folders_and_their_results(tmp_path: Path) -> None:
    for name in ("a/x.MP4", "a/x.jpg", "b/x.mp4", ".hidden/x.mp4", "a/._x.mp4", "a/notes.txt", "strange"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\xff\xd8\xff" if name == "strange" else b"?")
    found = find_inputs([tmp_path, tmp_path / "strange", tmp_path / "a" / ".." / "strange"])
    assert [item.result for item in found] == ["a/x.MP4", "a/x.jpg", "b/x.mp4", "strange"]
    assert [item.kind for item in found] == ["video", "picture", "video", "picture"]
    with pytest.raises(ValueError, match=r"x\.mp4 would have the same result"):
        find_inputs([tmp_path / "b", tmp_path / "b" / "x.mp4", tmp_path / ".hidden" / "x.mp4"])
    with pytest.raises(ValueError, match="no such file"):
        find_inputs([tmp_path / "absent"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.mp4.csv").touch()
    assert passed_over([tmp_path, tmp_path / "strange"], tmp_path / "out") == {".txt": 1, "": 1}


def test_a_full_disk_leaves_no_half_written_file(tmp_path: Path) -> None:
    with PartialFile(tmp_path / "clip.csv") as file:
        file._file.close()
        file._file = open("/dev/full", "wb")  # noqa: SIM115
        file.write([b"a"])
        with pytest.raises(OSError, match=r"No space .*clip\.csv"):
            file.commit()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.mp4", b"\x89PNG\r\n\x1a\n", "picture"),  # the content counts
        ("a.mp4", b"\0\0\0\x18ftypheic", "picture"),
        ("a.jpg", b"RIFF\0\0\0\0WEBP", "picture"),
        ("a.avi", b"RIFF\0\0\0\0AVI ", "video"),
        ("a.mp4", b"\0\0\0\x18ftypisom", "video"),
        ("a.png", b"damaged", "picture"),
        ("a", b"damaged", "video"),
        ("a", b"", "video"),
    ],
)
def test_the_kind_of_a_file(name: str, head: bytes, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(head)
    assert Input(path, name).kind == kind
