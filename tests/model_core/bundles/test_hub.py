"""Bundles by hub id, from a cache in the hub's layout; nothing here asks the network."""

import shutil
import sys
from pathlib import Path

import pytest

from model_core.bundles.bundle import MANIFEST, WEIGHTS, BundleError, load_bundle
from model_core.bundles.hub import find_bundle

COMMIT, OLDER = "a" * 40, "b" * 40


@pytest.fixture
def cache(tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`owner/name` in a hub's cache: its branch main, and an older commit without weights, which is tagged v1."""
    repository = tmp_path / "models--owner--name"
    shutil.copytree(tiny_bundle_dir, repository / "snapshots" / COMMIT)
    (repository / "snapshots" / OLDER).mkdir()
    shutil.copy(tiny_bundle_dir / MANIFEST, repository / "snapshots" / OLDER)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "refs" / "v1").write_text(OLDER)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("something was fetched"))
    return repository


@pytest.mark.parametrize("reference", ["hf:owner/name", "hf:owner/name@main", f"hf:owner/name@{COMMIT}"])
def test_a_cached_bundle_is_found_without_the_network(cache: Path, reference: str) -> None:
    for download in (False, True):
        folder = find_bundle(reference, download=download)
        assert folder == cache / "snapshots" / COMMIT
    assert load_bundle(folder).manifest.name == "tests-only-untrained"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("hf:owner/other", "bundle.json is not in the hub's cache, and downloads are not allowed"),
        ("hf:owner/name@v2", "bundle.json is not in the hub's cache, and downloads are not allowed"),
        ("hf:owner/name@v1", "weights.safetensors is not in the hub's cache, and downloads are not allowed"),
        ("hf:name", "expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION"),
        ("hf:owner/name@", "expected hf:OWNER/NAME"),
        ("hf:owner/name@../x", "expected hf:OWNER/NAME"),
        ("hf:owner/na--me", "could not be fetched (HFValidationError)"),
    ],
)
def test_what_is_not_there_is_a_line_that_says_so(cache: Path, reference: str, message: str) -> None:
    with pytest.raises(BundleError) as caught:
        find_bundle(reference)
    assert message in str(caught.value)
    assert reference in str(caught.value)
    assert "\n" not in str(caught.value)


def test_both_files_are_fetched_from_one_commit(
    cache: Path, tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(repository: str, name: str, *, revision: str | None) -> str:
        asked.append((repository, name, revision))
        return str(cache / "snapshots" / COMMIT / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    assert find_bundle("hf:owner/other@v3", download=True) == cache / "snapshots" / COMMIT
    assert asked == [("owner/other", MANIFEST, "v3"), ("owner/other", WEIGHTS, COMMIT)]


def test_a_failed_download_is_a_bundle_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TimeoutError("no route\nto the hub")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(BundleError, match=r"^bundle hf:a/b: bundle.json could not be fetched \(TimeoutError\)$"):
        find_bundle("hf:a/b", download=True)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(BundleError, match="install the extra `hub`"):
        find_bundle("hf:a/b")


def test_other_references_are_located_as_ever(tiny_bundle_dir: Path) -> None:
    assert find_bundle(str(tiny_bundle_dir)) == tiny_bundle_dir
    with pytest.raises(BundleError, match="neither shipped nor a folder"):
        find_bundle("nowhere")
