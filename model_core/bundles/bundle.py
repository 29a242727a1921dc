"""The servable artefact: a folder with `weights.safetensors` and `bundle.json`, read without running anything in it.

    BundleError: the folder is missing, damaged, or says something that this version does not understand.

Matrices and kernels rest in float16 and are used in float32; vectors (biases, norms, slopes) stay float32, since a
variance can leave float16's range. The manifest carries the weights' SHA-256, so the two files belong together.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from model_core.bundles.manifest import BundleManifest, parse_manifest
from model_core.models import build_network
from model_core.models.clip import ClipError
from model_core.models.heads import AffectNetwork

WEIGHTS, MANIFEST = "weights.safetensors", "bundle.json"
_SHIPPED = Path(__file__).parent


class BundleError(Exception):
    """A bundle cannot be used; the message is one line that names the bundle and the reason."""


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle; the network is in evaluation mode, float32, on the CPU."""

    manifest: BundleManifest
    network: AffectNetwork


def code_version() -> str:
    """Version of the installed distribution; `unknown` in a source tree that is not installed."""
    try:
        return version("facial-affect-service")
    except PackageNotFoundError:
        return "unknown"


def locate_bundle(reference: str) -> Path:
    """`default` or another bundle that ships, else a path to a folder. Raises BundleError where there is none."""
    for folder in (_SHIPPED / reference, Path(reference)):
        if (folder / MANIFEST).is_file():
            return folder
    raise BundleError(f"no bundle {reference!r}: neither shipped nor a folder with a {MANIFEST}")


def save_bundle(folder: Path, manifest: BundleManifest, network: AffectNetwork) -> BundleManifest:
    """Write a new bundle; returns the manifest with its hash and code version. The folder appears only when whole.

    Raises FileExistsError, and ValueError where a weight does not fit float16 or a measure is not a JSON number.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder or remove it")
    content = save_tensors(_at_rest(network.state_dict()))
    digest = hashlib.sha256(content).hexdigest()
    values = {**asdict(manifest), "weights_sha256": digest, "code_version": code_version()}
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a save that was killed
    partial.mkdir(parents=True)
    (partial / WEIGHTS).write_bytes(content)
    (partial / MANIFEST).write_text(text, encoding="utf-8")
    partial.rename(folder)
    return parse_manifest(values)


def load_bundle(folder: Path) -> Bundle:
    """Read and check a bundle: hash, tensor names, shapes and types, labels. Raises BundleError."""
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        content = (folder / WEIGHTS).read_bytes()
        manifest = parse_manifest(values)
        if hashlib.sha256(content).hexdigest() != manifest.weights_sha256:
            raise ValueError(f"{WEIGHTS} does not match the SHA-256 in {MANIFEST}")
        network = build_network(manifest.network)
        network.load_state_dict(_in_use(load_tensors(content), network))
    except OSError as error:
        raise BundleError(f"bundle {folder.name}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, SafetensorError, ClipError, ModuleNotFoundError) as error:
        raise BundleError(f"bundle {folder.name}: {error}") from error
    return Bundle(manifest, network.eval())


def _at_rest(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = {}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue  # training's business
        at_rest = tensor.detach().cpu().contiguous()
        at_rest = at_rest.half() if at_rest.ndim > 1 else at_rest.float()
        if not torch.isfinite(at_rest).all():
            raise ValueError(f"{name} has values that float16 cannot hold")
        tensors[name] = at_rest
    return tensors


def _in_use(tensors: Mapping[str, Tensor], network: AffectNetwork) -> dict[str, Tensor]:
    """The stored tensors as the network's float32 state; ValueError names every deviation."""
    state = network.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in expected]
    for name, tensor in tensors.items():
        if name in expected and tuple(tensor.shape) != expected[name]:
            problems.append(f"{name} is {tuple(tensor.shape)}, expected {expected[name]}")
        if tensor.dtype not in (torch.float16, torch.float32) or not torch.isfinite(tensor).all():
            problems.append(f"{name} is not finite float16 or float32")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError("; ".join(problems[:3]) + more)
    return {**state, **{name: tensor.float() for name, tensor in tensors.items()}}
