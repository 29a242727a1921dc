import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.plots import Table, chosen, draw_forward, draw_load, draw_video, main, plot, read_tables
from benchmarks.reporting import section, table
from benchmarks.service import PERCENTILE_HEADER

LOAD = [
    ("on", 1, 50.0, 20.0, 25.0, 30.0, 1.0, 0),
    ("on", 4, 100.0, 40.0, 50.0, 60.0, 3.5, 0),
    ("off", 1, 48.0, 21.0, 26.0, 31.0, 1.0, 0),
    ("off", 4, 60.0, 66.0, 80.0, 90.0, 1.0, 0),
]
VIDEO = [
    ("service, the first 2 s", 60, 60, 120.0, 8.5),
    ("service, the first 4.5 s", 135, 135, 125.0, 8.0),
    ("plain loop", 300, 300, 12.5, 80.0),
]
FORWARD = [
    (1, "eager, NCHW", 30.0, 33.3, 1.0, "0e+00"),
    (1, "served", 15.0, 66.6, 2.0, "1e-05"),
    (1, "at a matrix product's speed", 5.0, 200.0, "-", "-"),
    (8, "eager, NCHW", 160.0, 50.0, 1.0, "0e+00"),
    (8, "served", 64.0, 125.0, 2.5, "1e-05"),
]
REPORT = "# Benchmarks\n\n- date: today\n\n" + "\n".join(
    [
        section(
            "Forward pass",
            table(
                ("batch", "form", "ms", "faces/s", "times as fast as eager NCHW", "largest difference to it"), FORWARD
            ),
            "Medians.",
        ),
        section(
            "Service, torch float32",
            table(("batching", "clients", "faces/s", *PERCENTILE_HEADER, "faces in a pass", "not 200"), LOAD),
            table(("service", *PERCENTILE_HEADER), [("idle", 1.0, 2.0, 3.0)]),
        ),
        section("Video, torch float32", table(("way", "frames", "faces", "frames/s", "ms/frame"), VIDEO)),
    ]
)


def drawn_on(count: int) -> list:
    figure = Figure()
    return [figure.add_subplot(1, count, i + 1) for i in range(count)]


def lines(axis) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axis.get_lines()}


def test_tables_are_read_as_they_were_written() -> None:
    tables = read_tables(REPORT)
    assert [(found.title, len(found.rows)) for found in tables] == [
        ("Forward pass", 5),
        ("Service, torch float32", 4),
        ("Service, torch float32", 1),
        ("Video, torch float32", 3),
    ]
    assert tables[3].rows[0]["way"] == "service, the first 2 s"
    assert tables[3].rows[0]["ms/frame"] == "8.5"
    assert read_tables("no tables\n") == []
    with pytest.raises(ValueError, match="shorter"):
        read_tables("| a | b |\n| --- | --- |\n| 1 |\n")


def test_a_table_is_chosen_by_title_and_columns() -> None:
    tables = read_tables(REPORT)
    assert chosen(tables, "Service", ("service", "p50 ms")) == tables[2]
    assert chosen(tables, "Service", ("no such",)) is None
    assert chosen(tables, "Memory", ()) is None


def find(title: str) -> Table:
    return next(found for found in read_tables(REPORT) if found.title.startswith(title))


def test_the_load_shows_what_the_table_says() -> None:
    axes = drawn_on(2)
    draw_load(axes, find("Service"))
    assert lines(axes[0]) == {"with batching": ([1, 4], [50, 100]), "without": ([1, 4], [48, 60])}
    assert lines(axes[1])["p95, with batching"] == ([1, 4], [25, 50])
    assert lines(axes[1])["p50, without"] == ([1, 4], [21, 66])


def test_a_clip_shows_what_the_table_says() -> None:
    axes = drawn_on(1)
    draw_video(axes, find("Video"))
    assert lines(axes[0])["service"] == ([2, 4.5], [8.5, 8])
    assert lines(axes[0])["plain loop"][1] == [80, 80]


def test_the_forms_show_what_the_table_says() -> None:
    axes = drawn_on(1)
    draw_forward(axes, find("Forward"))
    assert [bar.get_width() for bars in axes[0].containers for bar in bars] == [1, 2, 1, 2.5]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["eager, NCHW", "served"]


def test_pictures_are_written(tmp_path: Path) -> None:
    names = ["load.png", "video.png", "forward.png"]
    written = plot(REPORT, tmp_path / "new", "png")
    assert [path.name for path in written] == names
    for path in written:
        picture = cv2.imread(str(path))
        assert min(picture.shape[:2]) > 300
        assert np.ptp(picture) > 200


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (plot(REPORT, tmp_path / name) for name in "ab")
    assert [path.suffix for path in first] == [".svg"] * 3
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_missing_section_has_no_picture(tmp_path: Path) -> None:
    assert [path.name for path in plot(REPORT[: REPORT.index("## Service")], tmp_path)] == ["forward.svg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("nothing", "has no table"), ("| a |\n| --- |\n| 1 | 2 |\n", "cannot be drawn"), (None, "cannot")],
)
def test_what_cannot_be_drawn_is_told(
    text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.md"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(sys, "argv", ["plots", str(path), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=message):
        main()
