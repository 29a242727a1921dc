"""Pictures look as players show them: colours against the formulas of the standards, shape, orientation, fields."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from av.video.stream import VideoStream
from PIL import Image

from model_core.faces.geometry import Frame
from service.errors import TooManyPixels
from service.media.limits import DecodeLimits
from service.media.videos import Window, open_video
from tests.service.media_files import grey, remuxed, video

LIMITS = DecodeLimits(max_pixels=1_000_000, max_video_s=60, max_frames=1000)
WIDTH, HEIGHT = 64, 48

LUMA = {Colorspace.ITU709: (0.2126, 0.0722), Colorspace.ITU601: (0.299, 0.114), Colorspace.BT2020: (0.2627, 0.0593)}
"""The weights of red and blue in luma."""


def first(path: Path) -> Frame:
    with open_video(path, LIMITS, Window()) as opened:
        shown = next(iter(opened)).frame
        assert (opened.info.height, opened.info.width) == shown.shape[:2]
        return shown


def ycbcr(rgb: tuple[float, ...], matrix: Colorspace) -> tuple[float, float, float]:
    """R'G'B' from 0 to 1 as luma from 0 to 1 and chroma from -0.5 to 0.5."""
    red, blue = LUMA[matrix]
    luma = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    return luma, (rgb[2] - luma) / (2 - 2 * blue), (rgb[0] - luma) / (2 - 2 * red)


def patch(
    luma: float, blue: float, red: float, pixel_format: str = "yuv420p", size: tuple[int, int] = (WIDTH, HEIGHT),
    is_full: bool = False,
) -> av.VideoFrame:  # fmt: skip
    """A frame of one colour, given as luma and chroma."""
    frame = av.VideoFrame(*size, pixel_format)
    bits = 10 if "10" in pixel_format else 8
    step = 1 << (bits - 8)
    ranges = (
        [(0, 256 * step - 1), (128 * step, 256 * step - 1)]
        if is_full
        else [(16 * step, 219 * step), (128 * step, 224 * step)]
    )
    for plane, value, (offset, span) in zip(
        frame.planes, (luma, blue, red), (ranges[0], ranges[1], ranges[1]), strict=True
    ):
        dtype = np.uint8 if bits == 8 else np.uint16
        np.frombuffer(memoryview(plane), dtype)[:] = round(offset + span * value)
    return frame


def tagged(**tags: int) -> object:
    def prepare(stream: VideoStream) -> None:
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)

    return prepare


class TestColours:
    RGB = (0.8, 0.5, 0.3)

    @pytest.mark.parametrize("matrix", [Colorspace.ITU709, Colorspace.ITU601])
    @pytest.mark.parametrize("is_full", [False, True])
    @pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv422p", "yuv420p10le", "yuv444p10le"])
    def test_matrix_and_range_are_those_of_the_file(
        self, tmp_path: Path, matrix: Colorspace, is_full: bool, pixel_format: str
    ) -> None:
        frame = patch(*ycbcr(self.RGB, matrix), pixel_format, is_full=is_full)
        prepare = tagged(colorspace=matrix, color_range=ColorRange.JPEG if is_full else ColorRange.MPEG)
        path = video(
            tmp_path / "patch.mp4", [frame], "libx264", pixel_format=pixel_format,
            options={"preset": "ultrafast", "qp": "0"}, prepare=prepare,
        )  # fmt: skip
        assert first(path)[HEIGHT // 2, WIDTH // 2].tolist() == pytest.approx([204, 127.5, 76.5], abs=2.5)

    @pytest.mark.parametrize(("size", "matrix"), [((1280, 720), Colorspace.ITU709), ((640, 480), Colorspace.ITU601)])
    def test_without_a_word_the_size_decides(self, tmp_path: Path, size: tuple[int, int], matrix: Colorspace) -> None:
        path = video(
            tmp_path / "patch.mp4",
            [patch(*ycbcr(self.RGB, matrix), size=size)],
            "libx264",
            options={"preset": "ultrafast", "qp": "0"},
        )
        assert first(path)[40, 40].tolist() == pytest.approx([204, 127.5, 76.5], abs=2.5)

    def test_grey(self, tmp_path: Path) -> None:
        path = video(tmp_path / "grey.mkv", [grey(90)], "ffv1", pixel_format="gray")
        assert first(path)[0, 0].tolist() == [90, 90, 90]

    @pytest.mark.parametrize(
        ("codec", "pixel_format", "form"),
        [
            ("ffv1", "bgr0", "matroska"),
            ("ffv1", "gbrp10le", "matroska"),
            ("png", "rgb24", "mov"),
            ("rawvideo", "bgr24", "avi"),
        ],
    )
    def test_lossless_rgb(self, tmp_path: Path, codec: str, pixel_format: str, form: str) -> None:
        frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        path = video(tmp_path / "lossless", [frame], codec, pixel_format=pixel_format, form=form)
        assert np.abs(first(path).astype(int) - frame).max() <= (1 if "10" in pixel_format else 0)

    def test_transparent_parts_show_white(self, tmp_path: Path) -> None:
        rgba = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        rgba[:, :32] = (200, 100, 0, 255)
        rgba[:, 32:] = (200, 100, 0, 128)
        path = video(tmp_path / "alpha.mov", [av.VideoFrame.from_ndarray(rgba, "rgba")], "png", pixel_format="rgba")
        shown = first(path)
        assert shown[0, 0].tolist() == [200, 100, 0]
        assert shown[0, 63].tolist() == [227, 177, 127]  # half of it, half white

    def test_a_transparent_gif(self, tmp_path: Path) -> None:
        path = tmp_path / "a.gif"
        images = [Image.new("P", (WIDTH, HEIGHT), 0) for _ in range(2)]
        for number, image in enumerate(images):
            image.putpalette([10, 20, 30, 200, 0, 0])
            image.paste(1, (8 * number, 0, 8 * number + 8, 8))
        images[0].save(
            path, "GIF", save_all=True, append_images=images[1:], duration=[70, 130], transparency=0, disposal=2
        )
        with open_video(path, LIMITS, Window(fps=100)) as opened:
            frames = list(opened)
        assert [frame.time_s for frame in frames] == [0, 0.07]
        assert [frame.frame[4, 4].tolist() for frame in frames] == [[200, 0, 0], [255, 255, 255]]
        assert [frame.frame[40, 40].tolist() for frame in frames] == [[255, 255, 255]] * 2


def linear_2020(rgb_709: np.ndarray) -> np.ndarray:
    """Linear light of BT.709 as linear light of BT.2020 (ITU-R BT.2087)."""
    return np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]) @ rgb_709


def hlg(nits: np.ndarray) -> np.ndarray:
    """Signal of a display of 1000 cd/m2 (ITU-R BT.2100): inverse OOTF with gamma 1.2, then OETF."""
    luminance = np.array([0.2627, 0.6780, 0.0593]) @ nits / 1000
    scene = nits / 1000 * luminance ** (1 / 1.2 - 1)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


def pq(nits: np.ndarray) -> np.ndarray:
    """Signal of SMPTE ST 2084."""
    power = (nits / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def gamma(nits: np.ndarray) -> np.ndarray:
    """Signal of a display of gamma 2.4 whose white has 203 cd/m2."""
    return (nits / 203) ** (1 / 2.4)


class TestHighDynamicRange:
    @pytest.mark.parametrize(
        ("transfer", "signal"), [(ColorTrc.ARIB_STD_B67, hlg), (ColorTrc.SMPTE2084, pq), (ColorTrc.BT2020_10, gamma)]
    )
    def test_it_and_wide_gamuts_become_what_a_standard_display_shows(
        self, tmp_path: Path, transfer: ColorTrc, signal: object
    ) -> None:
        prepare = tagged(colorspace=9, color_range=1, color_primaries=ColorPrimaries.BT2020, color_trc=transfer)
        # Skin, grey and white as BT.709 on a display of gamma 2.4 whose white has 203 cd/m2.
        wanted = [(0.8, 0.6, 0.5), (0.5, 0.5, 0.5), (0.95, 0.95, 0.95)]
        frames = []
        for colour in wanted:
            nits = linear_2020(203 * np.array(colour) ** 2.4)
            frames.append(patch(*ycbcr(tuple(signal(nits)), Colorspace.BT2020), "yuv420p10le"))
        path = video(tmp_path / "hdr.mkv", frames, "ffv1", pixel_format="yuv420p10le", prepare=prepare)
        with open_video(path, LIMITS, Window(fps=100)) as opened:
            shown = [frame.frame[20, 20] for frame in opened]
        for colour, found in zip(wanted, shown, strict=True):
            assert found.tolist() == pytest.approx([255 * part for part in colour], abs=6)


class TestShape:
    @pytest.mark.parametrize(
        ("aspect", "size"),
        [("64/45", (91, 48)), ("4/3", (85, 48)), ("2/1", (128, 48)), ("1/2", (64, 96)), ("1/1", (64, 48))],
    )
    @pytest.mark.parametrize("form", ["mp4", "matroska"])
    def test_pixels_are_made_square(self, tmp_path: Path, aspect: str, size: tuple[int, int], form: str) -> None:
        path = video(tmp_path / "wide", [grey(99)], form=form, prepare=tagged(sample_aspect_ratio=Fraction(aspect)))
        assert first(path).shape == (size[1], size[0], 3)

    def test_the_limit_is_that_of_square_pixels(self, tmp_path: Path) -> None:
        path = video(tmp_path / "wide.mp4", [grey(99)], prepare=tagged(sample_aspect_ratio=Fraction(4)))
        with pytest.raises(TooManyPixels, match="256 x 48"):
            open_video(path, DecodeLimits(256 * 48 - 1, 60, 1000), Window())

    # Where the corners of the coded picture, 0 1 above 2 3, are on the screen, and the matrix that takes them there.
    @pytest.mark.parametrize(
        ("corners", "matrix"),
        [
            ("01 23", (1, 0, 0, 1)),
            ("10 32", (-1, 0, 0, 1)),
            ("23 01", (1, 0, 0, -1)),
            ("32 10", (-1, 0, 0, -1)),
            ("20 31", (0, 1, -1, 0)),
            ("13 02", (0, -1, 1, 0)),
            ("02 13", (0, 1, 1, 0)),
            ("31 20", (0, -1, -1, 0)),
        ],
    )
    def test_all_eight_orientations(self, tmp_path: Path, corners: str, matrix: tuple[int, ...]) -> None:
        frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
            frame[row * 24 : row * 24 + 24, column * 32 : column * 32 + 32] = 60 * number + 20
        upright = video(tmp_path / "upright.mp4", [frame], "mpeg4")
        a, b, c, d = (value << 16 for value in matrix)
        path = remuxed(
            upright, tmp_path / "turned.mp4",
            prepare=lambda stream: stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30]),
        )  # fmt: skip
        shown = first(path)
        height, width = shown.shape[:2]
        assert (height, width) == ((HEIGHT, WIDTH) if b == 0 else (WIDTH, HEIGHT))
        found = [
            round((int(shown[row, column, 0]) - 20) / 60)
            for row, column in [(9, 9), (9, width - 9), (height - 9, 9), (height - 9, width - 9)]
        ]
        assert found == [int(corner) for corner in corners.replace(" ", "")]


class TestFields:
    def test_fields_of_a_moving_picture_are_not_combed(self, tmp_path: Path) -> None:
        # A bar moves 8 pixels from field to field; combed, its edge would jump between them from row to row.
        frames = []
        for number in range(6):
            frame = grey(20)
            for field in range(2):
                left = 4 + 8 * (2 * number + field) % 40
                frame[field::2, left : left + 16] = 230
            frames.append(frame)
        options = {"flags": "+ildct+ilme", "field_order": "tt", "q": "1"}
        path = video(tmp_path / "interlaced.mpg", frames, "mpeg2video", options=options)
        with av.open(str(path)) as container:
            assert next(container.decode(video=0)).interlaced_frame
        with open_video(path, LIMITS, Window(fps=100)) as opened:
            shown = [frame.frame[:, :, 0].astype(int) for frame in opened]
        assert len(shown) == 6
        for frame in shown:
            combing = np.abs(2 * frame[2:-2:2] - frame[1:-3:2] - frame[3:-1:2]).mean()
            assert combing < 8  # 40 without the filter
