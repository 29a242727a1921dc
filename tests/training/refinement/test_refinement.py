"""Labels, samples and the loop of the landmark network, on drawn faces and on the astronaut."""

import numpy as np
import pytest
import torch

from model_core.faces.detection import YuFaceNetwork, scan
from model_core.faces.geometry import Box, Frame
from model_core.faces.refinement import INPUT_PX, LANDMARK_UNIT_PX, PLACES, REGION, box_outputs, normalised
from training.datasets import DatasetError
from training.refinement.fitting import FitOptions, fit
from training.refinement.labels import PICTURE_PX, LabelledFace, label_face
from training.refinement.network import RefinementNetwork, normalised_batch
from training.refinement.samples import STARTS, Sampler, Start, mirrored, relit

PLACE = Start(share=1, turn_deg=0, shift=0, scale=0)


@pytest.fixture(scope="module")
def astronaut_label(astronaut: Frame) -> LabelledFace:
    network = YuFaceNetwork()
    [face] = scan(network, astronaut)
    label = label_face(astronaut, face, network, np.random.default_rng(0))
    assert label is not None
    return label


def test_a_label_is_cut_out_upright(astronaut_label: LabelledFace) -> None:
    assert astronaut_label.picture.shape == (PICTURE_PX, PICTURE_PX)
    left, right, nose, left_mouth, right_mouth = astronaut_label.landmarks
    assert abs(left[1] - right[1]) < 4  # the eyes are level
    assert left[0] < nose[0] < right[0]
    assert max(left[1], right[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    box = astronaut_label.box
    assert box.x < left[0] < right[0] < box.x + box.width
    assert 60 < box.width < box.height < 110  # 81 x 108 pixels of the template on average, at 0.8


def test_other_looks_agree_about_a_face(astronaut: Frame, astronaut_label: LabelledFace) -> None:
    network = YuFaceNetwork()
    [face] = scan(network, astronaut)
    other = label_face(astronaut, face, network, np.random.default_rng(1))
    assert other is not None
    assert np.abs(other.landmarks - astronaut_label.landmarks).mean() < 1.0  # one look alone: 1.4


def test_a_place_without_a_face_has_no_label(astronaut: Frame) -> None:
    network = YuFaceNetwork()
    [face] = scan(network, astronaut)
    assert label_face(np.full_like(astronaut, 128), face, network, np.random.default_rng(0)) is None


def test_a_sample_shows_the_landmarks_where_its_target_says(astronaut_label: LabelledFace) -> None:
    marked = np.zeros_like(astronaut_label.picture)
    x, y = astronaut_label.landmarks[2].round().astype(int)
    marked[y - 2 : y + 3, x - 2 : x + 3] = 255
    face = LabelledFace(marked, astronaut_label.landmarks, astronaut_label.box)
    for start in (*STARTS, PLACE):
        sampler = Sampler(np.random.default_rng(3))
        sampler._degraded = lambda picture: picture
        inputs, targets = sampler.pairs([face] * 8, start)
        for picture, target in zip(inputs.flatten(0, 1).numpy(), targets.flatten(0, 1).numpy(), strict=True):
            nose = REGION[2] + target[:10].reshape(5, 2)[2] * LANDMARK_UNIT_PX
            if not (4 < nose[0] < INPUT_PX - 4 and 4 < nose[1] < INPUT_PX - 4):
                continue
            rows, columns = np.nonzero(picture > 0.5)
            assert (columns.mean(), rows.mean()) == pytest.approx(tuple(nose), abs=1.0)


def test_an_exact_place_has_the_template_as_target(astronaut_label: LabelledFace) -> None:
    sampler = Sampler(np.random.default_rng(0))
    _, targets = sampler.pairs([astronaut_label], PLACE)
    from_label = box_outputs(astronaut_label.landmarks, astronaut_label.box)
    assert np.abs(targets[..., :10].numpy()).max() * LANDMARK_UNIT_PX < 4  # a person is not the template
    assert np.abs(targets[..., 10].numpy()) == pytest.approx(abs(from_label[0]), abs=0.02)  # the sign is the mirror's
    assert targets[..., 11:].numpy().reshape(2, 3) == pytest.approx(np.array([from_label[1:]] * 2), abs=0.05)


def test_the_mirror_image_of_the_mirror_image_is_the_face(astronaut_label: LabelledFace) -> None:
    once = mirrored(astronaut_label)
    assert once.landmarks[0, 0] < once.landmarks[1, 0]  # left is still the picture's
    twice = mirrored(once)
    assert (twice.picture == astronaut_label.picture).all()
    assert twice.landmarks == pytest.approx(astronaut_label.landmarks)
    assert twice.box == Box(*(pytest.approx(value) for value in vars(astronaut_label.box).values()))


def test_training_and_service_normalise_alike() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (INPUT_PX, INPUT_PX)).astype(np.uint8)
    batch = normalised_batch(torch.from_numpy(grey[None, None] / np.float32(255)))
    assert batch[0, 0].numpy() == pytest.approx(normalised(grey), abs=1e-5)
    assert normalised(np.full((INPUT_PX, INPUT_PX), 77, np.uint8)) == pytest.approx(0, abs=1e-5)


def test_light_is_that_of_the_pair_and_stays_in_range() -> None:
    inputs = torch.full((2, 16, 8, 8), 0.5)
    lit = relit(inputs, torch.Generator().manual_seed(0))
    assert lit.min() >= 0
    assert lit.max() <= 1
    assert (lit[0] - lit[1]).abs().max() < 0.5  # only the noise differs
    assert lit[0].mean(dim=(1, 2)).std() > 0.05  # the light of the faces does


def test_training_learns_a_face(astronaut_label: LabelledFace) -> None:
    untrained = fit([astronaut_label] * 8, [astronaut_label], FitOptions(epochs=1, faces_a_step=8, rate=1e-9))
    trained = fit([astronaut_label] * 8, [astronaut_label], FitOptions(epochs=30, faces_a_step=8))
    inputs, targets = Sampler(np.random.default_rng(1)).pairs([astronaut_label] * 8, STARTS[2])

    def missed(network: RefinementNetwork) -> float:
        with torch.inference_mode():
            outputs = network(normalised_batch(inputs.flatten(0, 1).unsqueeze(1)))
        return float((outputs[:, :PLACES] - targets.flatten(0, 1)).abs().mean())

    assert missed(trained) < 0.7 * missed(untrained)


def test_too_few_faces_for_a_step_are_refused(astronaut_label: LabelledFace) -> None:
    with pytest.raises(DatasetError, match="7 training faces are fewer than the 8 of a step"):
        fit([astronaut_label] * 7, [astronaut_label], FitOptions(faces_a_step=8))
