import torch

from model_core.affect import ACTION_UNITS
from model_core.models import NetworkSpec, build_network
from model_core.models.ddamfn import DDAMFN
from model_core.models.local import LocalDDAMFN, LocalFeatures


def faces(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 112, 112, generator=torch.Generator().manual_seed(2))


def test_the_vector_is_that_of_ddamfn_followed_by_local_features() -> None:
    plain, local = DDAMFN().eval(), LocalDDAMFN().eval()
    assert all(
        name.startswith("local.") for name in local.load_state_dict(plain.state_dict(), strict=False).missing_keys
    )
    with torch.inference_mode():
        before, after = plain.parts(faces(2)), local.parts(faces(2))
        vector, middle = local.without_local(faces(2))
        assert middle.shape == (2, 128, 14, 14)
        torch.testing.assert_close(after.vector[:, :512], before.vector)
        torch.testing.assert_close(after.vector[:, 512:], local.local(middle))
        torch.testing.assert_close(local.with_local(vector.vector, middle), local(faces(2)))
    assert after.vector.shape == (2, LocalDDAMFN.vector_size) == (2, 896)
    assert [a.shape for a in after.attention] == [a.shape for a in before.attention]


def test_local_features_know_the_place() -> None:
    # The same mark in two cells of an otherwise empty map: a mean over the map could not tell them apart.
    local = LocalFeatures().eval()
    maps = torch.zeros(2, 128, 14, 14)
    maps[0, :, 3, 4] = maps[1, :, 3, 9] = 1
    with torch.inference_mode():
        left, right = local(maps)
    assert (left - right).abs().max() > 0.01


def test_local_features_cost_2_4_million_parameters() -> None:
    # 128 x 32 + 32 x 14 x 14 x 384 weights, and 3 numbers a channel of the norms and slopes.
    assert sum(p.numel() for p in LocalFeatures().parameters()) == 4096 + 2_408_448 + 3 * (32 + 384)


def test_heads_read_all_of_it() -> None:
    network = build_network(NetworkSpec("ddamfn-local", ("action_units",)))
    assert network.heads["action_units"].weight.shape == (len(ACTION_UNITS), 896)
