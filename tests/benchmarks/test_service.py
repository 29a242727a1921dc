from collections import Counter

from benchmarks.load import Answers
from benchmarks.service import Load, beside_table, loads_table, overload_table, ratios_table


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


def took(seconds: float, refused: int = 0) -> Answers:
    return Answers(Counter({200: 4, 429: refused}), seconds=[seconds] * 4, faces=4, span_s=1)


def test_an_overload_is_measured_against_the_limit() -> None:
    *_, crowd = overload_table([("crowd", 12.0, took(0.3, refused=8))], took(0.02), 0.25).splitlines()
    assert crowd == "| crowd | 12 | 4 | 8 | 0 | 0 | 300 | 2.5 |"  # 50 ms above the limit, which is 2.5 times 20 ms


def test_frames_beside_a_video_are_measured_against_an_idle_service() -> None:
    assert beside_table(took(0.02), took(0.05)).splitlines()[-1] == "| beside / idle | 2.5 | 2.5 | 2.5 |"
