"""Objects as JSON and back, bit by bit the same. Nothing but collections, arrays and declared classes is ever made.

Numbers, strings, booleans and None stand for themselves; anything else is a list that begins with its kind:

    ["list", 1, 2]    ["dict", ["a", 1], ["b", 2]]    ["array", "<f8", [2], "AAAA..."]    ["Box", {"x": 1.0, ...}]

A `fixed` object is never written: it is known on both sides, by its place in a list of them.
"""

from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Snapshot: TypeAlias = Any
"""A value that `json` can write."""

_COLLECTIONS: Final[Mapping[str, type]] = MappingProxyType(
    {kind.__name__: kind for kind in (list, tuple, frozenset, deque)}
)


class Snapshots:
    """Takes and restores snapshots of values that are made of a few classes."""

    def __init__(self, classes: Iterable[type], fixed: Sequence[object] = ()) -> None:
        """`classes`: those whose objects may be made, by all their attributes and without a call of `__init__`.

        `fixed`: the objects that are referred to; the side that restores gives its own, in the same order.
        """
        self._classes = {kind.__name__: kind for kind in classes}
        self._fixed = fixed
        self._places = {id(each): place for place, each in enumerate(fixed)}

    def taken(self, value: object) -> Snapshot:
        """Return the snapshot of a value. Raises TypeError for what is neither declared nor fixed."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if id(value) in self._places:
            return ["fixed", self._places[id(value)]]
        kind, *content = self._parts(value)
        return [kind.__name__ if isinstance(kind, type) else kind, *content]

    def _parts(self, value: object) -> Iterable[Any]:
        """Return the kind of a value and the snapshots of what it is made of."""
        kind = type(value)
        if isinstance(value, np.generic | np.ndarray):
            name = "array" if isinstance(value, np.ndarray) else "scalar"
            values = np.asarray(value)
            return [name, values.dtype.str, list(values.shape), b64encode(values.tobytes()).decode()]
        if kind is dict:
            assert isinstance(value, dict)
            return ["dict", *([self.taken(key), self.taken(item)] for key, item in value.items())]
        if self._classes.get(kind.__name__) is kind:
            attributes = value._asdict() if isinstance(value, tuple) else vars(value)  # type: ignore[attr-defined]
            return [kind, {name: self.taken(item) for name, item in attributes.items()}]
        if _COLLECTIONS.get(kind.__name__) is kind:
            assert isinstance(value, Collection)
            return [kind, *map(self.taken, value)]
        raise TypeError(f"a {kind.__name__} is not among the declared classes")

    def restored(self, snapshot: Snapshot) -> Any:
        """Return the value of a snapshot.

        Raises ValueError, TypeError, KeyError or IndexError for what is no snapshot.
        """
        if not isinstance(snapshot, list):
            return snapshot
        kind, *content = snapshot
        if kind in self._classes:
            return self._restored_object(self._classes[kind], *content)
        if kind in _COLLECTIONS:
            return _COLLECTIONS[kind](map(self.restored, content))
        if kind == "dict":
            return {self.restored(key): self.restored(item) for key, item in content}
        if kind == "fixed":
            return self._fixed[content[0]]
        return _restored_array(*content)[... if kind == "array" else ()]

    def _restored_object(self, kind: type, snapshots: Mapping[str, Snapshot]) -> object:
        attributes = {name: self.restored(each) for name, each in snapshots.items()}
        if issubclass(kind, tuple):
            return kind(**attributes)
        value = kind.__new__(kind)
        vars(value).update(attributes)
        return value


def _restored_array(dtype: str, shape: Sequence[int], content: str) -> NDArray[Any]:
    return np.frombuffer(b64decode(content), dtype).reshape(shape).copy()
