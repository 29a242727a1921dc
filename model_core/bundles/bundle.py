"""Reading and writing bundles: folders with `weights.safetensors` and `bundle.json`, which contain no code.

    BundleError    the folder is missing or damaged, or has content that this version does not understand

Matrices and kernels are stored as float16 and used as float32. Vectors (biases, norms, slopes) are stored as float32,
because a variance can exceed float16's range. The manifest carries the weights' SHA-256, so the two files belong
together.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from model_core.bundles.manifest import BundleManifest, calibration_values, parse_manifest
from model_core.models import build_network
from model_core.models.clip import ClipError
from model_core.models.heads import AffectNetwork

WEIGHTS = "weights.safetensors"
MANIFEST = "bundle.json"
_SHIPPED = Path(__file__).parent


class BundleError(Exception):
    """Raised if a bundle cannot be used; the message is one line that names the bundle and the reason."""


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle."""

    manifest: BundleManifest

    network: AffectNetwork
    """In evaluation mode, float32, on the CPU."""


def code_version() -> str:
    """Return the version of the installed distribution, or `unknown` in a source tree that is not installed."""
    try:
        return version("facial-affect-service")
    except PackageNotFoundError:
        return "unknown"


def locate_bundle(reference: str) -> Path:
    """Return the folder of a shipped bundle, by its folder such as `default` or its manifest's name, or of a path.

    Raises BundleError if there is none.
    """
    for folder in (_SHIPPED / reference, Path(reference)):
        if (folder / MANIFEST).is_file():
            return folder
    for manifest in sorted(_SHIPPED.glob(f"*/{MANIFEST}")):
        with _naming(manifest):
            name = json.loads(manifest.read_text(encoding="utf-8"))["name"]
        if name == reference:
            return manifest.parent
    raise BundleError(f"there is no bundle {reference!r}: it is neither shipped nor a folder with a {MANIFEST}")


def save_bundle(folder: Path, manifest: BundleManifest, network: AffectNetwork) -> BundleManifest:
    """Write a new bundle, and return its manifest with the weights' hash and the code version.

    The folder appears only when it is complete. Raises FileExistsError if it exists, and ValueError if a weight does
    not fit float16 or the manifest holds a number that JSON cannot.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder or remove it")
    content = save_tensors(_at_rest(network.state_dict()))
    digest = hashlib.sha256(content).hexdigest()
    values = {
        **asdict(manifest),
        "calibration": calibration_values(manifest.calibration),
        "weights_sha256": digest,
        "code_version": code_version(),
    }
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a save that was killed
    partial.mkdir(parents=True)
    (partial / WEIGHTS).write_bytes(content)
    (partial / MANIFEST).write_text(text, encoding="utf-8")
    partial.rename(folder)
    return parse_manifest(values)


def load_bundle(folder: Path) -> Bundle:
    """Return a bundle whose hash, labels, and tensors' names, shapes and types are checked. Raises BundleError."""
    with _naming(folder / MANIFEST):
        manifest = parse_manifest(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    with _naming(folder / WEIGHTS):
        content = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest.weights_sha256:
            raise ValueError(f"it does not match the SHA-256 in {MANIFEST}")
    with _naming(folder / MANIFEST):
        network = build_network(manifest.network)
    with _naming(folder / WEIGHTS):
        network.load_state_dict(_in_use(load_tensors(content), network))
    return Bundle(manifest, network.eval())


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise BundleError with the bundle and the file for what is wrong with the file."""
    place = f"bundle {path.parent.name}: {path.name}"
    try:
        yield
    except OSError as error:
        raise BundleError(f"{place}: it cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, SafetensorError, ClipError, ModuleNotFoundError) as error:
        raise BundleError(f"{place}: {error}") from error


def _at_rest(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a network's state in the types in which it is stored. Raises ValueError for values that do not fit."""
    tensors = {}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue  # only training uses these counters
        at_rest = tensor.detach().cpu().contiguous()
        at_rest = at_rest.half() if at_rest.ndim > 1 else at_rest.float()
        if not torch.isfinite(at_rest).all():
            raise ValueError(f"{name} has values that float16 cannot hold")
        tensors[name] = at_rest
    return tensors


def _in_use(tensors: Mapping[str, Tensor], network: AffectNetwork) -> dict[str, Tensor]:
    """Return the stored tensors as the network's float32 state. Raises ValueError, which names the first deviations."""
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
