"""The people of the portraits: who they are is drawn from a seed and their number, and decides their split."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias
from zlib import crc32

import numpy as np

from training.datasets.raw import Split
from training.rendered.brows import BrowStyle
from training.rendered.eyes import EyeColours
from training.rendered.hair import Cut, HairStyle

Model: TypeAlias = Literal["makehuman", "ict"]
Sex: TypeAlias = Literal["female", "male"]
Tone: TypeAlias = Literal["light", "medium", "dark"]
AgeGroup: TypeAlias = Literal["young", "middle", "old"]

_HERITAGES = ("african", "asian", "caucasian")
_TONES: tuple[Tone, ...] = ("light", "medium", "dark")
_HAIR_COLOURS = np.array(
    [[0.012, 0.010, 0.009], [0.03, 0.018, 0.012], [0.09, 0.045, 0.022], [0.25, 0.15, 0.07], [0.22, 0.07, 0.03]]
)
_GREY_HAIR = np.array([0.42, 0.41, 0.40])
_IRISES = np.array(
    [[0.06, 0.03, 0.012], [0.12, 0.06, 0.02], [0.13, 0.13, 0.05], [0.10, 0.18, 0.26], [0.16, 0.20, 0.22]]
)


@dataclass(frozen=True)
class Person:
    """All that stays the same in the pictures of one person."""

    name: str
    """As `makehuman-0007`."""
    original: str
    """The person whom this one resembles in all but one attribute (see plan.counterpart), or the own name."""
    model: Model
    sex: Sex
    age: float
    """In years, 18 to 85."""
    tone: Tone
    """Group of the skin's lightness."""
    heritage: Mapping[str, float]
    """Shares of `african`, `asian` and `caucasian` in MakeHuman's shapes; they sum to 1."""
    seed: int
    """Of everything that is not named here: the shape of the head, the skin's pattern, single hairs."""
    brow: BrowStyle
    hair: HairStyle
    hair_colour: tuple[float, float, float]
    """Linear RGB."""
    eyes: EyeColours
    stubble: float
    """Density of a short beard, 0 to 1."""
    cloth: tuple[float, float, float]
    """Linear RGB."""

    @property
    def age_group(self) -> AgeGroup:
        """`young` up to 34, `middle` up to 59, `old`."""
        if self.age < 35:
            return "young"
        return "middle" if self.age < 60 else "old"

    @property
    def split(self) -> Split:
        """See split_of."""
        return split_of(self.original)


def split_of(name: str) -> Split:
    """Return the split of a person by name: a tenth for validation, two tenths for the test, the others for training.

    It depends on the name only (CRC-32 modulo ten), so neither the number of people nor the seed moves anyone.
    """
    remainder = crc32(name.encode()) % 10
    if remainder == 0:
        return "validation"
    return "test" if remainder in (1, 2) else "train"


def person(model: Model, number: int, seed: int) -> Person:
    """Draw a person; the same arguments give the same one. Sex and tone take turns, so that groups are even."""
    name = f"{model}-{number:04}"
    rng = np.random.default_rng([seed, crc32(name.encode())])
    sex: Sex = "female" if number % 2 == 0 else "male"
    tone = _TONES[(number // 2) % 3]
    age = float(rng.choice([rng.uniform(18, 35), rng.uniform(35, 60), rng.uniform(60, 85)], p=[0.5, 0.3, 0.2]))
    grey = float(np.clip((age - 45) / 35 + rng.normal(0, 0.15), 0, 1))
    hair = _HAIR_COLOURS[rng.choice(5, p=[0.2, 0.3, 0.25, 0.18, 0.07] if tone == "light" else [0.65, 0.33, 0.02, 0, 0])]
    hair = hair * (1 - grey) + _GREY_HAIR * grey
    iris = _IRISES[rng.choice(5, p=[0.25, 0.25, 0.15, 0.2, 0.15] if tone == "light" else [0.7, 0.28, 0.02, 0, 0])]
    white = rng.uniform(0.36, 0.58)
    return Person(
        name=name,
        original=name,
        model=model,
        sex=sex,
        age=age,
        tone=tone,
        heritage=_heritage(tone, rng),
        seed=int(rng.integers(2**31)),
        brow=_brow(sex, rng),
        hair=HairStyle(_cut(sex, age, tone, rng), _recession(sex, age, rng), float(rng.normal(0, 2.5))),
        hair_colour=_rgb(hair * rng.uniform(0.8, 1.2)),
        eyes=EyeColours(
            _rgb(iris * rng.uniform(0.7, 1.3)), (white, white * 0.96, white * 0.92), rng.uniform(0.28, 0.5)
        ),
        stubble=float(rng.uniform(0.2, 0.9)) if sex == "male" and rng.random() < 0.3 else 0.0,
        cloth=_rgb(rng.uniform(0.02, 0.6) * (0.5 + 1.5 * rng.dirichlet([4, 4, 4]))),
    )


def _heritage(tone: Tone, rng: np.random.Generator) -> dict[str, float]:
    """Draw shares of MakeHuman's heritages: mostly one, which the tone makes likely but does not decide."""
    main = {"light": [0.3, 0.3, 3.0], "medium": [0.6, 2.0, 1.0], "dark": [3.0, 0.4, 0.3]}[tone]
    shares = rng.dirichlet(main)
    return {name: float(share) for name, share in zip(_HERITAGES, shares, strict=True)}


def _brow(sex: Sex, rng: np.random.Generator) -> BrowStyle:
    female = sex == "female"
    thickness = rng.uniform(0.45, 0.85) if female else rng.uniform(0.7, 1.15)
    return BrowStyle(
        height_cm=float(rng.normal(1.9 if female else 1.8, 0.22)),
        thickness_cm=float(thickness),
        length=float(rng.normal(0.97, 0.05)),
        arch=float(rng.normal(1.0 if female else 0.6, 0.3)),
        hairs=int(thickness * rng.uniform(350, 700)),
    )


def _cut(sex: Sex, age: float, tone: Tone, rng: np.random.Generator) -> Cut:
    cuts: tuple[Cut, ...] = ("bald", "cropped", "short", "parted", "long", "tied", "curly")
    female = np.array([0.01, 0.03, 0.10, 0.2, 0.36, 0.2, 0.1])
    male = np.array([0.08 + 0.12 * (age > 50), 0.2, 0.4, 0.18, 0.03, 0.03, 0.08])
    chances = female if sex == "female" else male
    if tone == "dark":
        chances = chances * [1, 2.5, 1, 0.4, 0.6, 1, 4]
    return cuts[rng.choice(len(cuts), p=chances / chances.sum())]


def _recession(sex: Sex, age: float, rng: np.random.Generator) -> float:
    return float(max(0, rng.normal(0.0, 0.5) + (0.03 * (age - 30) if sex == "male" else 0.0) * rng.uniform(0, 1)))


def _rgb(colour: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = np.clip(colour, 0, 1).tolist()
    return red, green, blue
