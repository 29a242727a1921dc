from pathlib import Path

import pytest
import torch

from model_core.affect import LABEL_SETS, TASKS
from model_core.models import NetworkSpec, build_network
from training.checkpoint import CheckpointError
from training.start import continue_from

LABELS = LABEL_SETS["ferplus"]


@pytest.mark.parametrize("hidden", [None, 16])
def test_with_new_local_features_a_network_answers_as_before(hidden: int | None) -> None:
    earlier, spec = (NetworkSpec(name, TASKS, LABELS, hidden) for name in ("ddamfn", "ddamfn-local"))
    source, network = build_network(earlier).eval(), build_network(spec).eval()
    continue_from(network, spec, source, earlier, Path("run"))
    faces = torch.randn(2, 3, 112, 112, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        before, after = source(faces), network(faces)
    for task in TASKS:
        torch.testing.assert_close(getattr(after, task), getattr(before, task), rtol=0, atol=1e-5)


def test_a_ddamfn_cannot_drop_local_features() -> None:
    earlier, spec = (NetworkSpec(name, ("action_units",)) for name in ("ddamfn-local", "ddamfn"))
    with pytest.raises(CheckpointError, match="run: ddamfn cannot continue from a ddamfn-local"):
        continue_from(build_network(spec), spec, build_network(earlier), earlier, Path("run"))
