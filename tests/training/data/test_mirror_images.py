from dataclasses import replace

import torch

from model_core.affect import AffectLogits
from model_core.models.heads import AffectNetwork
from model_core.preprocessing import InputSpec
from training.data.mirror_images import logits_of, vectors_of

PLAIN = InputSpec(2, "rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "arcface-1")
AVERAGED = replace(PLAIN, with_mirror_image=True)
IMAGES = torch.tensor([[0.0, 1.0], [0.25, 0.5]]).expand(1, 3, 2, 2)


def first_column(images: torch.Tensor) -> torch.Tensor:
    return images[:, 0, :, 0]


class FirstColumn(AffectNetwork):
    """Answers with the left edge of a picture."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Identity(), {})

    def forward(self, x: torch.Tensor) -> AffectLogits:
        return AffectLogits(expression=first_column(x))


def test_an_answer_is_the_mean_of_those_to_a_face_and_its_mirror_image() -> None:
    plain, averaged = (logits_of(FirstColumn(), IMAGES, spec) for spec in (PLAIN, AVERAGED))
    assert plain.expression is not None
    assert averaged.expression is not None
    assert plain.expression.tolist() == [[0.0, 0.25]]
    assert averaged.expression.tolist() == [[0.5, 0.375]]
    assert averaged.action_units is None


def test_a_vector_is_the_mean_of_those_of_a_face_and_its_mirror_image() -> None:
    backbone = torch.nn.Module()
    backbone.forward = first_column  # type: ignore[method-assign]
    assert vectors_of(backbone, IMAGES, PLAIN).tolist() == [[0.0, 0.25]]
    assert vectors_of(backbone, IMAGES, AVERAGED).tolist() == [[0.5, 0.375]]


def test_an_oriented_face_is_read_once() -> None:
    spec = replace(PLAIN, oriented=True)
    images = torch.cat([IMAGES, IMAGES.flip(-1), torch.ones(1, 3, 2, 2)])
    # The first picture is brighter on the right, so that its right edge is read; the second is its mirror image.
    expected = [[1.0, 0.5], [1.0, 0.5], [1.0, 1.0]]
    answers = logits_of(FirstColumn(), images, spec).expression
    assert answers is not None
    assert answers.tolist() == expected
    backbone = torch.nn.Module()
    backbone.forward = first_column  # type: ignore[method-assign]
    assert vectors_of(backbone, images, spec).tolist() == expected
