"""Live answers as a stream of the Lab Streaming Layer, which labs record beside their other signals."""

import math
import time
from collections.abc import Callable, Sequence

from affect_client.errors import needing
from affect_client.live import LiveAnswer
from affect_client.results import Model

STREAM_TYPE = "Face"
"""The content type of the stream, by which receivers may look for it."""


class LslOutlet:
    """A stream with one sample for each answer, about the largest face of its picture.

    Channels are `track_id`, `reliable` (1 or 0), `valence`, `arousal`, the probabilities of the action units (`AU12`)
    and of the expressions (`expression_happiness`), as float32. All are NaN where no face was found or the picture
    could not be analysed. The rate is irregular; a sample's timestamp is the time at which its picture was sent.
    """

    def __init__(
        self, name: str, model: Model, labels: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Announce the stream. Raises MissingExtra.

        Args:
            name: of the stream; the bundles are in its description.
            model: what computes the answers.
            labels: of the expressions.
            clock: that of the answers' `sent_s`.
        """
        with needing("lsl"):
            import pylsl

        self._clock = clock
        self._local_clock = pylsl.local_clock
        self.channels = ["track_id", "reliable"]
        if "valence_arousal" in model.tasks:
            self.channels += ["valence", "arousal"]
        self.channels += [*model.units, *(f"expression_{label}" for label in labels)]
        if "eyes_closed" in model.tasks:
            self.channels.append("eyes_closed")
        info = pylsl.StreamInfo(name, STREAM_TYPE, len(self.channels), pylsl.IRREGULAR_RATE, pylsl.cf_float32, name)
        info.set_channel_labels(self.channels)
        bundles = info.desc().append_child("bundles")
        for task, bundle in model.tasks.items():
            bundles.append_child_value(task, f"{bundle.bundle} {bundle.version} {bundle.sha256} {bundle.reference}")
        self._outlet = pylsl.StreamOutlet(info)

    def push(self, answer: LiveAnswer) -> None:
        """Send the sample of an answer."""
        age_s = self._clock() - answer.sent_s
        self._outlet.push_sample(self.sample(answer), self._local_clock() - age_s)

    def sample(self, answer: LiveAnswer) -> list[float]:
        """Return the values of an answer, one for each channel."""
        values: dict[str, float | None] = {}
        if answer.faces:
            face = answer.faces[0]
            values = {
                "track_id": face.track_id,
                "reliable": float(face.quality.reliable),
                "valence": face.valence,
                "arousal": face.arousal,
            }
            if face.eyes_closed is not None:
                values["eyes_closed"] = face.eyes_closed.probability
            values |= {name: unit.probability for name, unit in (face.action_units or {}).items()}
            if face.expression is not None:
                values |= {f"expression_{label}": each for label, each in face.expression.probabilities.items()}
        known = {name: value for name, value in values.items() if value is not None}
        return [float(known.get(name, math.nan)) for name in self.channels]
