"""Bundles on the Hugging Face hub: `hf:OWNER/NAME[@REVISION]`, a repository with a bundle's two files in its root.

Bundles are read from the hub's cache on this machine, and fetched into it only with `download`. Both files come from
one commit. The settings of `huggingface_hub` for caches, tokens and mirrors (its HF_ variables) apply.
"""

import re
from pathlib import Path

from model_core.bundles.bundle import MANIFEST, WEIGHTS, BundleError, locate_bundle

PREFIX = "hf:"


def find_bundle(reference: str, *, download: bool = False) -> Path:
    """Return the folder of a bundle on the hub, or else of `locate_bundle`. Raises BundleError if there is none."""
    if not reference.startswith(PREFIX):
        return locate_bundle(reference)
    parts = re.fullmatch(r"hf:(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?", reference, re.ASCII)
    if parts is None or ".." in reference:
        raise BundleError(f"bundle {reference!r}: expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    repository, revision = parts.groups()
    manifest = _file(reference, repository, MANIFEST, revision, download)
    commit = manifest.parent.name
    _file(reference, repository, WEIGHTS, commit, download)
    return manifest.parent


def _file(reference: str, repository: str, name: str, revision: str | None, download: bool) -> Path:
    """Return a repository's file in the cache, where it is fetched to if `download` allows. Raises BundleError."""
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise BundleError(f"bundle {reference}: it needs {error.name}; install the extra `hub`") from error
    try:
        cached = huggingface_hub.try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        if download:
            return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))
    except Exception as error:  # from the network, the hub, the disk, or a name that the hub does not allow
        raise BundleError(f"bundle {reference}: {name} could not be fetched ({type(error).__name__})") from error
    raise BundleError(f"bundle {reference}: {name} is not in the hub's cache, and downloads are not allowed")
