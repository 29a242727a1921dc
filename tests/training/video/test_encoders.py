from dataclasses import replace

import pytest
import torch
from torch import nn

from model_core.models.clip import ClipEncoder
from model_core.models.spec import TowerSpec
from model_core.preprocessing import InputSpec
from training.video.encoders import encoder_digest

INPUT = InputSpec(2, "rgb", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "arcface-1")
TOWER = TowerSpec({"image_size": 2}, vector_size=3, quick_gelu=False, normalized=False)


def digest(tower: TowerSpec = TOWER, input_spec: InputSpec = INPUT, weight: float = 1.0) -> str:
    layer = nn.Linear(3, 3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(weight)
    return encoder_digest(ClipEncoder(layer, tower), input_spec)


@pytest.mark.parametrize(
    "other",
    [
        digest(replace(TOWER, normalized=True)),
        digest(replace(TOWER, quick_gelu=True)),
        digest(input_spec=replace(INPUT, alignment="ddamfn-frontal-1")),
        digest(weight=2.0),
    ],
)
def test_features_of_another_encoder_have_another_key(other: str) -> None:
    assert digest() == digest()
    assert other != digest()
