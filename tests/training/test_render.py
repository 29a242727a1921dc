"""The command, from its options to a prepared set."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from os import environ
from pathlib import Path

import cv2
import numpy as np
import pytest

from training import prepare, render
from training.data.batches import targets
from training.data.prepared import load_prepared
from training.datasets import DatasetError, build_reader
from training.datasets.raw import SPLITS, Split
from training.datasets.rendered import MANIFEST, RenderedPicture, as_json, from_json, rendered_pictures
from training.rendered.errors import RenderError
from training.rendered.people import split_of
from training.rendered.plan import SHORT_SITTING


@pytest.fixture(scope="module")
def skins(path_tracer: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("skins")
    cv2.imwrite(str(folder / "young_lightskinned_female_diffuse.jpg"), np.full((64, 64, 3), (110, 140, 200), np.uint8))
    return folder


def in_this_process(options: render.RenderOptions, out: Path) -> Callable[..., Iterator[list[str]]]:
    """The work of the pool without its processes, which take seconds to start."""
    worker = render._Worker(options, out)
    return lambda _, sittings, __: (worker._render(sitting) for sitting in sittings)


def command(monkeypatch: pytest.MonkeyPatch, out: Path, skins: Path, *more: object) -> None:
    fixed = ["--out", out, "--skins", skins, "--size", 32, "--samples", 1, "--people", 2, "--sitting", SHORT_SITTING]
    monkeypatch.setattr(sys, "argv", ["training.render", *map(str, fixed), *map(str, more)])
    render.main()


@pytest.fixture(scope="module")
def rendered(skins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the real command makes, its worker process included."""
    out = tmp_path_factory.mktemp("out") / "faces"
    with pytest.MonkeyPatch.context() as monkeypatch:
        command(monkeypatch, out, skins, "--count", 5)
    return out


def test_whole_sittings_are_rendered(rendered: Path) -> None:
    pictures = list(rendered_pictures(rendered))
    assert [picture.sitting for picture in pictures] == [0] * SHORT_SITTING + [1] * SHORT_SITTING
    assert [picture.person for picture in pictures[::SHORT_SITTING]] == ["makehuman-0000", "makehuman-0001"]
    assert all(cv2.imread(str(rendered / picture.file)).shape == (32, 32, 3) for picture in pictures)
    assert not list(rendered.rglob("*.partial"))


def test_pictures_of_a_sitting_differ(rendered: Path) -> None:
    files = [rendered / picture.file for picture in rendered_pictures(rendered)]
    assert len({file.read_bytes() for file in files}) == len(files)


def test_a_stopped_run_goes_on_to_the_same_pictures(
    rendered: Path, skins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second sitting lost half of its lines."""
    whole = (rendered / MANIFEST).read_text().splitlines(keepends=True)
    for picture in list(rendered_pictures(rendered))[:SHORT_SITTING]:
        file = tmp_path / picture.file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((rendered / picture.file).read_bytes())
    (tmp_path / "render.json").write_text((rendered / "render.json").read_text())
    (tmp_path / MANIFEST).write_text("".join(whole[:6]) + whole[6][:40])
    options = render.RenderOptions(skins, None, 2, 0, 32, 1, sitting=SHORT_SITTING)
    monkeypatch.setattr(render, "_ahead", in_this_process(options, tmp_path))
    command(monkeypatch, tmp_path, skins, "--count", 8)
    assert (tmp_path / MANIFEST).read_text() == "".join(whole)
    for picture in rendered_pictures(rendered):
        assert (tmp_path / picture.file).read_bytes() == (rendered / picture.file).read_bytes()


def test_a_finished_run_renders_nothing(
    rendered: Path, skins: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (rendered / MANIFEST).read_bytes()
    command(monkeypatch, rendered, skins, "--count", 4)
    assert (rendered / MANIFEST).read_bytes() == before
    assert "8 pictures" in capsys.readouterr().out


def test_other_options_are_refused(rendered: Path, skins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"error: .* was rendered with other options"):
        command(monkeypatch, rendered, skins, "--count", 24, "--seed", 1)


def test_a_folder_without_skins_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"error: .* has no skins"):
        command(monkeypatch, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_missing_model_is_named(skins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="error: ICT-FaceKit's model is missing"):
        command(monkeypatch, tmp_path / "out", skins, "--ict", tmp_path / "face.npz")


KILLED = """
import os, signal, time
from multiprocessing import get_context
from training.render import end_with_parent

if __name__ == "__main__":
    child = get_context("spawn").Process(target=end_with_parent)
    child.start()
    print(child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_ends_with_a_command_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    # The output ends when the last process that holds it does, which is the worker: if it stayed, time would run out.
    run = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environ | {"PYTHONPATH": "."},
    )
    assert run.returncode == -signal.SIGKILL
    assert int(run.stdout) > 0


def test_a_renderer_that_dies_is_reported(skins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(*_: object) -> object:
        raise render.BrokenProcessPool

    monkeypatch.setattr(render, "_ahead", dying)
    with pytest.raises(SystemExit, match="error: a rendering process ended"):
        command(monkeypatch, tmp_path / "out", skins)


def test_rendered_faces_become_a_prepared_set(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Faces of 32 pixels with one path of light are not all found; what is known does not depend on that."""
    arguments = ["--dataset", "rendered", "--root", rendered, "--out", tmp_path / "out", "--size", 32, "--workers", 1]
    monkeypatch.setattr(sys, "argv", ["training.prepare", *map(str, arguments)])
    prepare.main()
    assert "known action units" in capsys.readouterr().out
    faces = load_prepared(tmp_path / "out")
    pictures = list(rendered_pictures(rendered))
    assert (faces.info.rendered, faces.info.derived, faces.info.annotated) == (True, False, False)
    assert faces.action_units == pytest.approx(np.array([picture.units for picture in pictures]))
    assert faces.with_action_units.tolist() == faces.found.tolist()
    assert not faces.with_valence_arousal.any()
    assert faces.splits.tolist() == [picture.split for picture in pictures]
    assert faces.majority[0] == faces.info.labels.index("neutral")
    batch = targets(faces, np.arange(len(faces)))
    assert batch.action_units_mask[:, 0].tolist() == faces.found.tolist()
    assert not batch.valence_arousal_mask.any()


LINE = RenderedPicture(
    file="pictures/000/000000-0.jpg", sitting=0, person="ict-0000", original="ict-0000", split="train", model="ict",
    sex="female", age=30.0, age_group="young", tone="dark", kind="single", expression=None, strength=0.5,
    votes=(0.0,) * 8, left=(0.0,) * 6 + (0.5,) + (0.0,) * 5, right=(0.25,) + (0.0,) * 11, others={"AU9": 0.125},
    yaw=-3.0, pitch=1.5, roll=0.0, gaze=(2.0, -1.0), eyes_closed=0.0,
)  # fmt: skip


def test_lines_are_read_as_they_were_written() -> None:
    assert from_json(as_json(LINE)) == LINE
    assert as_json(LINE).count("\n") == 1


def test_a_face_has_the_intensity_of_its_stronger_side() -> None:
    assert LINE.units == (0.25, 0, 0, 0, 0, 0, 0.5, 0, 0, 0, 0, 0)


def test_the_reader_gives_what_is_known(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(as_json(LINE))
    (face,) = build_reader("rendered").faces(tmp_path)
    assert (face.split, face.votes, face.action_units) == ("train", (0.0,) * 8, LINE.units)
    assert face.valence_arousal is None
    assert face.path == tmp_path / LINE.file


@pytest.mark.parametrize(
    ("field", "value"),
    [("split", "exam"), ("left", [0.5]), ("right", [2.0] + [0] * 11), ("votes", [1]), ("colour", "red"), ("left", 3)],
)
def test_a_wrong_line_is_named(tmp_path: Path, field: str, value: object) -> None:
    wrong = json.dumps(json.loads(as_json(LINE)) | {field: value})
    (tmp_path / MANIFEST).write_text(as_json(LINE) + wrong + "\n")
    with pytest.raises(DatasetError, match=r"pictures\.jsonl line 2 does not describe a rendered picture"):
        list(rendered_pictures(tmp_path))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expects .*pictures\.jsonl"):
        list(rendered_pictures(tmp_path))


def test_a_crowd_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one person"):
        _ = render.RenderOptions(Path(), None, 0, 0, 32, 1).plan
    assert issubclass(RenderError, Exception)


def test_only_people_of_the_wanted_splits_are_rendered() -> None:
    def splits(*wanted: Split) -> list[Split]:
        options = render.RenderOptions(Path(), None, 30, 0, 32, 1, wanted or SPLITS)
        return [sitting.person.split for sitting in islice(options.sittings(), 30)]

    every = splits()
    assert {"train", "validation", "test"} == set(every)
    assert set(splits("train", "validation")) == {"train", "validation"}
    # They are the same sittings, in the same order.
    assert splits("test")[: every.count("test")] == ["test"] * every.count("test")


def test_splits_without_people_are_refused() -> None:
    others = tuple(split for split in SPLITS if split != split_of("makehuman-0000"))
    with pytest.raises(ValueError, match="none of 1 people is of the splits"):
        render.RenderOptions(Path(), None, 1, 0, 32, 1, others).sittings()
