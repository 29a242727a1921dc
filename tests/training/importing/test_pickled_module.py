import io
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.fakes import Hostile
from tests.training.importing.upstream_module import nest, upstream_package
from training.importing.pickled_module import children, load_module, tensors
from training.importing.restricted_pickle import Name, StandIn
from training.runs.checkpoint import CheckpointError

STATE = {
    "b.weight": torch.arange(6.0).reshape(2, 3).t(),
    "b.inner.running_mean": torch.tensor([1.5, -2.0]),
    "b.inner.num_batches_tracked": torch.tensor(7),
    "a.weight": torch.tensor([[0.5]], dtype=torch.float16),
    "scale": torch.ones(0),
}


def pickled(model: object = None, *, zipped: bool = True) -> bytes:
    """A torch file of a module whose class does not exist any more."""
    content = io.BytesIO()
    with upstream_package() as part:
        torch.save(nest(part, STATE) if model is None else model, content, _use_new_zipfile_serialization=zipped)
    return content.getvalue()


ZIPPED, LEGACY = pickled(), pickled(zipped=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "module.pth"


@pytest.mark.parametrize("content", [ZIPPED, LEGACY], ids=["zip", "legacy"])
def test_parameters_and_buffers_come_back_without_the_class(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    module = load_module(file)
    assert str(module.name) == "networks_of_upstream.Part"
    assert list(children(module)) == ["b", "a"]
    found = tensors(module)
    assert set(found) == set(STATE)
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in STATE.items())


@pytest.mark.parametrize("zipped", [True, False])
def test_modules_of_torch_are_stand_ins_too(file: Path, zipped: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten())
    file.write_bytes(pickled(model, zipped=zipped))
    module = load_module(file)
    assert isinstance(module, StandIn)
    assert module.state["training"] is True
    found, state = tensors(module), model.state_dict()
    assert set(found) == set(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_call_is_refused_and_not_made(file: Path, tmp_path: Path, zipped: bool) -> None:
    file.write_bytes(pickled({"model": Hostile(tmp_path / "it-ran")}, zipped=zipped))
    with pytest.raises(CheckpointError, match=r"module\.pth is no pickled module .*: it calls posix\.system$"):
        load_module(file)
    assert not (tmp_path / "it-ran").exists()


def test_a_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(CheckpointError, match=r"module\.pth does not exist"):
        load_module(file)


@pytest.mark.parametrize("value", [{"state_dict": {}}, [1], torch.ones(2)])
def test_a_file_of_something_else(file: Path, value: object) -> None:
    torch.save(value, file)
    with pytest.raises(CheckpointError, match="holds no pickled module"):
        load_module(file)


@pytest.mark.parametrize("content", [ZIPPED, LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused(file: Path, content: bytes, share: float) -> None:
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match=r"module\.pth is "):
        load_module(file)


@given(content=st.sampled_from([ZIPPED, LEGACY]), place=st.floats(0, 0.9999), value=st.integers(0, 255))
def test_a_changed_byte_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, place: float, value: int
) -> None:
    changed = bytearray(content)
    changed[int(place * len(content))] = value
    file = tmp_path_factory.getbasetemp() / "changed.pth"
    file.write_bytes(changed)
    with suppress(CheckpointError):  # and nothing else
        tensors(load_module(file))


def rezipped(change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The zip format's file with records changed."""
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(ZIPPED)) as before, zipfile.ZipFile(content, "w", compression) as after:
        for name in before.namelist():
            after.writestr(name, change(name, before.read(name)))
    return content.getvalue()


def test_a_huge_storage_is_refused(file: Path) -> None:
    huge = b"\x8a\x06" + (2**40).to_bytes(6, "little")
    file.write_bytes(rezipped(lambda name, old: old.replace(b"K\x06tq", huge + b"tq", 1) if "pkl" in name else old))
    with pytest.raises(CheckpointError, match=r"storage '\d+' is to have 4398046511104 bytes, more than the file"):
        load_module(file)


def test_a_storage_of_another_size_than_its_record_is_refused(file: Path) -> None:
    file.write_bytes(rezipped(lambda name, old: old.replace(b"K\x06tq", b"K\x05tq", 1) if "pkl" in name else old))
    with pytest.raises(CheckpointError, match=r"record 'data/\d+' .* not the size"):
        load_module(file)


def test_compressed_records_are_refused(file: Path) -> None:
    file.write_bytes(rezipped(lambda name, old: old, zipfile.ZIP_DEFLATED))
    with pytest.raises(CheckpointError, match="is compressed"):
        load_module(file)


def test_the_other_byte_order_is_refused(file: Path) -> None:
    file.write_bytes(rezipped(lambda name, old: b"big" if name.endswith("byteorder") else old))
    with pytest.raises(CheckpointError, match="bytes are in another order"):
        load_module(file)


def test_a_storage_of_unknown_kind_is_refused(file: Path) -> None:
    file.write_bytes(rezipped(lambda name, old: old.replace(b"FloatStorage", b"QuietStorage")))
    with pytest.raises(CheckpointError, match=r"it has a torch\.QuietStorage"):
        load_module(file)


def test_a_module_within_itself_is_refused(file: Path) -> None:
    with upstream_package() as part:
        model = nest(part, {"a.b.weight": torch.ones(1)})
        model.get_submodule("a")._modules["again"] = model
        torch.save(model, file)
    module = load_module(file)
    with pytest.raises(CheckpointError, match="a module within itself"):
        tensors(module)


def test_what_is_no_torch_module_has_no_tensors() -> None:
    module = StandIn(Name("foo", "Bar"), {"_modules": {}, "_parameters": [], "_buffers": {}})
    with pytest.raises(CheckpointError, match=r"its foo\.Bar is not a torch module"):
        tensors(module)
