"""Client of the facial affect service: it talks HTTP, and knows no networks.

from affect_client import Affect

with Affect("http://127.0.0.1:8000") as affect:
    table = affect.video("clip.mp4", progress=True).to_pandas()
"""

try:
    import httpx2 as _httpx2  # noqa: F401
except ModuleNotFoundError as _error:
    raise ImportError("the client needs two small packages: pip install 'facial-affect-service[client]'") from _error

from affect_client.affect import Affect, FrameOptions, LiveOptions, VideoOptions
from affect_client.connection import RetryPolicy
from affect_client.errors import AffectError, MissingExtra
from affect_client.faces import ActionUnit, Box, Change, Expression, Face, Frame, Point, Pose, Quality
from affect_client.jobs import Job
from affect_client.live import LiveAnswer, LiveStream
from affect_client.results import (
    JobStatus,
    Model,
    Models,
    Picture,
    Progress,
    Spread,
    Task,
    TrackSummary,
    Video,
    VideoSummary,
)
from affect_client.videos import VideoAnswer, VideoStream

__all__ = [
    "ActionUnit",
    "Affect",
    "AffectError",
    "Box",
    "Change",
    "Expression",
    "Face",
    "Frame",
    "FrameOptions",
    "Job",
    "JobStatus",
    "LiveAnswer",
    "LiveOptions",
    "LiveStream",
    "MissingExtra",
    "Model",
    "Models",
    "Picture",
    "Point",
    "Pose",
    "Progress",
    "Quality",
    "RetryPolicy",
    "Spread",
    "Task",
    "TrackSummary",
    "Video",
    "VideoAnswer",
    "VideoOptions",
    "VideoStream",
    "VideoSummary",
]
