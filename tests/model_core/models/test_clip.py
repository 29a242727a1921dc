import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from model_core.affect import LABEL_SETS
from model_core.models import clip
from model_core.models.clip import (
    ClipClassifier,
    ClipEncoder,
    ClipError,
    ClipSource,
    TowerSpec,
    build_tower,
    class_prompts,
    load_clip,
)
from model_core.preprocessing import to_batch
from tests.tiny_clip import TINY, write_tiny_clip

open_clip = pytest.importorskip("open_clip", reason="open_clip is absent: install the extra `clip`")

PROMPTS = class_prompts(("neutral", "happiness", "other"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


def crops() -> list[np.ndarray]:
    return list(np.random.default_rng(3).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))


def test_the_papers_prompts() -> None:
    prompts = class_prompts(LABEL_SETS["abaw"])
    assert prompts[:3] == ("A face showing neutrality.", "A face showing anger.", "A face showing disgust.")
    assert prompts[-1] == "A face showing an undefined emotion."


@pytest.mark.parametrize("normalized", [False, True])
def test_cosines_of_the_librarys_own_vectors(weights: Path, normalized: bool) -> None:
    classifier = load_clip(ClipSource(TINY, str(weights), normalized=normalized), PROMPTS, temperature=0.5)
    model = open_clip.create_model(TINY, pretrained=str(weights)).eval()
    batch = torch.from_numpy(to_batch(crops(), classifier.encoder.input("arcface-1")))
    with torch.inference_mode():
        plain, image = model.encode_image(batch), model.encode_image(batch, normalize=True)
        text = model.encode_text(open_clip.get_tokenizer(TINY)(list(PROMPTS)), normalize=True)
        vectors, logits = classifier.encoder(batch), classifier(batch)
    assert vectors.shape == (2, classifier.encoder.vector_size) == (2, 8)
    torch.testing.assert_close(vectors, image if normalized else plain)
    assert not torch.allclose(plain.norm(dim=1), torch.ones(2), atol=0.1)
    torch.testing.assert_close(logits, image @ text.T / 0.5)
    torch.testing.assert_close(classifier.logits(vectors), logits)


def test_the_temperature_that_clip_was_trained_to(weights: Path) -> None:
    assert load_clip(ClipSource(TINY, str(weights)), PROMPTS).temperature == pytest.approx(0.07)  # 1 / exp(logit_scale)


def test_the_input_is_the_librarys(weights: Path) -> None:
    spec = load_clip(ClipSource(TINY, str(weights)), PROMPTS).encoder.input("arcface-1")
    assert (spec.size, spec.colour) == (32, "rgb")
    assert spec.mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    assert spec.std == pytest.approx((0.2686, 0.2613, 0.2758), abs=1e-4)


@pytest.mark.parametrize("quick_gelu", [None, False, True])
def test_quick_gelu_is_recorded_and_changes_the_vectors(weights: Path, quick_gelu: bool | None) -> None:
    usual = load_clip(ClipSource(TINY, str(weights)), PROMPTS)
    other = load_clip(ClipSource(TINY, str(weights), quick_gelu=quick_gelu), PROMPTS)
    assert (usual.encoder.spec.quick_gelu, other.encoder.spec.quick_gelu) == (False, bool(quick_gelu))
    batch = torch.linspace(-2, 2, 3 * 32 * 32).reshape(1, 3, 32, 32)
    assert torch.equal(usual.encoder(batch), other.encoder(batch)) is not bool(quick_gelu)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_a_tower_is_built_again_from_what_a_bundle_says(weights: Path, quick_gelu: bool, normalized: bool) -> None:
    encoder = load_clip(ClipSource(TINY, str(weights), quick_gelu, normalized), PROMPTS).encoder
    again = build_tower(TowerSpec(**json.loads(json.dumps(asdict(encoder.spec)))))
    again.load_state_dict(encoder.state_dict())
    batch = torch.linspace(-2, 2, 3 * 32 * 32).reshape(1, 3, 32, 32)
    assert torch.equal(again(batch), encoder(batch))
    assert again.spec.input_size == 32


def test_a_tower_that_open_clip_cannot_build() -> None:
    with pytest.raises(ClipError, match=r"^open_clip cannot build this image tower \(\w+\)$"):
        build_tower(TowerSpec({"image_size": 32, "turns": 3}, 8, quick_gelu=False))


def test_the_tower_stays_frozen(weights: Path) -> None:
    classifier = load_clip(ClipSource(TINY, str(weights)), PROMPTS).train()
    assert not any(module.training for module in classifier.encoder.modules())
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    sizes = [value.shape[0] for value in classifier.state_dict().values() if value.ndim]
    assert max(sizes) < 49408  # the words of the text tower are gone
    assert classifier.state_dict()["text"].shape == (3, 8)


def test_a_folder_is_a_model(weights: Path) -> None:
    alone = load_clip(ClipSource(TINY, str(weights)), PROMPTS)
    folder = load_clip(ClipSource(f"local-dir:{weights.parent}"), PROMPTS)
    assert folder.encoder.input("arcface-1").mean == (0.5, 0.5, 0.5)
    torch.testing.assert_close(folder.text, alone.text)


def test_a_hub_id_is_read_from_the_hubs_cache(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def cached(repository: str, name: str) -> str:
        asked.append((repository, name))
        return str(weights.parent / name)

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    assert load_clip(ClipSource("hf-hub:owner/name"), PROMPTS).encoder.vector_size == 8
    assert asked == [("owner/name", "open_clip_config.json"), ("owner/name", "open_clip_model.safetensors")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            ClipSource("ViT-B-16", "openai"),
            "open_clip_model.safetensors of timm/vit_base_patch16_clip_224.openai is not on this machine; "
            "fetch it: hf download timm/vit_base_patch16_clip_224.openai open_clip_model.safetensors",
        ),
        (
            ClipSource("hf-hub:owner/name"),
            "open_clip_config.json of owner/name is not on this machine; "
            "fetch it: hf download owner/name open_clip_config.json open_clip_model.safetensors",
        ),
        (ClipSource("ViT-B-16", "openai", quick_gelu=False), "ViT-B-16 openai was trained with QuickGELU"),
        (
            ClipSource(TINY, "nowhere.pt"),
            "nowhere.pt is neither a file nor a pretrained tag of tests-tiny; known tags: none",
        ),
        (ClipSource("ViT-Q", "openai"), "open_clip knows no architecture ViT-Q"),
        (ClipSource("local-dir:nowhere"), "nowhere is not a folder with an open_clip_config.json"),
    ],
)
def test_what_is_missing_is_said_in_one_line_and_not_fetched(
    weights: Path, monkeypatch: pytest.MonkeyPatch, source: ClipSource, message: str
) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: pytest.fail("something was fetched"))
    with pytest.raises(ClipError) as caught:
        load_clip(source, PROMPTS)
    assert str(caught.value) == message


def test_a_tag_has_its_weights_and_its_quick_gelu(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = {"hf_hub": "owner/name/", "quick_gelu": True, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, name: tag if name == "famous" else {})
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, name: str(weights.parent / name))
    encoder = load_clip(ClipSource(TINY, "famous"), PROMPTS, download=True).encoder
    assert encoder.spec.quick_gelu
    spec = encoder.input("arcface-1")
    assert (spec.mean, spec.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_a_failed_download_is_one_line(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: str) -> str:
        raise ConnectionError

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(ClipError, match=r"^open_clip_config\.json of a/b could not be fetched \(ConnectionError\)$"):
        load_clip(ClipSource("hf-hub:a/b"), PROMPTS, download=True)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80\x02cos\nsystem\n."])
def test_a_file_of_something_else_is_refused(weights: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "foreign.pt").write_bytes(content)
    with pytest.raises(ClipError, match=r"foreign\.pt has no weights that fit tests-tiny \(\w+\)$"):
        load_clip(ClipSource(TINY, str(tmp_path / "foreign.pt")), PROMPTS)


@pytest.mark.parametrize(("model", "given"), [("ViT-B-16", None), ("hf-hub:a/b", "openai"), ("local-dir:a", "b.pt")])
def test_a_source_has_weights_in_one_place(model: str, given: str | None) -> None:
    with pytest.raises(ValueError, match="needs a tag or a file"):
        ClipSource(model, given)


MEANS = TowerSpec({"image_size": 2}, vector_size=3, quick_gelu=False)


class Tower(nn.Module):
    """The mean of each channel as an image's vector."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


def test_logits_by_hand() -> None:
    classifier = ClipClassifier(ClipEncoder(Tower(), MEANS), torch.tensor([[2.0, 0, 0], [0, 3, 4]]), 0.1)
    image = torch.tensor([3.0, 4, 0]).reshape(1, 3, 1, 1).expand(1, 3, 2, 2)
    # The image is (0.6, 0.8, 0); the classes (1, 0, 0) and (0, 0.6, 0.8): cosines 0.6 and 0.48.
    torch.testing.assert_close(classifier(image), torch.tensor([[6.0, 4.8]]))
    torch.testing.assert_close(classifier.encoder(image), torch.tensor([[0.6, 0.8, 0.0]]))
    as_it_is = ClipClassifier(ClipEncoder(Tower(), replace(MEANS, normalized=False)), classifier.text, 0.1)
    torch.testing.assert_close(as_it_is(image), torch.tensor([[6.0, 4.8]]))
    torch.testing.assert_close(as_it_is.encoder(image), torch.tensor([[3.0, 4.0, 0.0]]))


@pytest.mark.parametrize(
    ("text", "temperature", "message"),
    [
        (torch.ones(2, 4), 1.0, r"text features are \(2, 4\), expected \[classes, 3\]"),
        (torch.ones(3), 1.0, r"text features are \(3,\)"),
        (torch.ones(2, 3), 0.0, "temperature must be positive"),
        (torch.ones(2, 3), float("nan"), "temperature must be positive"),
    ],
)
def test_a_classifier_that_cannot_be(text: torch.Tensor, temperature: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipClassifier(ClipEncoder(Tower(), MEANS), text, temperature)


def test_without_prompts_or_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="a prompt for each class"):
        load_clip(ClipSource(TINY, "a.pt"), ())
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ModuleNotFoundError, match="CLIP needs open_clip; install the extra `clip`"):
        clip.load_clip(ClipSource(TINY, "a.pt"), PROMPTS)
