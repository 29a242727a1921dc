from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.affect import ACTION_UNITS, LABEL_SETS
from training.datasets.affwild2 import HEADERS, AffWild2
from training.generate import Plan, generate, main, trembling
from training.generated.camera import Shot, film
from training.generated.drawing import Pose, draw, mouth, project
from training.generated.people import Person, person
from training.generated.spans import spans
from training.generated.trajectories import Trajectory, trajectory

TASKS = {
    "VA_Estimation_Challenge": "valence,arousal",
    "EXPR_Recognition_Challenge": "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other",
    "AU_Detection_Challenge": "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26",
}
REST = np.zeros(12)


def generated(out: Path, seed: int = 0) -> Path:
    generate(Plan(videos=4, frames=40, validation=1, seed=seed), out)
    return out


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated(tmp_path_factory.mktemp("generated") / "set")


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def levels(**units: float) -> np.ndarray:
    return np.array([units.get(name, 0.0) for name in ACTION_UNITS])


def units(**given_levels: float) -> Mapping[str, float]:
    return dict.fromkeys(ACTION_UNITS, 0.0) | given_levels


def somebody(seed: int = 3) -> Person:
    return person(np.random.default_rng(seed))


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tree: Path, tmp_path: Path) -> None:
    assert contents(generated(tmp_path / "again")) == contents(tree)
    assert contents(generated(tmp_path / "other", seed=1)) != contents(tree)


def test_both_splits_have_their_faces_and_every_third_video_a_second_one(tree: Path) -> None:
    for task in TASKS:
        folders = tree / "6th_ABAW_Annotations" / task
        names = {split.name: sorted(path.stem for path in split.iterdir()) for split in folders.iterdir()}
        assert names == {
            "Train_Set": ["generated001", "generated002", "generated003", "generated003_left"],
            "Validation_Set": ["generated004"],
        }
    assert len(list((tree / "cropped_aligned").iterdir())) == 5
    assert ("Train_Set", "generated006_right") in Plan(videos=7, frames=1, validation=1).faces()


def rows(tree: Path, task: str) -> np.ndarray:
    """The lines after the header, of all files: all have the official header and a line for each frame."""
    files = sorted((tree / "6th_ABAW_Annotations" / task).glob("*/*.txt"))
    texts = [path.read_text().splitlines() for path in files]
    assert {lines[0] for lines in texts} == {TASKS[task]}
    assert {len(lines) for lines in texts} == {1 + 40}
    return np.array([line.split(",") for lines in texts for line in lines[1:]], dtype=float)


def test_annotations_have_the_official_headers_ranges_and_ignore_marks(tree: Path) -> None:
    va, expression, au = (rows(tree, task) for task in TASKS)
    ignored = (va == -5).any(axis=1)
    assert 0 < ignored.mean() < 0.2
    assert (va[ignored] == -5).all()
    assert np.abs(va[~ignored]).max() <= 1
    assert va[~ignored].std(axis=0).min() > 0.2
    assert set(np.unique(expression)) <= set(range(-1, 8))
    assert len(np.unique(expression)) >= 7
    assert set(np.unique(au)) == {-1, 0, 1}
    assert au.shape[1] == 12


def test_the_reader_of_the_original_reads_it(tree: Path) -> None:
    found = {(each.video, each.person): each for each in AffWild2().sequences(tree)}
    assert sorted(found) == [(f"generated00{n}", who) for n, who in ((1, ""), (2, ""), (3, ""), (3, "left"), (4, ""))]
    for (video, side), each in found.items():
        name = f"{video}_{side}" if side else video
        assert each.split == ("validation" if video == "generated004" else "train")
        pictures = {path for path in each.frames if path is not None}
        assert pictures == set((tree / "cropped_aligned" / name).iterdir())
        assert len(each.frames) == len(each.targets.expression) == 40
        [annotations] = tree.glob(f"6th_ABAW_Annotations/VA_Estimation_Challenge/*/{name}.txt")
        lines = annotations.read_text().splitlines()[1:]
        assert each.targets.valence_arousal_mask.tolist() == [float(line != "-5,-5") for line in lines]


def test_headers_name_the_vocabulary_in_its_order() -> None:
    assert list(TASKS.values()) == list(HEADERS.values())
    assert tuple(HEADERS["expression"].lower().split(",")) == LABEL_SETS["abaw"]
    assert tuple(HEADERS["action_units"].split(",")) == tuple(ACTION_UNITS)


def test_frames_are_numbered_pictures_with_gaps(tree: Path) -> None:
    for folder in (tree / "cropped_aligned").iterdir():
        numbers = [int(path.stem) for path in folder.iterdir()]
        assert min(numbers) >= 1
        assert max(numbers) == 40  # the last frame is never missing, so the numbers' range is the video's
        assert {path.name for path in folder.iterdir()} == {f"{number:05}.jpg" for number in numbers}
    pictures = list((tree / "cropped_aligned").glob("*/*.jpg"))
    assert 5 * 40 * 0.8 < len(pictures) < 5 * 40
    assert cv2.imread(str(pictures[0])).shape == (112, 112, 3)


@settings(deadline=None, max_examples=25)
@given(frames=st.integers(1, 200), seed=st.integers(0, 2**32))
def test_what_a_face_shows_is_in_range_and_smooth(frames: int, seed: int) -> None:
    shown = trajectory(frames, np.random.default_rng(seed))
    assert shown.intensities.shape == (frames, 8)
    assert shown.intensities.min() >= 0
    assert shown.intensities.sum(axis=1).max() <= 1 + 1e-9
    # A jump is spread over 11 frames by a window whose largest weight is 1/6, and jumps are at least 12 frames apart.
    assert np.abs(np.diff(shown.intensities, axis=0)).max(initial=0) <= 1 / 6 + 1e-9
    assert np.abs(shown.valence_arousal).max() <= 1
    assert 0 <= shown.levels.min() <= shown.levels.max() <= 1
    assert 0 <= shown.closed.min() <= shown.closed.max() <= 1


def test_labels_follow_from_the_tables() -> None:
    half_happy = np.array([[0, 0, 0, 0, 0.5, 0, 0, 0], [0.7, 0, 0, 0, 0.3, 0, 0, 0]], dtype=float)
    shown = Trajectory(half_happy, np.array([levels(AU6=0.5, AU12=0.5), levels(AU6=0.3, AU12=0.35)]), np.zeros(2))
    assert shown.valence_arousal == pytest.approx(np.array([[0.45, 0.25], [0.27, 0.15]]))
    assert shown.expression.tolist() == [4, 0]
    assert shown.action_units.sum(axis=1).tolist() == [2, 1]


@settings(deadline=None, max_examples=25)
@given(frames=st.integers(1, 300), longest=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_a_span_is_as_long_as_the_frames(frames: int, longest: int, seed: int) -> None:
    assert spans(frames, 0.2, longest, np.random.default_rng(seed)).shape == (frames,)
    assert not spans(frames, 0.0, longest, np.random.default_rng(seed)).any()


def test_spans_cover_about_their_share() -> None:
    assert spans(20_000, 0.1, 5, np.random.default_rng(0)).mean() == pytest.approx(0.095, abs=0.01)


@pytest.mark.parametrize("seed", range(8))
def test_a_smile_raises_the_corners_of_the_mouth_and_grief_lowers_them(seed: int) -> None:
    who = somebody(seed)
    resting, smiling, grieving = (mouth(who, units(**{name: 1.0})) for name in ("AU1", "AU12", "AU15"))
    assert resting.corner_y - smiling.corner_y == pytest.approx(0.13)
    assert smiling.half_width == pytest.approx(1.35 * resting.half_width)
    assert grieving.corner_y - resting.corner_y == pytest.approx(0.1)


def lips_y(picture: np.ndarray, columns: slice) -> float:
    """The mean row of the lips' pixels, which are redder than the skin, in these columns of the lower face."""
    patch = picture[76:104, columns].astype(float)
    weights = np.clip(patch[..., 0] / (patch[..., 1] + 1) - 1.6, 0, None)
    return float((weights.sum(axis=1) * np.arange(76, 104)).sum() / weights.sum())


def test_a_drawn_smile_has_raised_corners() -> None:
    who = somebody()
    bend = {}
    for name in ("AU12", "AU15"):
        picture = draw(who, levels(**{name: 1.0}))
        corners = (lips_y(picture, slice(40, 47)) + lips_y(picture, slice(65, 72))) / 2
        bend[name] = corners - lips_y(picture, slice(53, 59))
    assert bend["AU12"] < -2
    assert bend["AU15"] > 2


@pytest.mark.parametrize("unit", ACTION_UNITS)
def test_every_action_unit_is_seen(unit: str) -> None:
    who = somebody()
    difference = np.abs(draw(who, levels(**{unit: 1.0})).astype(int) - draw(who, REST))
    assert (difference.max(axis=2) > 20).sum() > 25


def test_a_turn_moves_the_nose_more_than_the_rim() -> None:
    who = somebody()
    points = np.array([(0.0, 0.0), (who.head_width, 0.0)])
    nose, rim = (project(points, who, Pose(yaw=0.3)) - points)[:, 0]
    assert nose == pytest.approx(0.8 * who.head_width * np.sin(0.3))
    assert rim == pytest.approx(who.head_width * (np.cos(0.3) - 1))


def test_a_quarter_turn_in_the_picture_puts_the_right_below() -> None:
    seen = project(np.array([(0.5, 0.0)]), somebody(), Pose(roll=np.pi / 2, shift=(0.1, 0.0)))
    assert seen == pytest.approx(np.array([(0.1, 0.5)]))


def test_a_camera_without_flaws_changes_nothing_and_leaves_the_drawing_alone() -> None:
    picture = draw(somebody(), REST)
    kept = picture.copy()
    rng = np.random.default_rng(0)
    assert np.array_equal(film(picture, Shot(Pose()), rng), picture)
    halved = film(picture, Shot(Pose(), gain=0.5), rng)
    assert np.abs(halved - picture / 2).max() <= 0.5
    assert (film(picture, Shot(Pose(), cover=0), rng)[96, 56] == 96).all()
    assert np.array_equal(picture, kept)


def valence_and_pixels(tree: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    values, pixels = [], []
    for path in sorted((tree / "6th_ABAW_Annotations/VA_Estimation_Challenge" / split).iterdir()):
        lines = path.read_text().splitlines()
        for picture in sorted((tree / "cropped_aligned" / path.stem).iterdir()):
            valence = float(lines[int(picture.stem)].split(",")[0])
            if valence != -5:
                values.append(valence)
                grey = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
                pixels.append(cv2.resize(grey, (16, 16), interpolation=cv2.INTER_AREA).ravel() / 255)
    return np.array(values), np.array(pixels)


def test_pictures_carry_the_labels_to_people_not_seen(tmp_path: Path) -> None:
    generate(Plan(videos=32, frames=24, validation=8), tmp_path / "set")
    (y, X), (held_out, seen) = (valence_and_pixels(tmp_path / "set", name) for name in ("Train_Set", "Validation_Set"))
    mean, scale = X.mean(axis=0), X.std(axis=0) + 1e-3
    X, seen = (X - mean) / scale, (seen - mean) / scale
    weights = np.linalg.solve(X.T @ X + 100 * np.eye(256), X.T @ (y - y.mean()))
    r = np.corrcoef(seen @ weights, held_out)[0, 1]
    assert r > 0.4


def test_the_past_helps_for_what_is_drawn_trembles() -> None:
    rng = np.random.default_rng(0)
    shown = [trajectory(120, rng) for _ in range(40)]
    drawn = [np.column_stack([trembling(one.levels, rng), np.ones(120)]) for one in shown]
    valence = [one.valence_arousal[:, 0] for one in shown]
    weights = np.linalg.lstsq(np.concatenate(drawn[:30]), np.concatenate(valence[:30]), rcond=None)[0]
    framewise = [one @ weights for one in drawn[30:]]
    of_five = [np.convolve(np.pad(one, (4, 0), mode="edge"), np.full(5, 0.2), mode="valid") for one in framewise]
    errors = [np.square(np.concatenate(guess) - np.concatenate(valence[30:])).mean() for guess in (framewise, of_five)]
    assert errors[1] < 0.8 * errors[0]


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(FileExistsError, match="exists; choose another"):
        generated(tmp_path / "set")
    assert list(tmp_path.rglob("*")) == [tmp_path / "set"]


def test_nothing_is_left_of_a_set_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("training.generate.write_frames", full)
    with pytest.raises(OSError, match="no space left"):
        generated(tmp_path / "set")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"videos": 2, "validation": 2}, "2 of 2 videos"),
        ({"videos": 2, "validation": 0}, "0 of 2 videos"),
        ({"frames": 0}, "1 to 99999 frames, not 0"),
        ({"frames": 100_000}, "not 100000"),
        ({"seed": -1}, "at least 0, not -1"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(**({"videos": 3, "frames": 10, "validation": 1} | plan))


def test_the_command_writes_a_set_and_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["generate", "--out", str(tmp_path / "set"), "--videos", "3", "--frames", "2"]
    monkeypatch.setattr("sys.argv", arguments)
    main()
    assert len(list((tmp_path / "set/6th_ABAW_Annotations/VA_Estimation_Challenge/Validation_Set").iterdir())) == 2
    with pytest.raises(SystemExit, match=r"error: .* exists"):
        main()
