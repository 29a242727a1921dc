"""Executes a pickle on plain containers and tensors, and runs nothing that it names.

A small machine of our own goes through the opcodes. What the file names is never imported: a class becomes a Name, an
object of it a StandIn that merely holds its state. Of all calls only those that make a tensor, a parameter, an ordered
dict or a set are admitted; anything else is refused by its name. pickled_module.py reads torch's files by it.
"""

import math
import pickletools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import IO, Any

from torch import Tensor

from training.runs.checkpoint import CheckpointError

MAX_STEPS = 1_000_000
"""Opcodes a pickle may have. A network of a few hundred modules needs some ten thousand."""

MAX_DIMENSIONS, MAX_NAME = 16, 1000

StorageReader = Callable[[str, Any, Any], Tensor]
"""(storage class, key, number of elements) of a reference -> the storage as a tensor [number]."""


@dataclass(frozen=True)
class Name:
    """A class or function that a file names; never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class StandIn:
    """An object of a class that is not there: the class's name, and the state that the file holds for the object."""

    name: Name
    state: dict[str, Any] = field(default_factory=dict)


def run(file: IO[bytes], storage: StorageReader) -> Any:
    """Execute one pickle from where a file stands to its end. Raises CheckpointError for what is not admitted.

    A damaged pickle raises ValueError, LookupError or TypeError.
    """
    machine = _Machine(storage)
    for steps, (opcode, value, _) in enumerate(pickletools.genops(file)):
        if steps >= MAX_STEPS:
            raise CheckpointError(f"it has more than {MAX_STEPS} steps")
        if opcode.name == "STOP":
            return machine.stack.pop()
        if opcode.name in _LITERALS:
            machine.push(_LITERALS[opcode.name](value))
        elif opcode.name in _STEPS:
            _STEPS[opcode.name](machine, value)
        else:
            raise CheckpointError(f"it uses {opcode.name}, which is not admitted")
    raise ValueError("a pickle ends with STOP")


class _Machine:
    """The state that opcodes work on: a stack, the stacks below each mark, and the memo."""

    def __init__(self, storage: StorageReader) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storage = storage

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def last(self, count: int) -> list[Any]:
        items = [self.stack.pop() for _ in range(count)]
        return items[::-1]

    def put(self, items: list[Any]) -> None:
        """Keys and values, or members, into the container on top of the stack."""
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, dict):
            for key, value in zip(_plain(items[::2]), items[1::2], strict=True):
                target[key] = value
        elif isinstance(target, set):
            target.update(_plain(items))
        else:
            raise CheckpointError(f"it fills a {type(target).__name__}")

    def name(self, module: Any, name: Any) -> None:
        if not all(isinstance(text, str) and text.replace(".", "_").isidentifier() for text in (module, name)):
            raise ValueError("a name is made of identifiers")
        if (letters := max(len(module), len(name))) > MAX_NAME:
            raise CheckpointError(f"it names something of {letters} letters")
        self.push(Name(module, name))

    def reduce(self) -> None:
        called, arguments = self.last(2)
        call = _CALLS.get(str(called)) if isinstance(called, Name) else None
        if call is None:
            raise CheckpointError(f"it calls {called if isinstance(called, Name) else type(called).__name__}")
        self.push(call(*arguments))

    def new(self) -> None:
        made, arguments = self.last(2)
        if not isinstance(made, Name) or arguments != ():
            raise CheckpointError("it makes an object with arguments")
        self.push(StandIn(made))

    def build(self) -> None:
        target, state = self.last(2)
        if isinstance(target, StandIn) and isinstance(state, dict):
            target.state = state
        elif not isinstance(target, dict):  # attributes of an ordered dict (a state dict's versions) are let go
            raise CheckpointError(f"it sets the state of a {type(target).__name__}")
        self.push(target)

    def persistent(self) -> None:
        kind, name, *details = self.stack.pop()
        if not isinstance(name, Name):
            raise TypeError("a reference has a class")
        if kind == "module":  # the older format's note of a class and its source
            self.push(name)
        elif kind == "storage" and details[3:] in ([], [None]):
            key, _device, count = details[:3]
            self.push(self.storage(str(name), key, count))
        else:
            raise CheckpointError("it refers to something that is not a storage")


def _plain(keys: list[Any]) -> Iterator[Any]:
    """Keys whose hash is cheap and ours: nested tuples can take for ever."""
    for key in keys:
        if not isinstance(key, str | int | float | None):
            raise CheckpointError(f"it has a {type(key).__name__} as a key")
        yield key


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_rest: Any) -> Tensor:
    """A strided view of a storage that lies within it, and has no more elements."""
    if not isinstance(storage, Tensor) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise TypeError("a tensor is a storage, an offset, a size and a stride")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
        raise ValueError("a tensor has a stride a dimension")
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        raise ValueError("sizes are natural numbers")
    count = math.prod(size)
    end = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True)) + 1 if count else 0
    if end > storage.numel() or count > storage.numel():
        raise CheckpointError("it has a tensor that is larger than its storage")
    return storage.as_strided(size, stride, offset) if count else storage[:0].reshape(size)


def _parameter(tensor: Any, *_rest: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError("a parameter is a tensor")
    return tensor


def _ordered(pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    keys, values = [], []
    for key, value in pairs:
        keys.append(key)
        values.append(value)
    return dict(zip(_plain(keys), values, strict=True))


def _set(items: list[Any]) -> set[Any]:
    return set(_plain(items))


_CALLS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_parameter": _parameter,
        "collections.OrderedDict": _ordered,
        "builtins.set": _set,
        "__builtin__.set": _set,
    }
)

_PUSHED = (
    "INT BININT BININT1 BININT2 LONG LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINSTRING SHORT_BINSTRING "
    "BINBYTES SHORT_BINBYTES"
)
_LITERALS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {name: lambda value: value for name in _PUSHED.split()}
    | {"NONE": lambda _: None, "NEWTRUE": lambda _: True, "NEWFALSE": lambda _: False}
    | {
        "EMPTY_LIST": lambda _: [],
        "EMPTY_DICT": lambda _: {},
        "EMPTY_TUPLE": lambda _: (),
        "EMPTY_SET": lambda _: set(),
    }
)

_STEPS: Mapping[str, Callable[[_Machine, Any], None]] = MappingProxyType(
    {
        "PROTO": lambda machine, value: None,
        "FRAME": lambda machine, value: None,
        "MARK": lambda machine, value: machine.mark(),
        "TUPLE": lambda machine, value: machine.push(tuple(machine.since_mark())),
        "TUPLE1": lambda machine, value: machine.push(tuple(machine.last(1))),
        "TUPLE2": lambda machine, value: machine.push(tuple(machine.last(2))),
        "TUPLE3": lambda machine, value: machine.push(tuple(machine.last(3))),
        "APPEND": lambda machine, value: machine.put(machine.last(1)),
        "APPENDS": lambda machine, value: machine.put(machine.since_mark()),
        "ADDITEMS": lambda machine, value: machine.put(machine.since_mark()),
        "SETITEM": lambda machine, value: machine.put(machine.last(2)),
        "SETITEMS": lambda machine, value: machine.put(machine.since_mark()),
        "BINPUT": lambda machine, value: machine.memo.update({value: machine.stack[-1]}),
        "LONG_BINPUT": lambda machine, value: machine.memo.update({value: machine.stack[-1]}),
        "MEMOIZE": lambda machine, value: machine.memo.update({len(machine.memo): machine.stack[-1]}),
        "BINGET": lambda machine, value: machine.push(machine.memo[value]),
        "LONG_BINGET": lambda machine, value: machine.push(machine.memo[value]),
        "GLOBAL": lambda machine, value: machine.name(*value.split(" ", 1)),
        "STACK_GLOBAL": lambda machine, value: machine.name(*machine.last(2)),
        "REDUCE": lambda machine, value: machine.reduce(),
        "NEWOBJ": lambda machine, value: machine.new(),
        "BUILD": lambda machine, value: machine.build(),
        "BINPERSID": lambda machine, value: machine.persistent(),
    }
)
