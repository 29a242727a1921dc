"""The `with` statement for what has a `close` method."""

from abc import ABC, abstractmethod
from typing import Self


class Closeable(ABC):
    """An object that a `with` block closes at its end, however that comes about."""

    @abstractmethod
    def close(self) -> None:
        """Give up what the object holds; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
