"""How far away what a pixel shows is, in meters: read from a file, or guessed as a road scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.rain.streaks import FloatImage
from util.errors import UserError
from util.pictures.decoding import formats, require_file

FARTHEST = 300.0  # meters; sky, and whatever a depth file has no value for
KITTI_METERS = 1.0 / 256.0  # meters per step of a 16-bit depth file, as KITTI has it
# Meters per step by Pillow's mode.
STEP_OF_MODE = {"L": 1.0, "F": 1.0, "I": KITTI_METERS, **dict.fromkeys(("I;16", "I;16B", "I;16L"), KITTI_METERS)}
CAMERA_HEIGHT = 1.4  # meters above the road
FOCAL_LENGTH = 1.1  # relative to the longer side of the image: about 49 degrees across
WALL_HEIGHT = 12.0  # meters above the camera to which houses and trees reach
# How softly road and walls set in around the vanishing point, in focal lengths: a kink would show in the fog.
ROAD_SOFTNESS, WALL_SOFTNESS = 0.03, 0.12
# From what a road scene is drawn, in meters.
WALL_DISTANCES, FARTHEST_SEEN = (6.0, 60.0), (30.0, 90.0)


@dataclass(frozen=True)
class Road:
    """A straight road between two walls of houses or trees, seen by a camera on it.

    ``horizon``: of the image's height, from above; ``center``: where the road vanishes, of the width; ``left``,
    ``right``: distance of the walls from the camera in meters; ``farthest``: of everything, in meters.
    """

    horizon: float = 0.45
    center: float = 0.5
    left: float = 10.0
    right: float = 10.0
    farthest: float = 80.0


def draw_road(rng: np.random.Generator) -> Road:
    """Choose the road of one image."""
    return Road(
        horizon=rng.uniform(0.35, 0.6),
        center=rng.uniform(0.25, 0.75),
        left=float(np.exp(rng.uniform(*np.log(WALL_DISTANCES)))),
        right=float(np.exp(rng.uniform(*np.log(WALL_DISTANCES)))),
        farthest=rng.uniform(*FARTHEST_SEEN),
    )


def road_depth(height: int, width: int, road: Road) -> FloatImage:
    """Depth of a road scene, float32 [height, width], meters: 1/d² = 1/d_road² + 1/d_wall² + 1/d_farthest².

    The road is at ``h / y`` and a wall at ``w / |x|``, with the camera's height h, the wall's distance w, and x and y
    in focal lengths from the vanishing point. The sum is close to the nearest of the three and leaves no edges, which
    would show as edges in the fog of a photograph that looks different. Walls fade into the sky at their height.
    """
    focal = FOCAL_LENGTH * max(height, width)
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5 - road.horizon * height) / focal
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5 - road.center * width) / focal
    below = 0.5 * (y + np.hypot(y, ROAD_SOFTNESS))
    above = 0.5 * (np.hypot(y, ROAD_SOFTNESS) - y)
    aside, right = np.hypot(x, WALL_SOFTNESS), 0.5 + 0.5 * x / np.hypot(x, WALL_SOFTNESS)
    to_wall = aside * (right / road.right + (1.0 - right) / road.left)
    height_on_wall = above / to_wall / WALL_HEIGHT  # 1: its top
    wall = to_wall / (1.0 + height_on_wall * height_on_wall)
    squared = np.square(below / CAMERA_HEIGHT) + np.square(wall) + 1.0 / road.farthest**2
    return np.asarray(1.0 / np.sqrt(squared), dtype=np.float32)


def read_depth(path: Path, meters_per_step: float | None = None) -> FloatImage:
    """Depth from a file, float32 [H, W], meters, at most ``FARTHEST``; 0 and what is not finite count as farthest.

    ``.npy`` holds meters. An image of one channel holds steps of ``meters_per_step``; by default 1 meter where it has
    8 bit, and 1/256 meter where it has 16 bit, as KITTI has it. Floating-point TIFF holds meters.

    Raises:
        UserError: no such file, unreadable, or no single channel.
    """
    try:
        require_file(path)
        if path.suffix.lower() == ".npy":
            steps, unit = np.load(path, allow_pickle=False), 1.0
        else:
            with Image.open(path, formats=formats()) as image:
                if image.mode not in STEP_OF_MODE:
                    raise ValueError(f"it has mode {image.mode} instead of one channel of 8 or 16 bit")
                steps, unit = np.asarray(image), STEP_OF_MODE[image.mode]
        steps = steps.astype(np.float32)
    except Exception as error:  # decoders raise whatever a broken file leads them to
        reason = "its content is no known image format" if isinstance(error, UnidentifiedImageError) else error
        raise UserError(f"--depth: '{path}' cannot be read ({reason}); repair or replace it.") from error
    if steps.ndim != 2 or steps.size == 0:
        raise UserError(f"--depth: '{path}' has the shape {list(steps.shape)}; give one value per pixel.")
    meters = steps * np.float32(unit if meters_per_step is None else meters_per_step)
    unknown = ~np.isfinite(meters) | (meters <= 0)
    return np.minimum(np.where(unknown, np.float32(FARTHEST), meters), np.float32(FARTHEST))
