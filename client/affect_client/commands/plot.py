"""`affect plot`: valence, arousal and action units over time, and their changes, from a result of a video."""

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from affect_client.errors import needing
from affect_client.files import require_another, write_whole
from affect_client.recordings import Recording, read_recording
from affect_client.results import TRUNCATED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

SHOWN_TRACKS = 4
"""Tracks whose action units are drawn: those with the most samples."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("file", type=Path, help="a result of a video: NDJSON, JSON, Parquet, or CSV (native columns)")
    parser.add_argument("--out", type=Path, metavar="PNG", help="the picture (FILE with the suffix .png)")


def run(arguments: argparse.Namespace) -> int:
    """Write the picture. Raises MissingExtra, OSError, and ValueError where there is nothing to draw."""
    recording = read_recording(arguments.file)
    out = arguments.out or arguments.file.with_suffix(".png")
    require_another(out, arguments.file)
    if recording.truncated:
        print(f"{arguments.file}: {TRUNCATED}", file=sys.stderr)
    figure = draw(recording)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_whole(out, [content.getvalue()])
    print(out)
    return 0


def draw(recording: Recording) -> "Figure":
    """Return a figure with valence and arousal of all tracks, and the units of those with the most samples.

    What changed against a baseline stands below the units of the track.

    Raises MissingExtra without matplotlib.
    """
    with needing("plot"):
        from matplotlib.figure import Figure

    shown = list(recording.tracks)[:SHOWN_TRACKS] if recording.units else []
    compared = bool(shown) and any(name in recording.units for name in recording.changes)
    maps = len(shown) * (1 + compared)
    figure = Figure(figsize=(10, 4 + 2.4 * maps), layout="constrained")
    grid = figure.subplots(2 + maps, 1, sharex=True, height_ratios=[2, 2, *[2.4] * maps])
    for axes, name in zip(grid[:2], ("valence", "arousal"), strict=True):
        for track_id, values in recording.tracks.items():
            axes.plot(recording.times_s, values[name], marker=".", markersize=3, linewidth=1, label=f"track {track_id}")
        axes.axhline(0, color="grey", linewidth=0.5)
        axes.set(ylabel=name, ylim=(-1.05, 1.05))
    grid[0].legend(loc="lower left", bbox_to_anchor=(0, 1), fontsize="small", ncols=8, frameon=False)
    places = iter(grid[2:])
    for track_id in shown:
        _draw_units(next(places), recording, track_id)
        if compared:
            _draw_changes(next(places), recording, track_id)
    left_out = len(recording.tracks) - len(shown)
    if shown and left_out:
        grid[-1].set_title(f"{left_out} more tracks, with fewer samples, are not drawn", loc="right", fontsize="small")
    grid[-1].set_xlabel("seconds of the video")
    return figure


def _draw_units(axes: "Axes", recording: Recording, track_id: int) -> None:
    track = recording.tracks[track_id]
    rows = {unit: track[unit] for unit in recording.units}
    mesh = _draw_rows(axes, recording, rows, least=0, colours="cividis")
    axes.set_title(f"track {track_id}", loc="left", fontsize="small")
    axes.figure.colorbar(mesh, ax=axes, label="probability\n(no intensity)")


def _draw_changes(axes: "Axes", recording: Recording, track_id: int) -> None:
    track = recording.tracks[track_id]
    rows = {name: track[f"{name}_change"] for name in recording.changes if name in recording.units}
    mesh = _draw_rows(axes, recording, rows, least=-1, colours="coolwarm")
    axes.set_title(f"track {track_id}, against its baseline", loc="left", fontsize="small")
    axes.figure.colorbar(mesh, ax=axes, label="change")


def _draw_rows(
    axes: "Axes", recording: Recording, rows: Mapping[str, Sequence[float]], *, least: float, colours: str
) -> "QuadMesh":
    """Draw values from `least` to 1 over time, one row of a name below the other."""
    places = range(len(rows))
    mesh = axes.pcolormesh(
        recording.times_s, places, list(rows.values()), vmin=least, vmax=1, shading="nearest", cmap=colours
    )
    axes.set_yticks(places, list(rows), fontsize="small")
    axes.invert_yaxis()
    axes.set_facecolor("lightgrey")  # shows where the track has no face, or nothing is compared yet
    return mesh
