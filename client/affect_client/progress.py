"""How far an analysis has come, as a bar in the terminal or told to a function."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from affect_client.results import Progress

Report: TypeAlias = Callable[[Progress], None]
"""Is called about once for each second of a video that has been analysed."""

Reporting: TypeAlias = bool | Report
"""True for a bar, False for silence, or a function that is told."""


@contextmanager
def reporting(wanted: Reporting) -> Iterator[Report]:
    """Return the function that is told of progress; a bar ends with the block."""
    if wanted is False:
        yield lambda progress: None
    elif wanted is True:
        with _bar() as report:
            yield report
    else:
        yield wanted


@contextmanager
def _bar() -> Iterator[Report]:
    from tqdm import tqdm

    with tqdm(unit="s", bar_format="{l_bar}{bar}| {n:.0f}/{total_fmt} s of video [{elapsed}<{remaining}]") as bar:

        def report(progress: Progress) -> None:
            bar.total = progress.duration_s and round(progress.duration_s)
            bar.update(progress.done_s - bar.n)

        yield report
