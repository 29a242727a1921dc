"""Stand-ins whose answers a person can compute."""

import math
import threading
import time
from collections.abc import Collection, Sequence

import numpy as np

from model_core.affect import ACTION_UNITS, LABEL_SETS, LEARNED_TASKS, ActionUnit, Affect, Expression
from model_core.baseline import Comparison, Levels
from model_core.bundles.manifest import BundleManifest
from model_core.calibration import Calibration
from model_core.faces.geometry import Box, Crop, Face, Frame, Landmarks, Point
from model_core.inference.encoder import Features
from model_core.inference.predictor import Outputs
from model_core.inference.runtimes import RuntimeOptions
from model_core.models.spec import NetworkSpec
from model_core.preprocessing import InputSpec

LABELS = LABEL_SETS["ferplus"]


def face_at(x: float, y: float, side: float, confidence: float = 0.9) -> Face:
    """A face in a square box with landmarks in plausible places."""

    def point(u: float, v: float) -> Point:
        return Point(x + u * side, y + v * side)

    landmarks = Landmarks(point(0.3, 0.4), point(0.7, 0.4), point(0.5, 0.6), point(0.35, 0.8), point(0.65, 0.8))
    return Face(Box(x, y, side, side), landmarks, confidence)


class FakeDetector:
    """Finds the same faces in every frame that is not black."""

    name = "fake-1"

    def __init__(self, *faces: Face) -> None:
        self.faces = list(faces)

    def detect(
        self, frame: Frame, *, min_confidence: float = 0.6, max_faces: int | None = None, thorough: bool = True
    ) -> list[Face]:
        if frame.max() < 8:
            return []
        return [face for face in self.faces if face.confidence >= min_confidence][:max_faces]

    def follow(self, frame: Frame, face: Face, *, min_confidence: float = 0.6) -> Face | None:
        found = self.detect(frame, min_confidence=min_confidence)
        best = max(found, key=lambda each: each.box.iou(face.box), default=None)
        return best if best is not None and best.box.iou(face.box) > 0.3 else None


class FakeEnsemble:
    """valence = the only feature, arousal = -valence; happiness and AU12 above one half, else neutral."""

    temporal = False
    frame_rate = None
    labels = LABELS
    bundles = ()

    def __init__(self, manifest: BundleManifest) -> None:
        self.tasks = dict.fromkeys(LEARNED_TASKS, manifest)
        self.comparison = Comparison.of(LEARNED_TASKS, manifest.calibration)

    def outputs(self, features: Sequence[Features]) -> list[Outputs]:
        return list(features)

    def track_states(self) -> "FakeEnsemble":
        return self

    def keep(self, track_ids: Collection[int]) -> None:
        """Nothing is remembered."""

    def levels(self, outputs: Sequence[Outputs]) -> list[Levels]:
        return [self.face_levels(float(level)) for [level] in outputs]

    @staticmethod
    def face_levels(level: float) -> Levels:
        """Of AU12 the log-odds of the feature, of the others those of one half."""
        inside = min(max(level, 1e-9), 1 - 1e-9)
        units = [math.log(inside / (1 - inside)) if name == "AU12" else 0.0 for name in ACTION_UNITS]
        return np.array([level, -level, *units])

    def affects(self, outputs: Sequence[Outputs]) -> list[Affect]:
        return [self.affect(float(level)) for [level] in outputs]

    @staticmethod
    def affect(level: float) -> Affect:
        probabilities = dict.fromkeys(LABELS, 0.0) | {"neutral": 1 - level, "happiness": level}
        label = "happiness" if level > 0.5 else "neutral"
        units = {
            name: ActionUnit(level if name == "AU12" else 0.0, name == "AU12" and level >= 0.5) for name in ACTION_UNITS
        }
        return Affect(level, -level, Expression(label, probabilities), units)


class FakePredictor:
    """One bundle and its encoder, whose only feature is the mean of the crop / 255."""

    device = "cpu"
    options = RuntimeOptions()
    manifest = BundleManifest(
        name="fake",
        version="7",
        network=NetworkSpec("mfn-pooled", ("valence_arousal", "expression", "action_units"), LABELS),
        input=InputSpec(32, "rgb", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "arcface-1"),
        detector="fake-1",
        references={"valence_arousal": "derived", "expression": "annotated", "action_units": "derived"},
        calibration=Calibration(),
        licence="Apache-2.0",
        training={},
        quality={},
        weights_sha256="0" * 64,
    )

    def __init__(self, seconds: float = 0.0) -> None:
        self.manifests, self.input, self.encoders = (self.manifest,), self.manifest.input, (self,)
        self.everything = self.framewise = FakeEnsemble(self.manifest)
        self.batches: list[int] = []
        self.seconds = seconds
        self.failing: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.begun = 0

    def features(self, crops: Sequence[Crop]) -> list[Features]:
        self.begun += 1
        self.gate.wait(10)
        time.sleep(self.seconds)
        if self.failing:
            raise self.failing
        self.batches.append(len(crops))
        return [np.array([crop.mean() / 255]) for crop in crops]
