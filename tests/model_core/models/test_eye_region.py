from itertools import pairwise

import torch

from model_core.models.eye_region import COLUMNS, ROWS, EyeRegion
from model_core.models.local import LocalDDAMFN, LocalEyesDDAMFN


def faces(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 112, 112, generator=torch.Generator().manual_seed(2))


def test_only_the_eye_region_is_seen() -> None:
    eyes, images = EyeRegion().eval(), faces(1)
    elsewhere, there = images.clone(), images.clone()
    outside = torch.ones(112, 112, dtype=torch.bool)
    outside[ROWS, COLUMNS] = False
    elsewhere[:, :, outside] = 0
    there[:, :, 50, 38] = 0  # the pupil of one eye
    with torch.inference_mode():
        assert torch.equal(eyes(elsewhere), eyes(images))
        assert not torch.equal(eyes(there), eyes(images))
        assert eyes(images).shape == (1, EyeRegion.vector_size) == (1, 192)


def test_the_eye_region_costs_0_9_million_parameters() -> None:
    channels = [3, 24, 24, 48, 48, 64]
    weights = sum(9 * before * after for before, after in pairwise(channels))
    weights += 64 * 16 + 16 * 11 * 24 * 192
    norms_and_slopes = 3 * (sum(channels[1:]) + 16 + 192)
    assert sum(p.numel() for p in EyeRegion().parameters()) == weights + norms_and_slopes


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
