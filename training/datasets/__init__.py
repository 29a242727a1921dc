"""Data set readers behind one registry: raw files -> RawFace records in a fixed order."""

from collections.abc import Mapping
from types import MappingProxyType

from training.datasets.ferplus import FerPlus
from training.datasets.raw import DatasetError, DatasetReader, RawFace

__all__ = ["READERS", "DatasetError", "DatasetReader", "RawFace", "build_reader"]

READERS: Mapping[str, type[DatasetReader]] = MappingProxyType({"ferplus": FerPlus})
"""Name -> reader class."""


def build_reader(name: str) -> DatasetReader:
    """Make a reader by name; raises DatasetError for an unknown one."""
    if name not in READERS:
        raise DatasetError(f"unknown data set {name!r}; known: {', '.join(READERS)}")
    return READERS[name]()


def build_sequence_reader(name):
    from training.datasets.affwild2 import AffWild2

    return AffWild2()
