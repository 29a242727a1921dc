"""Reads a torch file that holds a whole pickled module, such as `MFN_msceleb.pth`, without the module's code.

restricted_pickle.py executes the pickle; here are torch's two formats, the zip archive and the older run of pickles
with the storages behind them, and what the state of a module means. No file makes this keep more storages than it has.
"""

import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import torch
from torch import Tensor

from training.importing.restricted_pickle import StandIn, run
from training.runs.checkpoint import CheckpointError

MAX_ENTRIES, MAX_DEPTH = 100_000, 32
"""Modules and tensors that a tree may have, counted at each place they stand: a file's module can contain itself."""

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "torch.DoubleStorage": torch.float64,
        "torch.FloatStorage": torch.float32,
        "torch.HalfStorage": torch.float16,
        "torch.BFloat16Storage": torch.bfloat16,
        "torch.LongStorage": torch.int64,
        "torch.IntStorage": torch.int32,
        "torch.ShortStorage": torch.int16,
        "torch.CharStorage": torch.int8,
        "torch.ByteStorage": torch.uint8,
        "torch.BoolStorage": torch.bool,
        "torch.ComplexFloatStorage": torch.complex64,
        "torch.ComplexDoubleStorage": torch.complex128,
    }
)
"""Storage class -> its type; those that no weight may have are read, so that the weight can be refused by its name."""


def load_module(path: Path) -> StandIn:
    """The module that a torch file holds. Raises CheckpointError with the reason."""
    try:
        with path.open("rb") as file:
            content = _read_zip(path, file) if zipfile.is_zipfile(file) else _read_legacy(path, file)
    except CheckpointError as error:
        raise CheckpointError(f"{path} is no pickled module that can be read safely: {error}") from error
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except Exception as error:  # zipfile, pickletools and torch raise many kinds for damaged files
        raise CheckpointError(f"{path} is damaged, or not a torch file ({type(error).__name__})") from error
    if not isinstance(content, StandIn):
        raise CheckpointError(f"{path} holds no pickled module")
    return content


def children(module: StandIn) -> dict[str, StandIn]:
    """Submodules of a pickled torch module by name, in their order. Raises CheckpointError where it is no module."""
    return {name: child for name, child in _entries(module, "_modules").items() if isinstance(child, StandIn)}


def tensors(module: StandIn) -> dict[str, Tensor]:
    """Parameters and buffers of a pickled torch module under their `state_dict` names. Raises CheckpointError."""
    found: dict[str, Tensor] = {}
    waiting, count = [("", module)], 0
    while waiting:
        prefix, part = waiting.pop()
        modules, parameters, buffers = (_entries(part, f"_{kind}") for kind in ("modules", "parameters", "buffers"))
        count += len(modules) + len(parameters) + len(buffers)
        if count > MAX_ENTRIES or prefix.count(".") > MAX_DEPTH:
            raise CheckpointError("it has too many modules, or a module within itself")
        waiting += [(f"{prefix}{name}.", child) for name, child in children(part).items()]
        own = (parameters | buffers).items()
        found |= {prefix + name: value for name, value in own if isinstance(value, Tensor)}
    return found


def _entries(module: StandIn, kind: str) -> dict[str, Any]:
    entries = module.state.get(kind)
    if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries):
        raise CheckpointError(f"its {module.name} is not a torch module")
    return entries


class _Storages:
    """Storages by key; together they have no more bytes than the file."""

    def __init__(self, path: Path) -> None:
        self.left = path.stat().st_size
        self.known: dict[str, tuple[str, bytearray]] = {}

    def storage(self, kind: str, key: Any, count: Any) -> Tensor:
        """One [count] tensor a key; raises CheckpointError for an unknown kind or more bytes than there are."""
        if kind not in DTYPES:
            raise CheckpointError(f"it has a {kind}")
        if not isinstance(key, str) or not key.isdecimal() or type(count) is not int or not 0 <= count < 2**63:
            raise ValueError("a storage has a number and a natural number of elements")
        size = count * DTYPES[kind].itemsize
        if key not in self.known:
            if size > self.left:
                raise CheckpointError(f"storage {key!r} is to have {size} bytes, more than the file")
            self.left -= size
            self.known[key] = (kind, self._bytes(key, size))
        before, content = self.known[key]
        if (before, len(content)) != (kind, size):
            raise CheckpointError(f"storage {key!r} is described in two ways")
        return torch.frombuffer(content, dtype=DTYPES[kind]) if size else torch.empty(0, dtype=DTYPES[kind])

    def _bytes(self, key: str, size: int) -> bytearray:
        """In the older format the bytes follow the pickle that describes them: see `_fill`."""
        return bytearray(size)


class _ZipStorages(_Storages):
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        super().__init__(path)
        self._archive = archive
        names = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(names) != 1:
            raise CheckpointError("the archive has no data.pkl, or several")
        self._folder = names[0].removesuffix("data.pkl")

    def open(self, name: str, size: int | None = None) -> IO[bytes]:
        """A record, which must be stored as it is (torch never compresses) and have the size that is given."""
        record = self._archive.getinfo(self._folder + name)
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != (
            record.compress_size if size is None else size
        ):
            raise CheckpointError(f"record {name!r} is compressed, or has not the size that is said of it")
        return self._archive.open(record)

    def _bytes(self, key: str, size: int) -> bytearray:
        with self.open(f"data/{key}", size) as record:
            content = bytearray(record.read())
        if len(content) != size:
            raise EOFError
        return content


def _read_zip(path: Path, file: IO[bytes]) -> Any:
    with zipfile.ZipFile(file) as archive:
        storages = _ZipStorages(path, archive)
        if any(name == f"{storages._folder}byteorder" for name in archive.namelist()):
            with storages.open("byteorder") as record:
                if record.read(16) != sys.byteorder.encode():
                    raise CheckpointError("its bytes are in another order than this machine's")
        with storages.open("data.pkl") as pickle:
            return run(pickle, storages.storage)


def _read_legacy(path: Path, file: IO[bytes]) -> Any:
    file.seek(0)
    storages = _Storages(path)
    if run(file, storages.storage) != LEGACY_MAGIC:
        raise CheckpointError("it is neither a zip archive nor an older torch file")
    run(file, storages.storage)  # the format's version
    run(file, storages.storage)  # the machine it was written on
    content = run(file, storages.storage)
    _fill(storages, file, run(file, storages.storage))
    return content


def _fill(storages: _Storages, file: IO[bytes], keys: Any) -> None:
    """Read the storages of the older format, each behind its number of elements, in the order of the file's list."""
    if (
        not isinstance(keys, list)
        or [key for key in keys if not isinstance(key, str)]
        or set(keys) != {*storages.known}
    ):
        raise CheckpointError("its list of storages is not that of its tensors")
    for key in keys:
        kind, content = storages.known[key]
        count = int.from_bytes(file.read(8), "little")
        if count * DTYPES[kind].itemsize != len(content):
            raise CheckpointError(f"storage {key!r} has not the size that is said of it")
        if file.readinto(content) != len(content):  # type: ignore[attr-defined]
            raise EOFError
