"""How many connections there may be."""

import pytest

from service.errors import Limit, Overloaded
from service.live.places import Places

MOST = Limit(name="AFFECT_LIVE_CONNECTIONS", value=2)


def test_there_are_as_many_places_as_the_limit_says_and_they_are_given_back() -> None:
    told: list[int] = []
    places = Places(MOST, told.append)
    with places.taken(), places.taken():
        with pytest.raises(Overloaded) as refused, places.taken():
            pass
        assert refused.value.limit == MOST
        assert refused.value.headers == {"Retry-After": "5"}
    with places.taken():
        pass
    assert told == [1, 2, 1, 0, 1, 0]
