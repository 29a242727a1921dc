import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.reporting import circumstances, percentiles_ms, section, table


def test_percentiles_by_hand() -> None:
    # 0 to 100 ms in steps of one: the percentile is its own rank.
    assert percentiles_ms([i / 1000 for i in range(101)]) == pytest.approx((50, 95, 99))
    assert percentiles_ms([0.25]) == pytest.approx((250, 250, 250))


def test_no_durations_no_percentiles() -> None:
    assert all(math.isnan(value) for value in percentiles_ms([]))


@given(st.lists(st.floats(0, 1e4), min_size=1))
def test_percentiles_rise_and_stay_inside(seconds: list[float]) -> None:
    p50, p95, p99 = percentiles_ms(seconds)
    assert p50 <= p95 * (1 + 1e-9)
    assert p95 <= p99 * (1 + 1e-9)
    assert 1000 * min(seconds) * (1 - 1e-9) <= p50
    assert p99 <= 1000 * max(seconds) * (1 + 1e-9)


def test_a_table_by_hand() -> None:
    rows = [("one", 1, 0.12345), ("many", 64, 1234.5)]
    assert table(("form", "batch", "ms"), rows).splitlines() == [
        "| form | batch | ms |",
        "| --- | --- | --- |",
        "| one | 1 | 0.123 |",
        "| many | 64 | 1234 |",
    ]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="every row must have 2 cells"):
        table(("a", "b"), [(1, 2), (1,)])


def test_a_section_by_hand() -> None:
    assert section("Title", "one", "two") == "## Title\n\none\n\ntwo\n"


def test_circumstances_name_machine_versions_weights_and_threads(tiny_bundle_dir: Path) -> None:
    text = circumstances(3, str(tiny_bundle_dir))
    assert "- weights: tests-only-untrained, version 0\n" in text
    assert re.search(r"^- weights: [\w-]+, version \S+$", circumstances(1), re.M)
    assert re.search(r"^- date: \d{4}-\d\d-\d\d \d\d:\d\d UTC$", text, re.M)
    assert re.search(r"^- versions: Python 3\.\d+\.\d+, torch 2\.", text, re.M)
    assert re.search(r"^- machine: .+, \d+ usable cores, ", text, re.M)
    assert text.endswith("threads of a forward pass: 3")
