"""YuNet's file in the Hugging Face cache of this machine, into which it can be fetched."""

import hashlib
from pathlib import Path

from model_core.faces.detection.contract import DetectorUnavailable

REPOSITORY = "opencv/face_detection_yunet"
"""OpenCV's copy of the network on the Hugging Face hub; its licence is MIT."""

REVISION = "3cc26e7f1014a5ee5d74a42acee58bafc9d0a310"
FILE = "face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"


def cached_yunet(*, download: bool = False) -> Path:
    """Return the path of the file, which is fetched where it is missing and `download` allows.

    The settings of `huggingface_hub` for caches and mirrors (its HF_ variables) apply. Raises DetectorUnavailable where
    the file is not there, cannot be fetched, or has another content than the one that is named here.
    """
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise DetectorUnavailable(f"YuNet's file is looked for by {error.name}; install the extra `hub`") from error
    try:
        cached = huggingface_hub.try_to_load_from_cache(REPOSITORY, FILE, revision=REVISION)
        path = Path(cached) if isinstance(cached, str) else None
        if path is None and download:
            path = Path(huggingface_hub.hf_hub_download(REPOSITORY, FILE, revision=REVISION))
    except Exception as error:  # from the network, the hub or the disk
        raise DetectorUnavailable(f"YuNet's file could not be fetched ({type(error).__name__})") from error
    if path is None:
        raise DetectorUnavailable(f"YuNet's file {FILE} is not in the Hugging Face cache")
    _check(path)
    return path


def _check(path: Path) -> None:
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DetectorUnavailable(f"the face detector's file {path} cannot be read: {error.strerror}") from error
    if sha256 != SHA256:
        raise DetectorUnavailable(f"{path} is not YuNet's file: its SHA-256 begins with {sha256[:8]}, not {SHA256[:8]}")
