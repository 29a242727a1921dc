"""Limits on the size and length of untrusted media."""

from dataclasses import dataclass

from service.errors import Limit, TooManyPixels, VideoTooLong


@dataclass(frozen=True)
class DecodeLimits:
    """Limits on what is decoded for one upload."""

    max_pixels: int
    """Largest frame in pixels, width times height."""
    max_video_s: float
    """Longest requested part of a video, in seconds."""
    max_frames: int
    """Largest number of frames to analyse in that part."""
    length_setting: str = "AFFECT_MAX_VIDEO_S"
    frames_setting: str = "AFFECT_MAX_FRAMES"
    """Variables that set these two, as errors name them."""

    def check_pixels(self, width: int, height: int) -> None:
        """Raise TooManyPixels for a frame beyond the limit."""
        if width * height > self.max_pixels:
            limit = Limit(name="AFFECT_MAX_PIXELS", value=self.max_pixels)
            detail = f"the frame has {width} x {height} pixels, more than {self.max_pixels}"
            raise TooManyPixels(detail, limit=limit)

    def check_length(self, length_s: float) -> None:
        """Raise VideoTooLong for more seconds of video than the limit."""
        if length_s > self.max_video_s:
            limit = Limit(name=self.length_setting, value=self.max_video_s)
            detail = f"the requested part is longer than {self.max_video_s:g} s: use start_s and end_s"
            raise VideoTooLong(detail, limit=limit)

    def check_frames(self, frames: float) -> None:
        """Raise VideoTooLong for more frames to analyse than the limit."""
        if frames > self.max_frames:
            limit = Limit(name=self.frames_setting, value=self.max_frames)
            detail = f"the requested part has more than {self.max_frames} frames to analyse"
            raise VideoTooLong(f"{detail}: use start_s and end_s, or a lower fps", limit=limit)
