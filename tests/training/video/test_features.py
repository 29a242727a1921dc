"""The cache of features: an encoder whose vectors a person can compute, on pictures of one colour."""

import os
from collections import abc
from pathlib import Path
from threading import Barrier, Thread

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_core.faces.geometry import Crop
from training.datasets.raw import DatasetError
from training.datasets.sequences import Person, Sequence, SequenceTargets
from training.video.features import FeatureCache, read_crop


def sequence(folder: Path, greens: abc.Sequence[int | None], video: str = "a", person: Person = "") -> Sequence:
    """A frame of 8 x 8 pixels with red 10, this green and blue 30, or none, for each number."""
    frames = []
    for number, green in enumerate(greens, start=1):
        path = folder / video / f"{number:05d}.png"
        frames.append(path if green is not None else None)
        if green is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((8, 8, 3), (30, green, 10), np.uint8))
    count = len(greens)
    one, two, eight, twelve = (np.zeros((count, *shape), np.float32) for shape in ((), (2,), (8,), (12,)))
    return Sequence(video, person, "train", tuple(frames), SequenceTargets(two, one, eight, one, twelve, twelve))


class Mean:
    """The mean red, green and blue of a crop; breaks down at its call number `fails_at`."""

    def __init__(self, key: str = "mean-1", fails_at: int = -1) -> None:
        self.key, self.vector_size, self.size, self.fails_at = key, 3, 8, fails_at
        self.batches: list[int] = []

    def __call__(self, crops: abc.Sequence[Crop]) -> NDArray[np.float32]:
        if len(self.batches) == self.fails_at:
            raise RuntimeError("killed")
        self.batches.append(len(crops))
        return np.stack([crop.mean(axis=(0, 1)) for crop in crops]).astype(np.float32)


def test_rows_are_the_encoders_and_a_gap_is_zero(tmp_path: Path) -> None:
    values, pictured = FeatureCache(tmp_path / "cache", Mean()).features(sequence(tmp_path, [1, None, 3]))
    assert values.tolist() == [[10, 1, 30], [0, 0, 0], [10, 3, 30]]
    assert pictured.tolist() == [True, False, True]
    assert values.dtype == np.float32
    assert isinstance(values, np.memmap)
    assert not values.flags.writeable
    assert np.load(tmp_path / "cache/mean-1/a.npy").tolist() == values.tolist()


def test_computed_once_by_batches_of_frames_that_have_a_picture(tmp_path: Path) -> None:
    wanted, encoder = sequence(tmp_path, [*range(65), None, None]), Mean()
    first, _ = FeatureCache(tmp_path / "cache", encoder).features(wanted)
    again, _ = FeatureCache(tmp_path / "cache", encoder).features(wanted)
    assert encoder.batches == [64, 1]
    assert first[:, 1].tolist() == again[:, 1].tolist() == [*range(65), 0, 0]


def test_a_video_without_any_picture(tmp_path: Path) -> None:
    encoder = Mean()
    values, pictured = FeatureCache(tmp_path, encoder).features(sequence(tmp_path, [None, None]))
    assert values.tolist() == [[0, 0, 0]] * 2
    assert not pictured.any()
    assert encoder.batches == []


def test_another_key_and_another_person_have_files_of_their_own(tmp_path: Path) -> None:
    for key, person in (("one", ""), ("two", ""), ("two", "left")):
        FeatureCache(tmp_path / "cache", Mean(key)).features(sequence(tmp_path, [1], person=person))
    found = {path.relative_to(tmp_path / "cache").as_posix() for path in (tmp_path / "cache").rglob("*.npy")}
    assert found == {"one/a.npy", "two/a.npy", "two/a_left.npy"}


def test_after_a_kill_only_the_rest_is_computed(tmp_path: Path) -> None:
    videos = [sequence(tmp_path, [number, *range(64)], video=f"v{number}") for number in range(3)]
    killed = Mean(fails_at=3)  # two batches a video: in the second batch of the second video
    cache = FeatureCache(tmp_path / "cache", killed)
    with pytest.raises(RuntimeError, match="killed"):
        [cache.features(video) for video in videos]
    assert [path.name for path in (tmp_path / "cache/mean-1").iterdir()] == ["v0.npy"]
    resumed = Mean()
    values = [FeatureCache(tmp_path / "cache", resumed).features(video)[0] for video in videos]
    assert resumed.batches == [64, 1, 64, 1]
    assert [float(each[0, 1]) for each in values] == [0, 1, 2]


def test_a_partial_file_of_a_killed_run_is_not_taken(tmp_path: Path) -> None:
    partial = tmp_path / "cache/mean-1/.a.npy.0.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"half")
    values, _ = FeatureCache(tmp_path / "cache", Mean()).features(sequence(tmp_path, [7]))
    assert values.tolist() == [[10, 7, 30]]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    wanted = sequence(tmp_path, [1])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            FeatureCache(tmp_path / "cache", Mean()).features(wanted)
    assert list((tmp_path / "cache/mean-1").iterdir()) == []


def test_changed_pictures_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = FeatureCache(tmp_path / "cache", Mean())
    old, _ = cache.features(sequence(tmp_path, [1, 2]))
    changed = sequence(tmp_path, [1, 9])
    status = (tmp_path / "a/00002.png").stat()
    os.utime(tmp_path / "a/00002.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert cache.features(changed)[0][:, 1].tolist() == [1, 9]
    assert cache.features(sequence(tmp_path, [None, 9]))[0][:, 1].tolist() == [0, 9]
    assert old[:, 1].tolist() == [1, 2]  # a reader keeps the file that it opened
    assert [record.getMessage().split("; ")[1] for record in caplog.records] == ["it is computed anew"] * 2


def test_a_longer_sequence_of_the_same_pictures_serves_a_shorter_one(tmp_path: Path) -> None:
    encoder = Mean()
    cache, whole = FeatureCache(tmp_path / "cache", encoder), sequence(tmp_path, [4, 5, 6])
    short = Sequence("a", "", "validation", whole.frames[:2], whole.targets)
    for wanted, rows in ((short, [4, 5]), (whole, [4, 5, 6]), (short, [4, 5])):
        assert cache.features(wanted)[0][:, 1].tolist() == rows
    assert encoder.batches == [2, 3]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(0, 255))
def test_any_damage_is_noticed(tmp_path: Path, place: float, flip: int) -> None:
    """One byte is another (`flip` of its bits), or, for a flip of 0, the file ends there."""
    wanted = sequence(tmp_path, [1, None, 3])
    path = tmp_path / "cache/mean-1/a.npy"
    cache = FeatureCache(tmp_path / "cache", Mean())
    cache.features(wanted)
    whole = path.read_bytes()
    at = int(place * len(whole))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :] if flip else whole[:at])
    assert cache.features(wanted)[0].tolist() == [[10, 1, 30], [0, 0, 0], [10, 3, 30]]
    assert path.read_bytes() == whole


def test_damage_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, path = FeatureCache(tmp_path / "cache", Mean()), tmp_path / "cache/mean-1/a.npy"
    cache.features(sequence(tmp_path, [1]))
    path.write_bytes(path.read_bytes()[:-1])
    cache.features(sequence(tmp_path, [1]))
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} is damaged (its checksum is wrong); it is computed anew"
    ]


def test_two_at_once_get_the_same(tmp_path: Path) -> None:
    wanted, together, found = sequence(tmp_path, [5, 6]), Barrier(2), []

    class Meeting(Mean):
        def __call__(self, crops: abc.Sequence[Crop]) -> NDArray[np.float32]:
            together.wait(10)  # both compute before either writes
            return super().__call__(crops)

    def run() -> None:
        found.append(FeatureCache(tmp_path / "cache", Meeting()).features(wanted)[0].tolist())

    threads = [Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[[10, 5, 30], [10, 6, 30]]] * 2
    assert [path.name for path in (tmp_path / "cache/mean-1").iterdir()] == ["a.npy"]


def test_crops_are_resized(tmp_path: Path) -> None:
    columns = np.repeat(np.array([0, 100, 200, 100], np.uint8), 3).reshape(1, 4, 3).repeat(4, axis=0)
    cv2.imwrite(str(tmp_path / "a.png"), columns)
    assert read_crop(tmp_path / "a.png", 2)[..., 0].tolist() == [[50, 150], [50, 150]]  # areas are averaged
    assert read_crop(tmp_path / "a.png", 8)[0, :4, 0].tolist() == [0, 25, 75, 125]  # lines between the pixels' centres


def test_a_bad_picture_is_named(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache", Mean())
    wanted = sequence(tmp_path, [1])
    path = tmp_path / "a/00001.png"
    for content in (b"", b"no picture"):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"00001\.png is not a picture"):
            cache.features(wanted)
    cv2.imwrite(str(path), np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"00001\.png is 6 x 4 pixels"):
        cache.features(wanted)
    path.unlink()
    with pytest.raises(DatasetError, match=r"00001\.png cannot be read \(No such file"):
        cache.features(wanted)


@pytest.mark.parametrize("rows", [[[1.0, 2.0]], [[1.0, 2.0, np.nan]], []])
def test_an_encoder_that_breaks_its_word(tmp_path: Path, rows: list[list[float]]) -> None:
    class Wrong(Mean):
        def __call__(self, crops: abc.Sequence[Crop]) -> NDArray[np.float32]:
            return np.array(rows, np.float32)

    with pytest.raises(ValueError, match=r"for a, expected finite \[1, 3\]"):
        FeatureCache(tmp_path / "cache", Wrong()).features(sequence(tmp_path, [1]))


@pytest.mark.parametrize("key", ["", "..", "a/b", "."])
def test_a_key_that_is_no_name(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="the key"):
        FeatureCache(tmp_path, Mean(key))


def test_a_video_outside_the_folder(tmp_path: Path) -> None:
    outside = Sequence("../b", "", "train", (None,), sequence(tmp_path, [None]).targets)
    with pytest.raises(ValueError, match="cannot name a file"):
        FeatureCache(tmp_path / "cache", Mean()).features(outside)
