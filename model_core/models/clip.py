"""CLIP in the library open_clip (extra `clip`): a frozen image tower, and a classifier by class prompts.

As in arXiv 2503.12260, the tower is ViT-B-16 with OpenAI's weights, and an expression's score is the cosine similarity
of the image with one sentence. Nothing is downloaded unless requested, and the text tower is freed once the prompts are
encoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_core.models.spec import TowerSpec
from model_core.preprocessing import InputSpec

HUB = "hf-hub:"
FOLDER = "local-dir:"
CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

_NOUNS = {"neutral": "neutrality", "other": "an undefined emotion"}


class ClipError(Exception):
    """Raised if a CLIP model cannot be loaded; the message is one line with the reason, and a remedy if any."""


@dataclass(frozen=True)
class ClipSource:
    """The origin of CLIP's towers and weights, and the length at which the image tower's vectors are used.

    Raises ValueError if the weights do not fit the kind of model.
    """

    model: str
    """An architecture of open_clip (`ViT-B-16`), `hf-hub:OWNER/NAME`, or `local-dir:FOLDER` with a configuration."""

    weights: str | None = None
    """For an architecture, a pretrained tag (`openai`) or a local file; None for a hub id or a folder."""

    quick_gelu: bool | None = None
    """For a local file, True if it was trained with QuickGELU; None leaves it to the architecture."""

    normalized: bool = False
    """True scales image vectors to length 1; False leaves them as CLIP's `encode_image` gives them."""

    def __post_init__(self) -> None:
        if self.model.startswith((HUB, FOLDER)) == (self.weights is not None):
            raise ValueError(
                "an architecture needs a tag or a file as its weights; a hub id or a folder includes its weights"
            )


class ClipEncoder(nn.Module):
    """A frozen image tower, which is always in evaluation mode."""

    def __init__(self, tower: nn.Module, spec: TowerSpec) -> None:
        super().__init__()
        self.tower = tower.requires_grad_(False)
        self.spec = spec
        self.vector_size = spec.vector_size
        self.eval()

    def train(self, mode: bool = True) -> "ClipEncoder":
        """Stay in evaluation mode, because the tower is frozen."""
        return super().train(False)

    def input(self, alignment: str) -> InputSpec:
        """Return the input for crops aligned to a template. Only a tower from `load_clip` knows its mean and std."""
        scales: dict[str, Any] = self.tower.preprocess_cfg  # type: ignore[assignment]
        return InputSpec(self.spec.input_size, "rgb", tuple(scales["mean"]), tuple(scales["std"]), alignment)

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors [B, D] for images, float [B, 3, S, S]; of length 1 if the spec says `normalized`."""
        vectors: Tensor = self.tower(x)
        return F.normalize(vectors, dim=-1) if self.spec.normalized else vectors


class ClipClassifier(nn.Module):
    """A classifier without training: an image belongs to the class whose prompt is most similar."""

    text: Tensor
    """The prompts' vectors of length 1, [C, D], one for each class."""

    def __init__(self, encoder: ClipEncoder, text: Tensor, temperature: float) -> None:
        """Take the prompts' vectors [C, D], of any length, and the temperature of the softmax over cosines.

        Raises ValueError for vectors of another width, and for a temperature that is not positive and finite.
        """
        super().__init__()
        if text.ndim != 2 or text.shape[1] != encoder.vector_size:
            raise ValueError(f"text features are {tuple(text.shape)}, expected [classes, {encoder.vector_size}]")
        if not 0 < temperature < float("inf"):
            raise ValueError("the temperature must be positive and finite")
        self.encoder = encoder
        self.register_buffer("text", F.normalize(text.detach(), dim=-1))
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, C], cosines divided by the temperature, for images, float [B, 3, S, S]."""
        return self.logits(self.encoder(x))

    def logits(self, vectors: Tensor) -> Tensor:
        """Return logits [B, C] for this encoder's vectors [B, D], which may have any length."""
        return F.normalize(vectors, dim=-1) @ self.text.T / self.temperature


def class_prompts(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the sentence of arXiv 2503.12260 for each expression label, in the order given."""
    return tuple(f"A face showing {_NOUNS.get(label, label)}." for label in labels)


def load_clip(
    source: ClipSource, prompts: Sequence[str], *, temperature: float | None = None, download: bool = False
) -> ClipClassifier:
    """Return a frozen classifier, float32 on the CPU, with one encoded prompt for each class.

    Without a `temperature` it has the one that CLIP learned. Files are fetched only with `download`, from the Hugging
    Face hub into its cache. Raises ClipError if weights are missing or do not fit, ModuleNotFoundError if the extra is
    not installed, and ValueError for no prompts.
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
    except Exception as error:  # the library and torch raise many kinds of errors for damaged or foreign files
        place = source.weights or source.model
        raise ClipError(f"{place} has no weights that fit {source.model} ({type(error).__name__})") from error
    if source.quick_gelu is not None and _uses_quick_gelu(model.visual) != source.quick_gelu:
        raise ClipError(f"{source.model} does not allow a choice of QuickGELU")
    with torch.inference_mode():
        text = model.encode_text(library.get_tokenizer(name)(list(prompts))).clone()
    trained = 1 / model.logit_scale.exp().item()
    vision = library.get_model_config(name)["vision_cfg"]
    spec = TowerSpec(vision, text.shape[1], _uses_quick_gelu(model.visual), source.normalized)
    encoder = ClipEncoder(model.visual, spec)
    return ClipClassifier(encoder, text, trained if temperature is None else temperature)


def build_tower(spec: TowerSpec) -> ClipEncoder:
    """Return an untrained tower.

    Raises ModuleNotFoundError if the extra is not installed, and ClipError for a tower that open_clip cannot build.
    """
    if spec.vision.get("timm_model_name"):
        raise ClipError("this image tower needs more than open_clip")
    library = _import_open_clip()
    smallest = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}
    try:
        model = library.CLIP(spec.vector_size, dict(spec.vision), smallest, quick_gelu=spec.quick_gelu)
    except Exception as error:  # the library and torch raise many kinds of errors for bad settings
        raise ClipError(f"open_clip cannot build this image tower ({type(error).__name__})") from error
    return ClipEncoder(model.visual, spec)


def _located(library: Any, source: ClipSource, download: bool) -> tuple[str, dict[str, Any]]:
    """Return open_clip's name of the model, and options that point it to files on this machine. Raises ClipError."""
    if source.model.startswith(FOLDER):
        if not (Path(source.model.removeprefix(FOLDER)) / CONFIG).is_file():
            raise ClipError(f"{source.model.removeprefix(FOLDER)} is not a folder with an {CONFIG}")
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
    """Return options that point an architecture to its weights, by file or tag. Raises ClipError."""
    weights = source.weights or ""
    known = library.get_pretrained_cfg(source.model, weights)
    if not known:
        if not Path(weights).is_file():
            tags = ", ".join(library.list_pretrained_tags_by_model(source.model)) or "none"
            raise ClipError(f"{weights} is neither a file nor a pretrained tag of {source.model}; known tags: {tags}")
        return {"pretrained": weights, "force_quick_gelu": bool(source.quick_gelu)}
    repository, _, file = known.get("hf_hub", "").rpartition("/")
    if not repository:
        raise ClipError(f"the tag {weights} is not on the hub; download {known.get('url')} and name the file")
    quick = bool(known.get("quick_gelu"))
    if source.quick_gelu not in (None, quick):
        raise ClipError(f"{source.model} {weights} was trained {'with' if quick else 'without'} QuickGELU")
    names = (file,) if file else WEIGHTS
    path = _hub_file(repository, names, download, names[0])
    scales = {name: known[name] for name in ("mean", "std", "interpolation", "resize_mode") if name in known}
    return {"pretrained": str(path), "force_quick_gelu": quick, "force_preprocess_cfg": scales}


def _hub_file(repository: str, names: Sequence[str], download: bool, needed: str) -> Path:
    """Return the first of some files of a repository that is in the hub's cache, or that can be fetched into it.

    Raises ClipError, which tells the user to fetch the files in `needed`.
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
        except Exception as error:  # from the network, the hub or the disk
            reason = error
    raise ClipError(f"{names[0]} of {repository} could not be fetched ({type(reason).__name__})") from reason


def _uses_quick_gelu(tower: nn.Module) -> bool:
    return any(type(module).__name__ == "QuickGELU" for module in tower.modules())


def _import_open_clip() -> Any:
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"CLIP needs {error.name}; install the extra `clip`", name=error.name) from error
    return open_clip
