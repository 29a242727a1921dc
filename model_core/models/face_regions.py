"""Features of parts of a face at full resolution, for small movements: brows, lids and upper cheeks, and the mouth.

The maps that local features start from have cells of 4 pixels, and an eyelid that tightens moves by one or two.
"""

from typing import ClassVar

from torch import Tensor, nn

from model_core.models.ddamfn import ConvBlock, WholeMapBlock


class FaceRegion(nn.Sequential):
    """Maps images, float [B, 3, 112, 112], to features of a part of them, [B, vector_size].

    The dense layer at the end, which keeps the places apart, is written as a convolution.
    """

    input_size = 112
    rows: ClassVar[slice]
    """The part's rows in an aligned crop of 112 pixels; their number is a multiple of 4."""
    columns: ClassVar[slice]
    """Its columns, as many."""
    widths: ClassVar[tuple[int, int, int]]
    """Channels at a half of the resolution, at a quarter, and after a further convolution."""
    reduced: ClassVar[int]
    """Channels before the dense layer."""
    vector_size: ClassVar[int]

    def __init__(self) -> None:
        half, quarter, last = self.widths
        sides = [(part.stop - part.start) // 4 for part in (self.rows, self.columns)]
        super().__init__(
            ConvBlock(3, half, 3, stride=2, padding=1),
            ConvBlock(half, half, 3, padding=1),
            ConvBlock(half, quarter, 3, stride=2, padding=1),
            ConvBlock(quarter, quarter, 3, padding=1),
            ConvBlock(quarter, last, 3, padding=1),
            ConvBlock(last, self.reduced, 1),
            WholeMapBlock(self.reduced, self.vector_size, (sides[0], sides[1])),
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features [B, vector_size] for images, float [B, 3, 112, 112]."""
        y = x[:, :, self.rows, self.columns]
        for layer in self:
            y = layer(y)
        return y


class EyeRegion(FaceRegion):
    """From above the brows to the middle of the cheeks, and from temple to temple."""

    rows = slice(28, 72)
    columns = slice(8, 104)
    widths = (24, 48, 64)
    reduced = 16
    vector_size = 192


class MouthRegion(FaceRegion):
    """From the tip of the nose to the chin."""

    rows = slice(68, 112)
    columns = slice(24, 88)
    widths = (16, 32, 48)
    reduced = 12
    vector_size = 96
