"""The extent of an attack."""

from dataclasses import dataclass

from benchmarks.attacks.bombs import MOST_FRAMES
from service.scheduling.pool import REST_S

PARTS = ("files", "requests", "live", "slow", "bombs", "skips")


@dataclass(frozen=True)
class Plan:
    """Extent of an attack."""

    bodies: int = 5000
    """Damaged files."""
    requests: int = 500
    """Damaged requests; as many connections are broken off."""
    clients: int = 4
    """Clients that send files at a time."""
    flood: int = 100_000
    """Frames of a flood on a live connection."""
    slow: int = 300
    """Connections that are held open."""
    slow_live: int = 20
    """Live connections that are held open."""
    hold_s: float = 15.0
    at_once: int = 20
    """Copies of a bomb that are sent together."""
    rounds: int = 4
    """Times that each whole file is sent in a tour of them; there are tours before the attack, and one after it."""
    tours: int = 6
    """Most tours before the attack: it begins after one that leaves hardly any memory taken."""
    rest_s: float = 2 * REST_S
    """Seconds without a request after which memory is compared: at rest the service gives back what it has freed."""
    frames: int = MOST_FRAMES
    """Frames of the long film."""
    quick: bool = False
    """True for small files alone."""
    seed: int = 0
    only: tuple[str, ...] = PARTS
    """Parts of the attack; whole files are sent before and after in any case."""


QUICK = Plan(
    bodies=60,
    requests=30,
    flood=5000,
    slow=20,
    slow_live=5,
    hold_s=0.5,
    rounds=1,
    tours=1,
    rest_s=0,
    frames=10_000,
    quick=True,
)
