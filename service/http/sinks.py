"""Choose the sink of a video's answer, by its media type and its columns."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from model_core.inference.predictor import BundleEnsemble
from service.analysis.baselines import NOTHING_TO_COMPARE
from service.errors import InvalidParameter
from service.http.dependencies import Model
from service.http.queries import VideoQuery
from service.media.encoding import FORMS
from service.media.videos import Window
from service.output.csv import Columns, ColumnSet, CsvStream, FexColumns, NativeColumns, OpenFaceColumns
from service.output.document import VideoDocument
from service.output.ndjson import NdjsonStream
from service.output.notes import RateNotes
from service.output.sink import Sink

VIDEO_MEDIA_TYPES = (VideoDocument.media_type, NdjsonStream.media_type, CsvStream.media_type)
"""The first is the default."""

ANNOTATED_MEDIA_TYPES = tuple(FORMS)
"""Those of annotated videos, which only jobs have."""

_FOREIGN_COLUMNS: Mapping[Columns, Callable[[], ColumnSet]] = MappingProxyType(
    {"openface": OpenFaceColumns, "fex": FexColumns}
)


def video_sink(media_type: str, query: VideoQuery, window: Window, model: Model, request_id: str) -> Sink:
    """Return the sink of one of VIDEO_MEDIA_TYPES.

    Raises InvalidParameter for columns of an answer that has none, for a baseline that it has no place for, and for
    what is drawn on annotated videos.
    """
    for name in ("boxes", "blur"):
        if getattr(query, name) is not None:
            annotated = " or ".join(ANNOTATED_MEDIA_TYPES)
            raise InvalidParameter(f"{name}: belongs to jobs whose result is {annotated}, not {media_type}")
    info = model.info if query.temporal == "auto" else model.framewise
    ensemble = model.pipeline.ensemble(query.temporal)
    if (query.baseline or query.baseline_s) and not ensemble.comparison.names:
        raise InvalidParameter(f"baseline: {NOTHING_TO_COMPARE}")
    if query.baseline is not None and media_type != VideoDocument.media_type:
        raise InvalidParameter(
            f"baseline: `auto` is known at the end only; ask for {VideoDocument.media_type}, not for {media_type}"
        )
    if media_type == CsvStream.media_type:
        return CsvStream(_columns(query, ensemble))
    if query.columns is not None:
        raise InvalidParameter(f"columns: belongs to answers of type {CsvStream.media_type}, not {media_type}")
    notes = RateNotes(ensemble.tasks.values(), window)
    if media_type == NdjsonStream.media_type:
        return NdjsonStream(info, request_id, window, notes)
    return VideoDocument(info, request_id, notes, None if query.baseline is None else ensemble.comparison)


def _columns(query: VideoQuery, ensemble: BundleEnsemble) -> ColumnSet:
    if query.columns is None or query.columns == "native":
        compared = None if query.baseline_s is None else ensemble.comparison
        return NativeColumns(ensemble.tasks, ensemble.labels, compared)
    if query.baseline_s is not None:
        raise InvalidParameter(f"baseline_s: the columns `{query.columns}` have no place for changes")
    return _FOREIGN_COLUMNS[query.columns]()
