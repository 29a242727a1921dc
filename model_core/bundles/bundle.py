"""Reading and writing bundles: folders with `weights.safetensors` and `bundle.json`, which contain no code.

    BundleError    the folder is missing or damaged, or has content that this version does not understand

Matrices and kernels are stored as float16 and used as float32. Vectors (biases, norms, slopes) are stored as float32,
because a variance can exceed float16's range. The manifest carries the weights' SHA-256, so the two files belong
together.

Only the network of a bundle needs torch; the manifest and the weights are read without it.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from model_core.bundles.manifest import BundleManifest, PrecisionGate, manifest_values, parse_manifest

if TYPE_CHECKING:
    from model_core.models.heads import AffectNetwork

WEIGHTS = "weights.safetensors"
MANIFEST = "bundle.json"
_SHIPPED = Path(__file__).parent


Weights: TypeAlias = Mapping[str, NDArray[np.floating]]
"""A network's weights by the names of torch's state: float16 or float32."""


class BundleError(Exception):
    """Raised if a bundle cannot be used; the message is one line that names the bundle and the reason."""


@dataclass(frozen=True, eq=False, repr=False)
class Bundle:
    """A bundle that has been read. Its network is built when it is first asked for, which needs torch."""

    manifest: BundleManifest

    weights: Weights
    """The network's weights."""

    build: "Callable[[], AffectNetwork]"
    """Builds the network; see `network`."""

    @classmethod
    def of(cls, manifest: BundleManifest, network: "AffectNetwork") -> "Bundle":
        """Return the bundle of a network in memory, which is in evaluation mode, float32, on the CPU."""
        return cls(manifest, _arrays(network), lambda: network)

    @cached_property
    def network(self) -> "AffectNetwork":
        """The network in evaluation mode, float32, on the CPU.

        Raises BundleError if the weights' names, shapes or types are not the network's, or its library is missing.
        """
        return self.build()


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


def save_bundle(folder: Path, manifest: BundleManifest, network: "AffectNetwork") -> BundleManifest:
    """Write a new bundle, and return its manifest with the weights' hash and the code version.

    The folder appears only when it is complete. Raises FileExistsError if it exists, and ValueError if a weight does
    not fit float16 or the manifest holds a number that JSON cannot.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder or remove it")
    content = save_arrays(_at_rest(_arrays(network)))
    digest = hashlib.sha256(content).hexdigest()
    values = manifest_values(manifest) | {"weights_sha256": digest, "code_version": code_version()}
    text = _text(values)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a save that was killed
    partial.mkdir(parents=True)
    (partial / WEIGHTS).write_bytes(content)
    (partial / MANIFEST).write_text(text, encoding="utf-8")
    partial.rename(folder)
    return parse_manifest(values)


def record_gate(folder: Path, gate: PrecisionGate) -> None:
    """Write a measured gate into the manifest of an existing bundle, whose other content stays. Raises OSError."""
    values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    partial = folder / f"{MANIFEST}.partial"
    partial.write_text(_text(values | {"precision_gate": asdict(gate)}), encoding="utf-8")
    partial.replace(folder / MANIFEST)


def open_bundle(folder: Path) -> Bundle:
    """Return a bundle whose manifest and whose weights' hash are checked; its network is not built yet.

    Raises BundleError.
    """
    with _naming(folder / MANIFEST):
        manifest = parse_manifest(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    with _naming(folder / WEIGHTS):
        content = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest.weights_sha256:
            raise ValueError(f"it does not match the SHA-256 in {MANIFEST}")
        weights = load_arrays(content)
    return Bundle(manifest, weights, partial(_restored, folder, manifest, weights))


def load_bundle(folder: Path) -> Bundle:
    """Return a bundle with its network, whose tensors' names, shapes and types are checked. Raises BundleError."""
    bundle = open_bundle(folder)
    _ = bundle.network  # built now, so that a bundle that does not fit is refused here
    return bundle


def _text(values: Mapping[str, Any]) -> str:
    """Return a manifest's text. Raises ValueError for a number that JSON does not have."""
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _restored(folder: Path, manifest: BundleManifest, weights: Weights) -> "AffectNetwork":
    """Build the network of a bundle that was read. Raises BundleError."""
    with _naming(folder / MANIFEST):
        from model_core.bundles.restoring import build_checked, restore

        network = build_checked(manifest.network)
    with _naming(folder / WEIGHTS):
        return restore(network, weights)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise BundleError with the bundle and the file for what is wrong with the file."""
    place = f"bundle {path.parent.name}: {path.name}"
    try:
        yield
    except OSError as error:
        raise BundleError(f"{place}: it cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, SafetensorError, ModuleNotFoundError) as error:
        raise BundleError(f"{place}: {error}") from error


def _arrays(network: "AffectNetwork") -> Weights:
    """Return a network's weights, without the counters that only training uses."""
    state = network.state_dict()
    return {name: state[name].detach().cpu().numpy() for name in state if not name.endswith("num_batches_tracked")}


def _at_rest(weights: Weights) -> dict[str, NDArray[np.floating]]:
    """Return weights in the types in which they are stored. Raises ValueError for values that do not fit."""
    stored: dict[str, NDArray[np.floating]] = {}
    for name, array in weights.items():
        with np.errstate(over="ignore"):  # what does not fit becomes infinite
            at_rest: NDArray[np.floating] = array.astype(np.float16 if array.ndim > 1 else np.float32, order="C")
        if not np.isfinite(at_rest).all():
            raise ValueError(f"{name} has values that float16 cannot hold")
        stored[name] = at_rest
    return stored
