from collections import Counter

from benchmarks.load import Answers
from benchmarks.service import Load, loads_table, ratios_table


def load(faces: int, passes: int, refused: int = 0) -> Load:
    """One second, in which each answer took 10 ms."""
    answers = Answers(Counter({200: faces, 429: refused}), seconds=[0.01] * faces, faces=faces, span_s=1)
    return Load(answers, (5, 50), (5 + passes, 50 + faces))


LOADS = {("on", 4): [load(40, 10), load(60, 10, refused=3)], ("off", 4): [load(20, 20), load(50, 50)]}


def test_loads_are_joined_over_the_rounds() -> None:
    header, _, on, off = loads_table(LOADS).splitlines()
    assert header == "| batching | clients | faces/s | p50 ms | p95 ms | p99 ms | faces in a pass | not 200 |"
    assert on == "| on | 4 | 50 | 10 | 10 | 10 | 5 | 3 |"  # 100 faces in 2 s; passes of 4 and of 6
    assert off == "| off | 4 | 35 | 10 | 10 | 10 | 1 | 0 |"


def test_ratios_are_those_of_the_rounds() -> None:
    # Batching: 40 / 20 and 60 / 50, in the middle 1.6. The service: 40 / 80 and 60 / 80, in the middle 0.625.
    assert ratios_table(LOADS, [80, 80]).splitlines()[-1] == "| 4 | 1.6 | 0.625 |"
