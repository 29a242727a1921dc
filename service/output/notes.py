"""Notes in an answer: sentences about how it was computed that its reader should know."""

import math
from collections.abc import Iterable

from model_core.bundles.manifest import BundleManifest
from service.media.videos import MediaInfo, Window

SAME_RATE = 0.01
"""Share by which two frame rates may differ and still be called the same: 29.97 is 30."""


class RateNotes:
    """Notes on temporal bundles that get frames at another rate than they were evaluated with."""

    def __init__(self, answering: Iterable[BundleManifest], window: Window) -> None:
        self._temporal = list({id(manifest): manifest for manifest in answering if manifest.temporal}.values())
        self._window = window

    def of(self, info: MediaInfo) -> list[str] | None:
        """Return a sentence for each such bundle, or None. A video's own rate is the highest that it can be read at."""
        rate = min(self._window.fps, info.fps or math.inf)
        notes = [note for manifest in self._temporal if (note := _note(manifest, rate))]
        return notes or None


def _note(manifest: BundleManifest, rate: float) -> str | None:
    temporal = manifest.temporal
    assert temporal is not None
    if abs(rate - temporal.frame_rate) <= SAME_RATE * temporal.frame_rate:
        return None
    told = f"{manifest.name} was evaluated at {temporal.frame_rate:g} frames a second and gets {rate:.4g}"
    if 1 / rate > temporal.max_gap_s:
        return f"{told}: after more than {temporal.max_gap_s:g} s its memory starts anew, so each frame is judged alone"
    if rate > temporal.frame_rate:
        return f"{told}: in between its last answer holds"
    return told
