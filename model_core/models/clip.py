"""CLIP towers by the library open_clip (extra `clip`): a frozen image encoder, and expressions told by class prompts.

After arXiv 2503.12260 (PAPER section 1): ViT-B-16 with OpenAI's weights, cosine similarity between a face and one
sentence an expression. Nothing is downloaded unless asked; the text tower is let go once the prompts are encoded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_core.preprocessing import InputSpec

HUB, FOLDER = "hf-hub:", "local-dir:"
CONFIG, WEIGHTS = "open_clip_config.json", ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

_NOUNS = {"neutral": "neutrality", "other": "an undefined emotion"}


class ClipError(Exception):
    """A CLIP model cannot be loaded; the message is one line that says why, and what would help."""


@dataclass(frozen=True)
class ClipSource:
    """Where towers and weights come from, and at which length the image tower's vectors are used."""

    model: str
    """An architecture that open_clip knows (`ViT-B-16`), `hf-hub:OWNER/NAME`, or `local-dir:FOLDER` with an
    `open_clip_config.json`."""
    weights: str | None = None
    """For an architecture a pretrained tag (`openai`) or a local file, else None."""
    quick_gelu: bool | None = None
    """For a local file, whether it was trained with QuickGELU; None leaves it to the architecture."""
    normalized: bool = False
    """Whether image vectors are scaled to length 1; otherwise they are as CLIP's `encode_image` gives them."""

    def __post_init__(self) -> None:
        if self.model.startswith((HUB, FOLDER)) == (self.weights is not None):
            raise ValueError(
                "an architecture needs a tag or a file as its weights; a hub id or a folder brings its own"
            )


@dataclass(frozen=True)
class TowerSpec:
    """How an image tower is built, and how its vectors are scaled."""

    vision: Mapping[str, Any]
    """open_clip's `vision_cfg`."""
    vector_size: int
    """Width of the tower's vectors."""
    quick_gelu: bool
    """Whether the tower uses QuickGELU: weights only fit the activation they were trained with."""
    normalized: bool = True
    """Whether vectors are scaled to length 1. Bundles that do not say were trained on normalized vectors."""

    @property
    def input_size(self) -> int:
        """Side of the square input in pixels."""
        size = self.vision["image_size"]
        return int(size if isinstance(size, int) else size[0])


class ClipEncoder(nn.Module):
    """A frozen image tower."""

    def __init__(self, tower: nn.Module, spec: TowerSpec) -> None:
        super().__init__()
        self.tower = tower.requires_grad_(False)
        self.spec = spec
        self.vector_size = spec.vector_size
        self.eval()

    def train(self, mode: bool = True) -> "ClipEncoder":
        """Stay in evaluation mode: the tower is frozen."""
        return super().train(False)

    def input(self, alignment: str) -> InputSpec:
        """What the encoder expects of crops aligned by a template. Only a tower from `load_clip` knows its scales."""
        scales: dict[str, Any] = self.tower.preprocess_cfg  # type: ignore[assignment]
        return InputSpec(self.spec.input_size, "rgb", tuple(scales["mean"]), tuple(scales["std"]), alignment)

    def forward(self, x: Tensor) -> Tensor:
        """float [B, 3, S, S] -> vectors [B, D], of length 1 where the spec says `normalized`."""
        vectors: Tensor = self.tower(x)
        return F.normalize(vectors, dim=-1) if self.spec.normalized else vectors


class ClipClassifier(nn.Module):
    """An encoder, a vector a class [C, D] of length 1 (its prompt's), and the temperature of the softmax over cosines.

    Raises ValueError for text features of another width, and a temperature that is not positive and finite.
    """

    text: Tensor

    def __init__(self, encoder: ClipEncoder, text: Tensor, temperature: float) -> None:
        super().__init__()
        if text.ndim != 2 or text.shape[1] != encoder.vector_size:
            raise ValueError(f"text features are {tuple(text.shape)}, expected [classes, {encoder.vector_size}]")
        if not 0 < temperature < float("inf"):
            raise ValueError("the temperature must be positive and finite")
        self.encoder = encoder
        self.register_buffer("text", F.normalize(text.detach(), dim=-1))
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """float [B, 3, S, S] -> logits [B, C]: cosines in [-1, 1], divided by the temperature."""
        return self.logits(self.encoder(x))

    def logits(self, vectors: Tensor) -> Tensor:
        """Vectors [B, D] of this encoder, of any length -> logits [B, C]."""
        return F.normalize(vectors, dim=-1) @ self.text.T / self.temperature


def class_prompts(labels: Sequence[str]) -> tuple[str, ...]:
    """The paper's sentence for each expression label, in the order given."""
    return tuple(f"A face showing {_NOUNS.get(label, label)}." for label in labels)


def load_clip(
    source: ClipSource, prompts: Sequence[str], *, temperature: float | None = None, download: bool = False
) -> ClipClassifier:
    """A frozen CLIP, float32 on the CPU, with its prompts encoded once. temperature: None takes what it was trained to.

    Raises ClipError where weights are missing or do not fit, ModuleNotFoundError without the extra, ValueError for no
    prompt. Only with `download` is anything fetched, from the Hugging Face hub into its cache.
    """
    if not prompts:
        raise ValueError("there must be a prompt for each class")
    library = _import_open_clip()
    name, options = _located(library, source, download)
    config = library.get_model_config(name)
    if {"hf_model_name", "hf_tokenizer_name"} & config["text_cfg"].keys() or "siglip" in name.lower():
        raise ClipError(f"{source.model} has a text tower that needs more than open_clip")
    try:
        model = library.create_model(name, **options, require_pretrained=True).eval()
    except Exception as error:  # the library and torch raise many kinds for damaged or foreign files
        place = source.weights or source.model
        raise ClipError(f"{place} has no weights that fit {source.model} ({type(error).__name__})") from error
    if source.quick_gelu is not None and _uses_quick_gelu(model.visual) != source.quick_gelu:
        raise ClipError(f"{source.model} does not leave the choice of QuickGELU")
    with torch.inference_mode():
        text = model.encode_text(library.get_tokenizer(name)(list(prompts))).clone()
    trained = 1 / model.logit_scale.exp().item()
    vision = library.get_model_config(name)["vision_cfg"]
    spec = TowerSpec(vision, text.shape[1], _uses_quick_gelu(model.visual), source.normalized)
    encoder = ClipEncoder(model.visual, spec)
    return ClipClassifier(encoder, text, trained if temperature is None else temperature)


def build_tower(spec: TowerSpec) -> ClipEncoder:
    """An untrained tower. Raises ModuleNotFoundError without the extra, ClipError for what open_clip cannot build."""
    if spec.vision.get("timm_model_name"):
        raise ClipError("this image tower needs more than open_clip")
    library = _import_open_clip()
    smallest = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}
    try:
        model = library.CLIP(spec.vector_size, dict(spec.vision), smallest, quick_gelu=spec.quick_gelu)
    except Exception as error:  # the library and torch raise many kinds for settings that do not fit together
        raise ClipError(f"open_clip cannot build this image tower ({type(error).__name__})") from error
    return ClipEncoder(model.visual, spec)


def _located(library: Any, source: ClipSource, download: bool) -> tuple[str, dict[str, Any]]:
    """open_clip's name of the model, and options that lead it to files that are there."""
    if source.model.startswith(FOLDER):
        if not (Path(source.model.removeprefix(FOLDER)) / CONFIG).is_file():
            raise ClipError(f"{source.model.removeprefix(FOLDER)} is no folder with an {CONFIG}")
        return source.model, {"force_quick_gelu": bool(source.quick_gelu)}
    if source.model.startswith(HUB):
        repository = source.model.removeprefix(HUB)
        config = _hub_file(repository, (CONFIG,), download, f"{CONFIG} {WEIGHTS[0]}")
        _hub_file(repository, WEIGHTS, download, WEIGHTS[0])
        return f"{FOLDER}{config.parent}", {"force_quick_gelu": bool(source.quick_gelu)}
    if library.get_model_config(source.model) is None:
        raise ClipError(f"open_clip knows no architecture {source.model}")
    return source.model, _options(library, source, download)


def _options(library: Any, source: ClipSource, download: bool) -> dict[str, Any]:
    weights = source.weights or ""
    known = library.get_pretrained_cfg(source.model, weights)
    if not known:
        if not Path(weights).is_file():
            tags = ", ".join(library.list_pretrained_tags_by_model(source.model)) or "none"
            raise ClipError(f"{weights} is neither a file nor a pretrained tag of {source.model}; known tags: {tags}")
        return {"pretrained": weights, "force_quick_gelu": bool(source.quick_gelu)}
    repository, _, file = known.get("hf_hub", "").rpartition("/")
    if not repository:
        raise ClipError(f"the tag {weights} is not on the hub; download {known.get('url')} and give the file")
    quick = bool(known.get("quick_gelu"))
    if source.quick_gelu not in (None, quick):
        raise ClipError(f"{source.model} {weights} was trained {'with' if quick else 'without'} QuickGELU")
    names = (file,) if file else WEIGHTS
    path = _hub_file(repository, names, download, names[0])
    scales = {name: known[name] for name in ("mean", "std", "interpolation", "resize_mode") if name in known}
    return {"pretrained": str(path), "force_quick_gelu": quick, "force_preprocess_cfg": scales}


def _hub_file(repository: str, names: Sequence[str], download: bool, needed: str) -> Path:
    """The first of some files of a repository that is in the hub's cache, or is fetched into it.

    needed: the files that the user is told to fetch where there is none.
    """
    import huggingface_hub

    for name in names:
        if isinstance(cached := huggingface_hub.try_to_load_from_cache(repository, name), str):
            return Path(cached)
    if not download:
        raise ClipError(
            f"{names[0]} of {repository} is not on this machine; fetch it: hf download {repository} {needed}"
        )
    for name in names:
        try:
            return Path(huggingface_hub.hf_hub_download(repository, name))
        except Exception as error:  # of the network, the hub or the disk
            reason = error
    raise ClipError(f"{names[0]} of {repository} could not be fetched ({type(reason).__name__})") from reason


def _uses_quick_gelu(tower: nn.Module) -> bool:
    return any(type(module).__name__ == "QuickGELU" for module in tower.modules())


def _import_open_clip() -> Any:
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"CLIP needs {error.name}: install the extra `clip`", name=error.name) from error
    return open_clip
