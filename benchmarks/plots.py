"""`python -m benchmarks.plots REPORT`: pictures of a report that `python -m benchmarks` wrote, drawn from its tables.

Load against clients, milliseconds a frame along a clip, and how fast the forms of the forward pass are; a section that
the report lacks has no picture.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Row = Mapping[str, str]

# Colours of Okabe & Ito's palette, which colour-blind readers can tell apart, with markers and dashes besides.
_FIRST: dict[str, Any] = {"color": "#0072B2", "marker": "o", "linestyle": "-", "markersize": 4}
_SECOND: dict[str, Any] = {"color": "#D55E00", "marker": "s", "linestyle": "--", "markersize": 4}
_BARS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#999999")

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "savefig.dpi": 150,
    "svg.hashsalt": "affect",  # the same report gives the same bytes
}


@dataclass(frozen=True)
class Table:
    """A table of a report: the title of its section, and its rows as cells by column."""

    title: str
    rows: tuple[Row, ...]


def read_tables(report: str) -> list[Table]:
    """The tables of a markdown text, in its order; ValueError where a row is not as long as its header."""
    found, title, block = [], "", list[str]()
    for line in [*report.splitlines(), ""]:
        if line.startswith("|"):
            block.append(line)
            continue
        if len(block) > 2:
            header, _, *rows = [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in block]
            found.append(Table(title, tuple(dict(zip(header, row, strict=True)) for row in rows)))
        block = []
        if line.startswith("#"):
            title = line.lstrip("# ")
    return found


def chosen(tables: Sequence[Table], title: str, columns: Sequence[str]) -> Table | None:
    """The first table with these columns in a section whose title starts so."""
    for table in tables:
        if table.title.startswith(title) and table.rows and set(columns) <= set(table.rows[0]):
            return table
    return None


def draw_load(axes: Sequence[Axes], table: Table) -> None:
    """Faces a second, and p50 and p95 of a request, against the number of clients, with batching and without."""
    throughput, latency = axes
    for batching, style in (("on", _FIRST), ("off", _SECOND)):
        rows = [row for row in table.rows if row["batching"] == batching]
        clients = [int(row["clients"]) for row in rows]
        label = "with batching" if batching == "on" else "without"
        throughput.plot(clients, [float(row["faces/s"]) for row in rows], label=label, **style)
        for column, alpha in (("p50 ms", 0.5), ("p95 ms", 1.0)):
            values = [float(row[column]) for row in rows]
            latency.plot(clients, values, label=f"{column[:3]}, {label}", **style | {"alpha": alpha})
    ticks = sorted({int(row["clients"]) for row in table.rows})
    for axis, ylabel in ((throughput, "faces/s"), (latency, "ms")):
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.set(xlabel="clients", ylabel=ylabel, ylim=(0, None))
        axis.legend(fontsize=8)
    throughput.set_title(table.title)


def draw_video(axes: Sequence[Axes], table: Table) -> None:
    """Milliseconds a frame against the length of what was analysed: level where the cost does not grow."""
    (axis,) = axes
    for row in table.rows:
        if row["way"] == "plain loop":
            axis.axhline(float(row["ms/frame"]), label="plain loop", **_SECOND | {"marker": None})
    parts = [row for row in table.rows if row["way"].startswith(_PART)]
    seconds = [float(row["way"].removeprefix(_PART).split()[0]) for row in parts]
    axis.plot(seconds, [float(row["ms/frame"]) for row in parts], label="service", **_FIRST)
    axis.set(xlabel="seconds of the clip", ylabel="ms/frame", ylim=(0, None), title=table.title)
    axis.legend(fontsize=8)


_PART = "service, the first "


def draw_forward(axes: Sequence[Axes], table: Table) -> None:
    """For each form and batch size, how many times as fast as eager NCHW it is."""
    (axis,) = axes
    rows = [row for row in table.rows if row[_RATIO] != "-"]
    forms = list(dict.fromkeys(row["form"] for row in rows))
    sizes = list(dict.fromkeys(row["batch"] for row in rows))
    height = 0.8 / len(sizes)
    for i, size in enumerate(sizes):
        ratios = {row["form"]: float(row[_RATIO]) for row in rows if row["batch"] == size}
        places = [forms.index(form) + (i - (len(sizes) - 1) / 2) * height for form in ratios]
        axis.barh(places, list(ratios.values()), height, label=f"batch {size}", color=_BARS[i % len(_BARS)])
    axis.set_yticks(range(len(forms)), forms)
    axis.invert_yaxis()
    axis.axvline(1, color="0.4", linewidth=1)
    axis.set(xlabel=_RATIO, title=table.title)
    axis.legend(fontsize=8)


_RATIO = "times as fast as eager NCHW"

PICTURES = (
    ("load", "Service", ("batching", "clients", "faces/s", "p50 ms", "p95 ms"), draw_load, 2),
    ("video", "Video", ("way", "ms/frame"), draw_video, 1),
    ("forward", "Forward pass", ("batch", "form", _RATIO), draw_forward, 1),
)
"""File name, how its section's title starts, the columns it needs, what draws it, and on how many axes."""


def plot(report: str, folder: Path, suffix: str = "svg") -> list[Path]:
    """Draw what a report has into `folder`, which is made: PICTURES, as svg or png. Returns the files written."""
    tables, written = read_tables(report), []
    for name, title, columns, draw, count in PICTURES:
        table = chosen(tables, title, columns)
        if table is None:
            continue
        with rc_context(_STYLE):
            # A Figure of its own draws without a display and keeps no state between pictures.
            figure = Figure(figsize=(4.5 * count + 1.5, 3.6), layout="constrained")
            draw([figure.add_subplot(1, count, i + 1) for i in range(count)], table)
            folder.mkdir(parents=True, exist_ok=True)
            written.append(folder / f"{name}.{suffix}")
            figure.savefig(written[-1], metadata={"Date": None} if suffix == "svg" else None)
    return written


def main() -> None:
    """Command line. Exits with 1 and a line where there is nothing to draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("report", type=Path, help="a file that `python -m benchmarks` wrote")
    parser.add_argument("--out", type=Path, default=Path("bench-results/plots"), help="folder of the pictures")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    args = parser.parse_args()
    try:
        written = plot(args.report.read_text(encoding="utf-8"), args.out, args.format)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {args.report} cannot be drawn: {error}")
    if not written:
        sys.exit(f"error: {args.report} has no table that a picture is known for")
    print("\n".join(map(str, written)))


if __name__ == "__main__":
    main()
