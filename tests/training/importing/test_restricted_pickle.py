import io
import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.fakes import Hostile
from training.importing.restricted_pickle import MAX_STEPS, Name, StandIn, run
from training.runs.checkpoint import CheckpointError


def no_storage(kind: str, key: Any, count: Any) -> Tensor:
    raise AssertionError("no storage was named")


def read(content: bytes) -> Any:
    return run(io.BytesIO(content), no_storage)


keys = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
plain = st.recursive(
    keys | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner) | st.lists(inner).map(tuple) | st.sets(keys),
)


@given(plain, st.sampled_from([3, 4, 5]))
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


def test_protocol_2_which_torch_writes() -> None:
    value = OrderedDict(a=[1, 2.5, "three"], b={4, 5}, c=(None, True, 10**30))
    assert read(pickle.dumps(value, 2)) == value


class Remembering:
    """Runs code of its own when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __setstate__(self, state: dict[str, Any]) -> None:
        Path(state["trace"]).touch()


def test_an_object_becomes_its_state(tmp_path: Path) -> None:
    content = pickle.dumps(Remembering(tmp_path / "it-ran"), 2)
    stand_in = read(content)
    assert isinstance(stand_in, StandIn)
    assert str(stand_in.name) == f"{__name__}.Remembering"
    assert stand_in.state == {"trace": str(tmp_path / "it-ran")}
    assert not (tmp_path / "it-ran").exists()
    pickle.loads(content)
    assert (tmp_path / "it-ran").exists()  # so it would have


def test_a_function_becomes_its_name() -> None:
    assert read(pickle.dumps(os.system, 2)) == Name("posix", "system")


class Calling:
    """A pickle of this calls anything."""

    def __init__(self, called: Callable[..., Any], *arguments: Any) -> None:
        self._call = (called, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


@pytest.mark.parametrize(
    ("called", "arguments", "name"),
    [
        (eval, ("open('it-ran', 'w')",), "builtins.eval"),
        (exec, ("open('it-ran', 'w')",), "builtins.exec"),
        (getattr, (Calling(getattr, dict, "fromkeys"), "__call__"), "builtins.getattr"),
        (__import__, ("os",), "builtins.__import__"),
        (torch.load, ("it-ran",), "torch.serialization.load"),
        (dict, ([("a", 1)],), "builtins.dict"),
    ],
)
def test_a_call_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: Callable[..., Any], arguments: Any, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=f"^it calls {name}$"):
        read(pickle.dumps(Calling(called, *arguments), 4))
    assert not list(tmp_path.iterdir())


def test_os_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^it calls posix\.system$"):
        read(pickle.dumps({"model": Hostile(tmp_path / "it-ran")}, 2))
    assert not (tmp_path / "it-ran").exists()


# Opcodes by hand, after the header of protocol 4; c: global, ): no arguments, R: call, b: set state, \x81: new object.
@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"cbuiltins\ngetattr\ncos\nsystem\n\x8c\x08__call__\x86R.", "it calls builtins.getattr"),
        (b"cbuiltins\ngetattr\n\x8c\x02os\x8c\x06system\x86R(R.", "it calls builtins.getattr"),
        (b"cos\nsystem\n\x8c\x04true\x85\x81.", "it makes an object with arguments"),
        (b"cos\nsystem\n}b.", "it sets the state of a Name"),
        (b"]}b.", "it sets the state of a list"),
        (b"cfoo\nBar\n)\x81N}\x86b.", "it sets the state of a StandIn"),
        (b"cfoo\nBar\n)\x81]a.", "it fills a StandIn"),
        (b"N)R.", "it calls NoneType"),
        (b"cfoo\n" + b"b" * 1001 + b"\n)R.", "it names something of 1001 letters"),
        (b"}))s.", "it has a tuple as a key"),
        (b"(ios\nsystem\n.", "it uses INST, which is not admitted"),
        (b"\x82\x01.", "it uses EXT1, which is not admitted"),
        (b"\x8c\x06modulecos\nsystem\n\x86Q.", None),
        (b"\x8c\x03urlcos\nsystem\n\x86Q.", "it refers to something that is not a storage"),
    ],
)
def test_opcodes_that_lead_elsewhere(opcodes: bytes, message: str | None) -> None:
    if message is None:
        assert read(b"\x80\x04" + opcodes) == Name("os", "system")
        return
    with pytest.raises(CheckpointError) as caught:
        read(b"\x80\x04" + opcodes)
    assert str(caught.value) == message


def test_a_pickle_that_does_not_end_soon_is_refused() -> None:
    with pytest.raises(CheckpointError, match="more than 1000000 steps"):
        read(b"N" * (MAX_STEPS + 1))


def tensor_pickle(offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A pickle of a tensor on a storage of six floats."""
    text = pickle.dumps(("storage", "KIND", "0", "cpu", 6), 2)[2:-1]
    text = text.replace(b"X\x04\x00\x00\x00KIND", b"ctorch\nFloatStorage\n")
    rest = b"".join(pickle.dumps(value, 2)[2:-1] for value in (offset, size, stride, False))
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + text + b"Q" + rest + b"}tR."


def six(kind: str, key: Any, count: Any) -> Tensor:
    assert (kind, key, count) == ("torch.FloatStorage", "0", 6)
    return torch.arange(6.0)


@pytest.mark.parametrize(
    ("offset", "size", "stride", "values"),
    [
        (0, (2, 3), (3, 1), [[0, 1, 2], [3, 4, 5]]),
        (0, (3, 2), (1, 3), [[0, 3], [1, 4], [2, 5]]),
        (4, (2,), (1,), [4, 5]),
        (5, (), (), 5),
        (0, (2, 0), (1, 1), [[], []]),
    ],
)
def test_a_tensor_is_a_view(offset: int, size: Any, stride: Any, values: Any) -> None:
    assert run(io.BytesIO(tensor_pickle(offset, size, stride)), six).tolist() == values


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (7,), (1,)), (1, (6,), (1,)), (0, (2, 3), (4, 1)), (0, (10**6, 10**6), (0, 0)), (6, (), ())],
)
def test_a_tensor_beyond_its_storage_is_refused(offset: int, size: Any, stride: Any) -> None:
    with pytest.raises(CheckpointError, match="larger than its storage"):
        run(io.BytesIO(tensor_pickle(offset, size, stride)), six)


@pytest.mark.parametrize(
    ("offset", "size", "stride"), [(-1, (2,), (1,)), (0, (2,), (-1,)), (0, (2,), ()), (2**80, (), ())]
)
def test_a_tensor_with_impossible_numbers_is_damage(offset: int, size: Any, stride: Any) -> None:
    with pytest.raises(ValueError, match=r"natural numbers|a stride a dimension"):
        run(io.BytesIO(tensor_pickle(offset, size, stride)), six)
