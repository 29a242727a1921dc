"""Data set readers behind one registry: pictures -> RawFace records, videos -> Sequences, each in a fixed order."""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType

from training.datasets.affectnet import AffectNet
from training.datasets.affwild2 import AffWild2
from training.datasets.bp4d import Bp4d
from training.datasets.disfa import Disfa
from training.datasets.ferplus import FerPlus
from training.datasets.rafdb import RafDb
from training.datasets.raw import DatasetError, DatasetReader, OverlappingReader, RawFace
from training.datasets.rendered import Rendered
from training.datasets.sequences import Sequence, SequenceReader

__all__ = [
    "READERS",
    "SEQUENCE_READERS",
    "DatasetError",
    "DatasetReader",
    "OverlappingReader",
    "RawFace",
    "Sequence",
    "SequenceReader",
    "build_reader",
    "build_sequence_reader",
]

READERS: Mapping[str, type[DatasetReader]] = MappingProxyType(
    {"ferplus": FerPlus, "affectnet": AffectNet, "rafdb": RafDb, "rendered": Rendered}
)
"""Name -> reader class, for sets of pictures."""

SEQUENCE_READERS: Mapping[str, Callable[..., SequenceReader]] = MappingProxyType(
    {"affwild2": AffWild2, "disfa": Disfa, "bp4d": Bp4d}
)
"""Name -> reader class, for sets of videos; its parameters are the reader's options."""


def build_reader(name: str) -> DatasetReader:
    """Make a reader of pictures by name; raises DatasetError for an unknown one."""
    return READERS[_known(name, READERS)]()


def build_sequence_reader(name: str, **options: int) -> SequenceReader:
    """Make a reader of videos by name, `build_sequence_reader("disfa", present_from=3, fold=1)`.

    Raises DatasetError for an unknown name, an option it does not have, and a value out of range.
    """
    reader = SEQUENCE_READERS[_known(name, SEQUENCE_READERS)]
    taken = inspect.signature(reader).parameters
    if not options.keys() <= taken.keys():
        unknown = ", ".join(sorted(options.keys() - taken.keys()))
        raise DatasetError(f"{name} has no option {unknown}; it has: {', '.join(taken) or 'none'}")
    return reader(**options)


def _known(name: str, readers: Mapping[str, object]) -> str:
    if name not in readers:
        raise DatasetError(f"unknown data set {name!r}; known: {', '.join(readers)}")
    return name
