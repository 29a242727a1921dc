import torch

from model_core.affect import ACTION_UNITS
from model_core.models.ddamfn import DDAMFN
from model_core.models.local import LocalDDAMFN, LocalFeatures
from model_core.models.registry import build_network
from model_core.models.spec import NetworkSpec


def faces(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 112, 112, generator=torch.Generator().manual_seed(2))


def test_the_vector_is_that_of_ddamfn_followed_by_local_features() -> None:
    plain, local = DDAMFN().eval(), LocalDDAMFN().eval()
    assert all(
        name.startswith("local.") for name in local.load_state_dict(plain.state_dict(), strict=False).missing_keys
    )
    with torch.inference_mode():
        before, after = plain.parts(faces(2)), local.parts(faces(2))
        vector, early = local.without_local(faces(2))
        assert early.shape == (2, 64, 28, 28)
        torch.testing.assert_close(after.vector[:, :512], before.vector)
        torch.testing.assert_close(after.vector[:, 512:], local.local(early))
        torch.testing.assert_close(local.with_local(vector.vector, early), local(faces(2)))
    assert after.vector.shape == (2, LocalDDAMFN.vector_size) == (2, 896)
    assert [a.shape for a in after.attention] == [a.shape for a in before.attention]


def test_local_features_know_the_place() -> None:
    # The same mark in two cells of an otherwise empty map: a mean over the map could not tell them apart.
    local = LocalFeatures().eval()
    maps = torch.zeros(2, 64, 28, 28)
    maps[0, :, 6, 8] = maps[1, :, 6, 18] = 1
    with torch.inference_mode():
        left, right = local(maps)
    assert (left - right).abs().max() > 0.5 * left.abs().max()


def test_local_features_cost_2_5_million_parameters() -> None:
    # Depthwise, 64 x 64, 3 x 3 x 64 x 96, 96 x 32 and 32 x 14 x 14 x 384; a norm has 2 numbers a channel, a slope 1.
    weights = 9 * 64 + 64 * 64 + 9 * 64 * 96 + 96 * 32 + 32 * 14 * 14 * 384
    assert sum(p.numel() for p in LocalFeatures().parameters()) == weights + 2 * 64 + 3 * (64 + 96 + 32 + 384)


def test_heads_read_all_of_it() -> None:
    network = build_network(NetworkSpec("ddamfn-local", ("action_units",)))
    assert network.heads["action_units"].weight.shape == (len(ACTION_UNITS), 896)
