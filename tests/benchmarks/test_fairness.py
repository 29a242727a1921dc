from collections import Counter

from benchmarks.fairness import crowds_table, returns_table
from benchmarks.load import Answers


def test_one_face_clients_beside_crowds() -> None:
    alone = Answers(Counter({200: 50}), faces=50, span_s=1)
    beside = Answers(Counter({200: 60, 429: 3}), faces=60, span_s=2)
    *_, first, second = crowds_table(alone, beside, Counter({200: 4}), 0.6).splitlines()
    assert first == "| alone | 50 | 0 | - | - |"
    assert second == "| beside pictures of 64 faces | 30 | 3 | 4 | 0.6 |"


def test_the_share_of_those_who_come_back_and_are_answered() -> None:
    returns = {16: Counter({200: 9, 429: 1}), 64: Counter[int]()}
    *_, some, none = returns_table(returns).splitlines()
    assert some == "| 16 | 10 | 0.9 |"
    assert none == "| 64 | 0 | nan |"
