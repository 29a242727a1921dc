from itertools import pairwise

import pytest
import torch

from model_core.models.face_regions import EyeRegion, FaceRegion, MouthRegion
from model_core.models.local import LocalDDAMFN, LocalEyesDDAMFN, LocalRegionsDDAMFN


def faces(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 112, 112, generator=torch.Generator().manual_seed(2))


REGIONS = pytest.mark.parametrize("region", [EyeRegion, MouthRegion])


@REGIONS
def test_only_the_region_is_seen(region: type[FaceRegion]) -> None:
    network, images = region().eval(), faces(1)
    elsewhere, there = images.clone(), images.clone()
    outside = torch.ones(112, 112, dtype=torch.bool)
    outside[region.rows, region.columns] = False
    elsewhere[:, :, outside] = 0
    # The pupil of one eye, and the upper lip (the five points of an aligned face of 112 pixels).
    there[:, :, *((50, 38) if region is EyeRegion else (89, 56))] = 0
    with torch.inference_mode():
        assert torch.equal(network(elsewhere), network(images))
        assert not torch.equal(network(there), network(images))
        assert network(images).shape == (1, region.vector_size) == (1, 192 if region is EyeRegion else 96)


@pytest.mark.parametrize(
    ("region", "channels", "reduced", "side", "features"),
    [
        (EyeRegion, [3, 24, 24, 48, 48, 64], 16, (11, 24), 192),
        (MouthRegion, [3, 16, 16, 32, 32, 48], 12, (11, 16), 96),
    ],
)
def test_the_parameters_of_a_region(
    region: type[FaceRegion], channels: list[int], reduced: int, side: tuple[int, int], features: int
) -> None:
    """0.9 million for the eyes, 0.24 million for the mouth."""
    weights = sum(9 * before * after for before, after in pairwise(channels))
    weights += channels[-1] * reduced + reduced * side[0] * side[1] * features
    norms_and_slopes = 3 * (sum(channels[1:]) + reduced + features)
    assert sum(p.numel() for p in region().parameters()) == weights + norms_and_slopes


def test_its_features_come_behind_those_of_a_network_with_local_features() -> None:
    plain, whole = LocalDDAMFN().eval(), LocalEyesDDAMFN().eval()
    missing = whole.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert all(name.startswith("eyes.") for name in missing)
    with torch.inference_mode():
        vector = whole(faces(2))
        torch.testing.assert_close(vector[:, :896], plain(faces(2)))
        torch.testing.assert_close(vector[:, 896:], whole.eyes(faces(2)))
        parts, early = whole.without_local(faces(2))
        assert parts.vector.shape == (2, 512 + 192)
        torch.testing.assert_close(whole.with_local(parts.vector, early), vector)
    assert vector.shape == (2, LocalEyesDDAMFN.vector_size) == (2, 1088)


def test_features_of_the_mouth_come_behind_those_of_the_eyes() -> None:
    earlier, whole = LocalEyesDDAMFN().eval(), LocalRegionsDDAMFN().eval()
    missing = whole.load_state_dict(earlier.state_dict(), strict=False).missing_keys
    assert all(name.startswith("mouth.") for name in missing)
    with torch.inference_mode():
        vector = whole(faces(2))
        torch.testing.assert_close(vector[:, :1088], earlier(faces(2)))
        torch.testing.assert_close(vector[:, 1088:], whole.mouth(faces(2)))
        parts, early = whole.without_local(faces(2))
        assert parts.vector.shape == (2, 512 + 192 + 96)
        torch.testing.assert_close(whole.with_local(parts.vector, early), vector)
    assert vector.shape == (2, LocalRegionsDDAMFN.vector_size) == (2, 1184)
