"""A network that finds bright rectangles, and pictures for it."""

from dataclasses import replace

import cv2
import numpy as np

from model_core.faces.detection import RefinedDetector
from model_core.faces.detection.contract import Candidates
from model_core.faces.geometry import Face, Frame, Landmarks, Point

SHARES = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))


class SquareNetwork:
    """Finds bright rectangles, and notes the size of each picture it was given."""

    name = "squares-1"

    def __init__(self) -> None:
        self.widths: list[int] = []
        self.least_px = 0

    def find(self, image: Frame, min_confidence: float) -> Candidates:
        self.widths.append(image.shape[1])
        _, _, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 127).astype(np.uint8))
        boxes = stats[1:, :4].astype(np.float64)
        boxes = boxes[boxes[:, 2] >= self.least_px]
        points = boxes[:, None, :2] + np.array(SHARES) * boxes[:, None, 2:] - 0.5
        return Candidates(boxes, points, np.full(len(boxes), 0.9))


class KeepingRefiner:
    """Keeps the box that the network found, and places the landmarks in it."""

    def refine(self, frame: Frame, face: Face, before: Face | None = None) -> Face:
        box = face.box
        points = (Point(box.x + u * box.width - 0.5, box.y + v * box.height - 0.5) for u, v in SHARES)
        return replace(face, landmarks=Landmarks(*points))


def squares() -> tuple[SquareNetwork, RefinedDetector]:
    network = SquareNetwork()
    return network, RefinedDetector(network, KeepingRefiner())


def frame(*squares: tuple[int, int, int]) -> Frame:
    picture = np.zeros((360, 640, 3), np.uint8)
    for x, y, side in squares:
        picture[y : y + side, x : x + side] = 255
    return picture
