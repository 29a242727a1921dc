import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from model_core.affect import AffectLogits
from model_core.calibration import Calibration
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec
from training.data.perturbations import perturbations
from training.runs.trained import Evaluable
from training.studies import failures
from training.studies.failures import find_failures


class Brightness(nn.Module):
    """Says happiness of a crop whose mean is above 0.45 of white, else sadness."""

    def forward(self, x: torch.Tensor) -> AffectLogits:
        bright = x.mean(dim=(1, 2, 3)) - 0.45
        return AffectLogits(expression=100 * torch.stack([bright, -bright], dim=1))


def test_the_weakest_change_of_the_answer_is_found() -> None:
    spec = NetworkSpec("mfn-pooled", ("expression",), ("happiness", "sadness"))
    as_pixels = InputSpec(64, "rgb", (0, 0, 0), (1, 1, 1), "arcface-1")
    evaluable = Evaluable(Brightness(), spec, as_pixels, Calibration(), {})
    crop = np.full((64, 64, 3), 160, np.uint8)
    own, found, held = find_failures(evaluable, crop)
    assert (own.label, own.change) == ("happiness", "as it is")
    # 160 / 255 = 0.63; times 0.8 is 0.50, times 0.6 is 0.38: the second strength is the first that fails.
    darker = next(answer for answer in found if answer.change.startswith("darker"))
    assert (darker.label, darker.change) == ("sadness", "darker 0.6")
    assert np.array_equal(darker.crop, np.full((64, 64, 3), 96))
    assert {"brighter", "blur", "jpeg"} <= set(held)
    assert len(found) + len(held) == len(perturbations("arcface-1"))


def test_the_command_draws_them(
    astronaut: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(astronaut).save(tmp_path / "face.png")
    monkeypatch.setattr(sys, "argv", ["x", "--picture", str(tmp_path / "face.png"), "--plots", str(tmp_path / "plots")])
    failures.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["as", "it", "is", "happiness", "1.00"]
    assert lines[1].startswith("occlusion mouth 0.6")
    assert lines[2].startswith("rotation 30")
    assert len(lines) == 4
    with Image.open(tmp_path / "plots" / "failures.png") as picture:
        assert picture.width == 150 * 1.7 * 3  # as it is, with the mouth covered, and rotated


def test_a_picture_without_a_face_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    monkeypatch.setattr(sys, "argv", ["x", "--picture", str(tmp_path / "black.png")])
    with pytest.raises(SystemExit, match=r"error: .*black\.png shows no face"):
        failures.main()
    (tmp_path / "text.png").write_text("no picture")
    monkeypatch.setattr(sys, "argv", ["x", "--picture", str(tmp_path / "text.png")])
    with pytest.raises(SystemExit, match=r"error: picture is missing or unreadable: .*text\.png"):
        failures.main()
