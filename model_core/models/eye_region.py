"""Features of the eye region at full resolution, for the small movements of brows, lids and cheeks.

The maps that local features start from have cells of 4 pixels, and an eyelid that tightens moves by one or two.
"""

from typing import Final

from torch import Tensor, nn

from model_core.models.ddamfn import ConvBlock, WholeMapBlock

ROWS: Final = slice(28, 72)
"""Rows of an aligned crop of 112 pixels, from above the brows to the middle of the cheeks."""

COLUMNS: Final = slice(8, 104)
"""Its columns, from temple to temple."""

_REDUCED = 16
"""Channels before the dense layer."""


class EyeRegion(nn.Sequential):
    """Maps images, float [B, 3, 112, 112], to features of their eye region, [B, 192].

    The dense layer at the end, which keeps the places apart, is written as a convolution.
    """

    vector_size = 192
    input_size = 112

    def __init__(self) -> None:
        super().__init__(
            ConvBlock(3, 24, 3, stride=2, padding=1),
            ConvBlock(24, 24, 3, padding=1),
            ConvBlock(24, 48, 3, stride=2, padding=1),
            ConvBlock(48, 48, 3, padding=1),
            ConvBlock(48, 64, 3, padding=1),
            ConvBlock(64, _REDUCED, 1),
            WholeMapBlock(_REDUCED, self.vector_size, (11, 24)),
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features [B, 192] for images, float [B, 3, 112, 112]."""
        y = x[:, :, ROWS, COLUMNS]
        for layer in self:
            y = layer(y)
        return y
